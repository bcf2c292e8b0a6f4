// Bulk conversion between element types, vectorised where it matters (f32 with bf16 and f16).
#pragma once

#include <cstdint>

#include "ir/tensor_view.h"

namespace tilewright {

/// Contiguous f32 → bf16/f16 and back; rounds to nearest even, NaN stays NaN, f16 subnormals are exact.
void convert_f32_to_bf16(const float* from, uint16_t* to, int64_t count);
void convert_bf16_to_f32(const uint16_t* from, float* to, int64_t count);
void convert_f32_to_f16(const float* from, uint16_t* to, int64_t count);
void convert_f16_to_f32(const uint16_t* from, float* to, int64_t count);

/// One element as double (i64 beyond 2^53 rounds) and back, rounded once to nearest even; float → int truncates and
/// saturates, NaN gives 0.
double read_element(DType dtype, const void* address);
void write_element(DType dtype, void* address, double value);

/// Copies element by element between views of one shape, converting dtypes; strides as they are.
void convert(const TensorView& from, const TensorView& to);

}  // namespace tilewright
