// CudaCompileReport: what the machine code of one CudaSource is like, and what is wrong with it. For the compile gate,
// manifests and people; needs no GPU.
#pragma once

#include "runtime/cuda/compile_cuda.h"
#include "runtime/cuda/cubin.h"
#include "runtime/cuda/occupancy.h"

namespace tilewright {

struct CudaPhaseReport {
  KernelFacts facts;
  Occupancy occupancy;
  int64_t threads = 0, dynamic_shared = 0;
  int64_t spill_bytes = 0;  ///< stores and loads
};

struct CudaCompileReport {
  CudaSchedule schedule;
  std::string architecture;
  double milliseconds = 0;
  std::vector<CudaPhaseReport> phases;
  /// One sentence each: spills, local memory, codes of ptxas that mean a kernel is not what was written, more registers
  /// or shared memory than a multiprocessor has, instructions that the template is made of and that are not there.
  std::vector<std::string> complaints;
};

/// Errors: not a cubin, or one without a phase's kernel.
Result<CudaCompileReport> report_compile(const CudaBinary& binary, const CudaLaunch& launch, const CudaTarget& target);

/// "kernel_… 138 registers, 40960 bytes of shared memory, 3 blocks a multiprocessor (registers); HMMA 64, …": one line
/// a phase.
std::string print(const CudaCompileReport& report);

}  // namespace tilewright
