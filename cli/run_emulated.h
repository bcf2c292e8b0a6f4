// run --target cuda-emu: several legal executions of the same run, which must agree to the bit.
#pragma once

#include "cli/cli.h"
#include "emulator/emulator_device.h"
#include "runtime/cuda/cuda_kernel.h"

namespace tilewright::cli {

struct EmulatedRuns {
  int executions = 0;
  EmulatorStatistics statistics;  ///< of the first
};
std::string text(const EmulatedRuns& runs);
Json json(const EmulatedRuns& runs);

struct EmulatedRunOptions {
  int executions = 0;  ///< 0: two
  uint64_t seed = 1;   ///< of the orders of threads and blocks
};
/// The first execution has its asynchronous engines early and threads in order, the second all engines late and a drawn
/// order; those after them the other mixtures. Kernels reach the tensors and the workspace and nothing else. Outputs
/// and inout parameters are dense, and start each time as they do here. Errors: what an execution did wrong (a race, a
/// place outside of every tensor, a deadlock), or that two disagree.
Result<EmulatedRuns> run_emulated(const CudaKernel& kernel, EmulatedExecution& execution,
                                  const EmulatedRunOptions& options, std::span<const TensorView> inputs,
                                  std::span<const TensorView> outputs, std::vector<CudaStepRun>& taken);

}  // namespace tilewright::cli
