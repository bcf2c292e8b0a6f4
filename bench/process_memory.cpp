#include "bench/process_memory.h"

#include <fstream>
#include <string>

namespace tilewright::bench {
namespace {

/// A field of /proc/self/status, which is in kB.
std::optional<int64_t> status_bytes(const std::string& field) {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;)
    if (int64_t kilobytes = 0; word == field && file >> kilobytes) return kilobytes << 10;
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> peak_rise(const std::function<void()>& task) {
  std::ofstream reset("/proc/self/clear_refs");
  reset << "5" << std::flush;  // the peak becomes what is resident now
  const bool was_reset = reset.good();
  const auto before = status_bytes("VmHWM:");
  task();
  const auto after = status_bytes("VmHWM:");
  if (!was_reset || !before || !after) return std::nullopt;
  return *after - *before;
}

}  // namespace tilewright::bench
