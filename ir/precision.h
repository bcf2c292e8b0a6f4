// PrecisionPolicy: how products (matmul, and those of fused attention) may multiply f32 operands.
//
// A policy permits, it demands nothing: a machine or a template without the faster arithmetic multiplies in f32 under
// every policy, which is at least as accurate. What a kernel does is told in its StepReport. Operands of other dtypes
// are not concerned: f64 is never narrowed, f16 and bf16 are multiplied as they are. Sums are of f32 under all of them.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "ir/result.h"

namespace tilewright {

enum class PrecisionPolicy : uint8_t {
  f32,      ///< by FMA, or by six products of three bf16 parts: |error| <= max(n, 27) · 2^-24 Σ|a·b| of n products
  f32_fma,  ///< fused multiply-add of f32 and nothing else
  f32_x3,   ///< two bf16 parts of each operand, their three larger products: |error| <= 2^-14 |a·b| per product
  bf16,     ///< operands rounded to bf16: |error| <= (2^-7 + 2^-16) |a·b| per product
};
inline constexpr std::array kPrecisionPolicies = {PrecisionPolicy::f32, PrecisionPolicy::f32_fma,
                                                  PrecisionPolicy::f32_x3, PrecisionPolicy::bf16};

std::string_view to_string(PrecisionPolicy policy);
/// Error: "there is no precision policy 'x'; f32, f32_fma, f32_x3 and bf16 are".
Result<PrecisionPolicy> parse_precision_policy(std::string_view text);

}  // namespace tilewright
