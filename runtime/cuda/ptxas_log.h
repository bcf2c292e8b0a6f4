// What ptxas says while it makes a cubin: spills, and warnings that mean that a kernel is not what was written.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tilewright {

struct PtxasLog {
  struct Kernel {
    std::string symbol;
    int64_t stack_bytes = 0, spill_store_bytes = 0, spill_load_bytes = 0;  ///< per thread
    int64_t registers = 0;
  };
  /// "C7510" and the line that names it: wgmma made serial, waits put in, setmaxnreg left out and the like.
  struct Warning {
    std::string code, line;
  };
  std::vector<Kernel> kernels;
  std::vector<Warning> warnings;
};
PtxasLog parse_ptxas_log(std::string_view log);

}  // namespace tilewright
