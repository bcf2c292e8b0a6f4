#include "runtime/options.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace tilewright {
namespace {

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string cache_folder() {
  if (const auto folder = variable("TILEWRIGHT_CACHE_DIR"); !folder.empty())
    return folder == "off" ? std::string() : std::string(folder);
  if (const auto caches = variable("XDG_CACHE_HOME"); caches.starts_with('/'))
    return std::string(caches) + "/tilewright";
  if (const auto home = variable("HOME"); home.starts_with('/')) return std::string(home) + "/.cache/tilewright";
  return {};
}

std::vector<std::string> python_prefixes() {
  std::vector<std::string> prefixes;
  for (const char* name : {"VIRTUAL_ENV", "CONDA_PREFIX"})
    if (const auto prefix = variable(name); !prefix.empty()) prefixes.emplace_back(prefix);
  if (const auto home = variable("HOME"); !home.empty()) prefixes.push_back(std::string(home) + "/.local");
  prefixes.insert(prefixes.end(), {"/usr/local", "/usr"});
  return prefixes;
}

EnvironmentOptions read() {
  EnvironmentOptions options;
  options.dump_dir = variable("TILEWRIGHT_DUMP");
  if (const auto isa = variable("TILEWRIGHT_MAX_ISA"); !isa.empty()) {
    options.max_isa = parse_cpu_isa(isa);
    options.max_isa_unreadable = !options.max_isa;
  }
  options.threads = std::atoi(std::string(variable("TILEWRIGHT_THREADS")).c_str());
  options.cache_dir = cache_folder();
  options.tuning = variable("TILEWRIGHT_TUNING");
  options.cxx = variable("CXX");
  options.cuda_home = variable(variable("CUDA_HOME").empty() ? "CUDA_PATH" : "CUDA_HOME");
  options.python_prefixes = python_prefixes();
  options.verbose = !variable("TILEWRIGHT_VERBOSE").empty();
  return options;
}

}  // namespace

const EnvironmentOptions& environment() {
  static const EnvironmentOptions options = read();
  return options;
}

void say_verbose(const std::string& line) {
  if (environment().verbose) std::fprintf(stderr, "tilewright: %s\n", line.c_str());
}

}  // namespace tilewright
