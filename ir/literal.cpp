#include "ir/literal.h"

#include <charconv>
#include <cmath>
#include <limits>

namespace tilewright {
namespace {

Result<double> to_real(const Literal& literal, DType dtype) {
  const bool negative = literal.text.starts_with('-');
  const std::string_view magnitude = std::string_view(literal.text).substr(negative ? 1 : 0);
  double value = 0;
  if (magnitude == "inf") {
    value = std::numeric_limits<double>::infinity();
  } else if (magnitude == "nan") {
    value = std::numeric_limits<double>::quiet_NaN();
  } else {
    const auto [end, error] = std::from_chars(magnitude.data(), magnitude.data() + magnitude.size(), value);
    if (error != std::errc() || end != magnitude.data() + magnitude.size())
      return invalid("the literal {} is outside the range of {}", literal.text, to_string(dtype));
  }
  return negative ? -value : value;
}

}  // namespace

Result<Scalar> to_scalar(const Literal& literal, DType dtype) {
  if ((literal.kind == LiteralKind::boolean) != (dtype == DType::boolean))
    return invalid("the literal {} is no {}", literal.text, to_string(dtype));
  if (dtype == DType::boolean) return Scalar{0, literal.text == "true"};
  if (is_float(dtype)) {
    const auto value = to_real(literal, dtype);
    if (!value) return value.error();
    return Scalar{*value, 0};
  }
  if (literal.kind == LiteralKind::real)
    return invalid("the literal {} is no integer, but {} is needed", literal.text, to_string(dtype));
  int64_t value = 0;
  const char* end = literal.text.data() + literal.text.size();
  if (std::from_chars(literal.text.data(), end, value).ec != std::errc())
    return invalid("the literal {} does not fit 64 bits", literal.text);
  return Scalar{0, value};
}

std::string print_scalar(const Scalar& value, DType dtype) {
  if (dtype == DType::boolean) return value.integer ? "true" : "false";
  if (!is_float(dtype)) return std::to_string(value.integer);
  if (std::isnan(value.real)) return std::signbit(value.real) ? "-nan" : "nan";
  return fmt::format("{}", value.real);
}

LiteralKind printed_kind(const Scalar& value, DType dtype) {
  if (dtype == DType::boolean) return LiteralKind::boolean;
  const bool digits = print_scalar(value, dtype).find_first_not_of("-0123456789") == std::string::npos;
  return digits ? LiteralKind::integer : LiteralKind::real;
}

DType own_dtype(LiteralKind kind) {
  return kind == LiteralKind::boolean ? DType::boolean : kind == LiteralKind::real ? DType::f32 : DType::i64;
}

DType literal_dtype(Op op, size_t position, LiteralKind kind, std::span<const std::optional<DType>> operands,
                    DType result) {
  const DType own = own_dtype(kind);
  const bool comparison = op >= Op::eq && op <= Op::ge;
  if (op == Op::cast) return own;
  if (op == Op::select && position == 0) return DType::boolean;
  if ((op == Op::load || op == Op::scatter_add) && position > 0) return DType::i64;
  const bool is_integer_operand = ((op == Op::mask_causal || op == Op::mask_window) && position == 1) ||
                                  (op == Op::alibi && position == 2) || (op == Op::update && position == 2) ||
                                  (op == Op::dropout && position > 0);
  if (is_integer_operand) return DType::i64;
  std::optional<DType> neighbour;
  for (size_t i = op == Op::select ? 1 : 0; i < operands.size(); ++i) {
    if (i == position || !operands[i]) continue;
    if (!neighbour || (is_float(*operands[i]) && !is_float(*neighbour))) neighbour = operands[i];
  }
  if (neighbour) return *neighbour;
  return comparison ? own : result;
}

}  // namespace tilewright
