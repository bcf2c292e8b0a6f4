#include "runtime/options.h"

#include <cstdlib>
#include <string_view>

namespace tilewright {
namespace {

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

EnvironmentOptions read() {
  EnvironmentOptions options;
  options.dump_dir = variable("TILEWRIGHT_DUMP");
  if (const auto isa = variable("TILEWRIGHT_MAX_ISA"); !isa.empty()) {
    options.max_isa = parse_cpu_isa(isa);
    options.max_isa_unreadable = !options.max_isa;
  }
  options.threads = std::atoi(std::string(variable("TILEWRIGHT_THREADS")).c_str());
  options.verbose = !variable("TILEWRIGHT_VERBOSE").empty();
  return options;
}

}  // namespace

const EnvironmentOptions& environment() {
  static const EnvironmentOptions options = read();
  return options;
}

}  // namespace tilewright
