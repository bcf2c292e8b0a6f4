#include "ir/result.h"

#include <cstdio>
#include <cstdlib>

namespace tilewright {

std::string to_string(const Diagnostic& d) {
  std::string text;
  if (d.line > 0) text += fmt::format("line {}: ", d.line);
  if (!d.value.empty()) text += fmt::format("%{}: ", d.value);
  return text + d.message;
}

std::string to_string(const Diagnostics& diagnostics) {
  std::string text;
  for (const Diagnostic& d : diagnostics.list) {
    if (!text.empty()) text += '\n';
    text += to_string(d);
  }
  return text;
}

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "tilewright: internal error: CHECK(%s) failed at %s:%d\n", condition, file, line);
  std::abort();
}

}  // namespace tilewright
