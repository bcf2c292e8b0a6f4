// Element types of tensors and scalars.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tilewright {

enum class DType : uint8_t { f64, f32, f16, bf16, i64, i32, i8, boolean };

/// Spelling in the textual IR: "f64", "f32", "f16", "bf16", "i64", "i32", "i8", "bool".
std::string_view to_string(DType type);
std::optional<DType> parse_dtype(std::string_view text);

/// Size of one element in bytes. `boolean` is one byte, 0 or 1 (any non-zero byte reads as true).
int64_t size_of(DType type);

constexpr bool is_float(DType t) { return t == DType::f64 || t == DType::f32 || t == DType::f16 || t == DType::bf16; }
constexpr bool is_integer(DType t) { return t == DType::i64 || t == DType::i32 || t == DType::i8; }

/// The type that arithmetic on `t` is done in: f16 and bf16 are computed in f32, all others as they are
/// (semantics 2: softmax is never narrower than f32, f64 is never narrowed).
constexpr DType compute_type(DType t) { return t == DType::f16 || t == DType::bf16 ? DType::f32 : t; }

}  // namespace tilewright
