// Elementary functions over scalar or vector float/double of any lane count, as straight-line code without calls.
// float is within 2.5 ulp (tanh 5, and relative to the result also near 0), double within 3. Subnormal inputs may count
// as zero. Kernels run with FTZ and DAZ set (the runtime sets them); with them, results below the normal range are 0.
// NaN gives NaN; domain errors give NaN; poles give infinities.
#pragma once

#include "codegen/cpu/llvm_builder.h"

namespace tilewright::cpu::math {

/// 2^x; exactly 1 at 0. -inf and anything below the normal range give 0, +inf gives +inf.
llvm::Value* exp2(LlvmBuilder& b, llvm::Value* x);
/// The same for f32 that is rounded to bf16 next: within 9e-5 of the result, two FMAs cheaper.
llvm::Value* exp2_for_bf16(LlvmBuilder& b, llvm::Value* x);
llvm::Value* exp(LlvmBuilder& b, llvm::Value* x);
llvm::Value* log(LlvmBuilder& b, llvm::Value* x);
/// max · ln 2 + ln(sum), rounded once at its own size: the logsumexp of scores whose maximum is in base 2.
llvm::Value* logsumexp(LlvmBuilder& b, llvm::Value* max, llvm::Value* sum);
/// Relative accuracy also near 0.
llvm::Value* tanh(LlvmBuilder& b, llvm::Value* x);
llvm::Value* sigmoid(LlvmBuilder& b, llvm::Value* x);
llvm::Value* erf(LlvmBuilder& b, llvm::Value* x);
llvm::Value* sqrt(LlvmBuilder& b, llvm::Value* x);
llvm::Value* rsqrt(LlvmBuilder& b, llvm::Value* x);
llvm::Value* floor(LlvmBuilder& b, llvm::Value* x);

}  // namespace tilewright::cpu::math
