// The ahead-of-time tier: steps of a Program executed by code that was compiled with this library, op by op over tiles
// and lanes. It serves a build without LLVM, and a tiered engine while the JIT compiles.
#pragma once

#include <memory>

#include "codegen/kernel_abi.h"
#include "ir/result.h"

namespace tilewright {

/// One step, ready to run: plain data in, like a generated function. Immutable; run() allocates nothing.
class TierKernel {
 public:
  virtual ~TierKernel() = default;
  /// Work items [begin, end) with `scratch` of one worker, as KernelFunction.
  virtual void run(const KernelArgs& args, int64_t begin, int64_t end, void* scratch) const = 0;
};

/// `launch` has one phase, whose symbol is empty.
struct TierStep {
  LaunchInfo launch;
  std::shared_ptr<const TierKernel> kernel;
};

/// Errors ("unsupported"): a fused backward pass, which this tier does not take.
Result<TierStep> make_tier_step(const Step& step, const CpuTarget& target);

}  // namespace tilewright
