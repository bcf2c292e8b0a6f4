// Everything the environment may say, read once. The only file pair with getenv.
#pragma once

#include <optional>
#include <string>

#include "ir/target.h"

namespace tilewright {

struct EnvironmentOptions {
  std::string dump_dir;             ///< TILEWRIGHT_DUMP
  std::optional<CpuIsa> max_isa;    ///< TILEWRIGHT_MAX_ISA = avx2 | avx512
  bool max_isa_unreadable = false;  ///< the variable was set to something else
  int threads = 0;                  ///< TILEWRIGHT_THREADS, 0 = all cores
  bool verbose = false;             ///< TILEWRIGHT_VERBOSE
};
const EnvironmentOptions& environment();

}  // namespace tilewright
