// Literals of the textual IR: what they look like, and which dtype one has where it stands.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "ir/graph.h"

namespace tilewright {

enum class LiteralKind : uint8_t { integer, real, boolean };

/// A literal as written, not yet of a dtype.
struct Literal {
  LiteralKind kind = LiteralKind::integer;
  std::string text;                     ///< with its sign: "-0.5", "inf", "true"
  std::optional<DType> explicit_dtype;  ///< i32(2)
};

/// The value in `dtype`; an error names the literal and the dtype.
Result<Scalar> to_scalar(const Literal& literal, DType dtype);

/// Shortest text that reads back as the same value of `dtype`: "0.125", "-inf", "7", "true".
std::string print_scalar(const Scalar& value, DType dtype);
LiteralKind printed_kind(const Scalar& value, DType dtype);

/// dtype of a literal that stands alone: bool, i64 or f32.
DType own_dtype(LiteralKind kind);

/// dtype of a literal that is operand `position` of `op`: that of its neighbours (nullopt: a literal, too), else that
/// of the result. Both the parser and the printer ask here, so that what is printed bare reads back the same.
DType literal_dtype(Op op, size_t position, LiteralKind kind, std::span<const std::optional<DType>> operands,
                    DType result);

}  // namespace tilewright
