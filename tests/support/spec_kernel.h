// Kernels of fused specs run by hand: generated, verified and linked once, then run on guarded memory.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "codegen/cpu/cpu_codegen.h"
#include "runtime/orc_jit.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {

/// Every ISA level this machine runs, but for emulations.
std::vector<CpuTarget> runnable_targets();
/// Those with AMX tiles: emulated where there is AVX-512, native where the CPU has them.
std::vector<CpuTarget> tile_targets();

/// Verified, compiled and linked; null after a gtest failure.
std::shared_ptr<const JitCode> link_module(CpuModule module, const CpuTarget& target,
                                           int64_t* ir_instructions = nullptr);

struct SpecKernel {
  std::shared_ptr<const JitCode> code;  ///< null when that failed
  LaunchInfo launch;
  int64_t ir_instructions = 0;
};
/// Generated at the first call with these texts and target: sizes and strides are run-time values.
const SpecKernel& spec_kernel(const std::string& spec_text, const CpuSchedule& schedule, const CpuTarget& target,
                              const std::function<CpuKernelSource()>& generate);

/// How the work items of a phase are shared.
struct Sharing {
  bool packed = false;  ///< the workspace for packed K and V is given
  int64_t pieces = 0;   ///< ranges of items that one thread runs; 0: items are claimed one by one
  int workers = 1;      ///< threads that claim
};
/// Runs all phases in order, scratch and workspace guarded and poisoned, subnormals flushed as the runtime does.
/// Failures are gtest failures. Returns IR instructions, 0 when it could not run.
int64_t run_spec_kernel(const SpecKernel& kernel, const ArgsLayout& layout, const DimBindings& dims,
                        const std::vector<TestTensor>& tensors, const Sharing& sharing);

}  // namespace tilewright::testing
