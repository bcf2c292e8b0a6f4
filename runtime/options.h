// Everything the environment may say, read once. The only file pair with getenv.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ir/target.h"

namespace tilewright {

struct EnvironmentOptions {
  std::string dump_dir;             ///< TILEWRIGHT_DUMP
  std::optional<CpuIsa> max_isa;    ///< TILEWRIGHT_MAX_ISA = avx2 | avx512 | amx
  bool max_isa_unreadable = false;  ///< the variable was set to something else
  int threads = 0;                  ///< TILEWRIGHT_THREADS, 0 = all cores
  bool verbose = false;             ///< TILEWRIGHT_VERBOSE
  /// TILEWRIGHT_CACHE_DIR ("off" = none), else tilewright/ in XDG_CACHE_HOME or ~/.cache; empty = no disk cache.
  std::string cache_dir;
  /// TILEWRIGHT_TUNING: "off" = the rules choose every schedule; a file = the tuning database in place of tuning.json
  /// in the cache's folder.
  std::string tuning;
  std::string cuda_home;  ///< CUDA_HOME, else CUDA_PATH
  /// Where pip may have put NVRTC: VIRTUAL_ENV, CONDA_PREFIX, the user's, /usr/local, /usr.
  std::vector<std::string> python_prefixes;
  std::string
      cxx;  ///< CXX: the C++ compiler, with flags, that builds GPU kernels for the emulator; empty = look for one
};
const EnvironmentOptions& environment();
/// What max_isa_unreadable means.
inline constexpr const char* kMaxIsaUnreadable = "TILEWRIGHT_MAX_ISA is none of avx2, avx512 and amx";

/// One line on stderr, when TILEWRIGHT_VERBOSE asks for it.
void say_verbose(const std::string& line);

}  // namespace tilewright
