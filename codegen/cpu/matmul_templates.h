// The templates of contract steps: blocked products, and products of few rows that stream B.
#pragma once

#include "codegen/cpu/llvm_builder.h"

namespace tilewright::cpu {

/// Emit the kernels of one schedule of plan_loop and say how they are launched.
LaunchInfo emit_matmul(LlvmBuilder& builder, const LoopStep& step, const CpuSchedule& schedule,
                       const std::string& prefix);
LaunchInfo emit_matvec(LlvmBuilder& builder, const LoopStep& step, const CpuSchedule& schedule,
                       const std::string& prefix);

}  // namespace tilewright::cpu
