#include "runtime/cuda/ptxas_log.h"

#include <charconv>
#include <optional>

namespace tilewright {
namespace {

/// The number that ends just before `what`: 8 of "… 8 bytes spill stores".
std::optional<int64_t> number_before(std::string_view line, std::string_view what) {
  const size_t end = line.find(what);
  if (end == std::string_view::npos) return std::nullopt;
  size_t begin = end;
  while (begin > 0 && line[begin - 1] >= '0' && line[begin - 1] <= '9') --begin;
  int64_t value = 0;
  if (std::from_chars(line.data() + begin, line.data() + end, value).ptr != line.data() + end || begin == end)
    return std::nullopt;
  return value;
}

/// 'name' in quotes.
std::string quoted(std::string_view line) {
  const size_t begin = line.find('\'');
  if (begin == std::string_view::npos) return {};
  return std::string(line.substr(begin + 1, line.find('\'', begin + 1) - begin - 1));
}

/// "C7510" of "… (C7510) …"; "" when there is none.
std::string code_in(std::string_view line) {
  for (size_t at = line.find("(C"); at != std::string_view::npos; at = line.find("(C", at + 1)) {
    const size_t end = line.find(')', at);
    if (end == at + 6 && line.find_first_not_of("0123456789", at + 2) == end)
      return std::string(line.substr(at + 1, end - at - 1));
  }
  return {};
}

}  // namespace

PtxasLog parse_ptxas_log(std::string_view log) {
  PtxasLog out;
  while (!log.empty()) {
    const std::string_view line = log.substr(0, log.find('\n'));
    log.remove_prefix(std::min(log.size(), line.size() + 1));
    if (std::string code = code_in(line); !code.empty()) out.warnings.push_back({std::move(code), std::string(line)});
    if (line.find("Compiling entry function") != std::string_view::npos) out.kernels.push_back({quoted(line)});
    if (out.kernels.empty()) continue;
    PtxasLog::Kernel& kernel = out.kernels.back();
    if (const auto bytes = number_before(line, " bytes stack frame")) kernel.stack_bytes = *bytes;
    if (const auto bytes = number_before(line, " bytes spill stores")) kernel.spill_store_bytes = *bytes;
    if (const auto bytes = number_before(line, " bytes spill loads")) kernel.spill_load_bytes = *bytes;
    if (const auto count = number_before(line, " registers")) kernel.registers = *count;
  }
  return out;
}

}  // namespace tilewright
