// What each pointwise op means for one element (semantics 17), in the Real type asked for. Integers are int64 values
// wrapped to their declared width.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "ir/dtype.h"
#include "ir/op.h"
#include "ir/result.h"

namespace tilewright::interp {

inline int bit_width(DType dtype) { return static_cast<int>(8 * size_of(dtype)); }

/// Two's-complement wrap to the declared width; bools become 0 or 1.
inline int64_t wrap(DType dtype, int64_t value) {
  switch (dtype) {
    case DType::i32: return static_cast<int32_t>(value);
    case DType::i8: return static_cast<int8_t>(value);
    case DType::boolean: return value != 0;
    default: return value;
  }
}

inline int64_t min_int(DType dtype) {
  return dtype == DType::i64 ? INT64_MIN : dtype == DType::i32 ? INT32_MIN : INT8_MIN;
}
inline int64_t max_int(DType dtype) {
  return dtype == DType::i64 ? INT64_MAX : dtype == DType::i32 ? INT32_MAX : INT8_MAX;
}

inline int64_t wrapping_add(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
inline int64_t wrapping_sub(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
}
inline int64_t wrapping_mul(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

inline int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) return 0;
  if (b == -1) return wrapping_sub(0, a);
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}
inline int64_t floor_mod(int64_t a, int64_t b) {
  if (b == 0 || b == -1) return 0;
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

/// Pointwise op on integers or bools of `dtype` (the operands' dtype), result not a comparison.
inline int64_t apply_int(Op op, DType dtype, int64_t a, int64_t b) {
  const auto count = static_cast<unsigned>(static_cast<uint64_t>(b) & static_cast<uint64_t>(bit_width(dtype) - 1));
  switch (op) {
    case Op::add: return wrap(dtype, wrapping_add(a, b));
    case Op::sub: return wrap(dtype, wrapping_sub(a, b));
    case Op::mul: return wrap(dtype, wrapping_mul(a, b));
    case Op::div: return wrap(dtype, floor_div(a, b));
    case Op::mod: return wrap(dtype, floor_mod(a, b));
    case Op::min: return std::min(a, b);
    case Op::max: return std::max(a, b);
    case Op::shl: return wrap(dtype, static_cast<int64_t>(static_cast<uint64_t>(a) << count));
    case Op::shr: return a >> count;
    case Op::logical_and: return a & b;
    case Op::logical_or: return a | b;
    case Op::logical_xor: return a ^ b;
    case Op::logical_not: return dtype == DType::boolean ? !a : wrap(dtype, ~a);
    case Op::neg: return wrap(dtype, wrapping_sub(0, a));
    case Op::abs: return a < 0 ? wrap(dtype, wrapping_sub(0, a)) : a;
    default: TW_CHECK(!"an integer op"); return 0;
  }
}

template <class T>
bool apply_compare(Op op, T a, T b) {
  switch (op) {
    case Op::eq: return a == b;
    case Op::ne: return a != b;
    case Op::lt: return a < b;
    case Op::le: return a <= b;
    case Op::gt: return a > b;
    case Op::ge: return a >= b;
    default: TW_CHECK(!"a comparison"); return false;
  }
}
constexpr bool is_comparison(Op op) { return op >= Op::eq && op <= Op::ge; }

template <class Real>
Real min_propagating_nan(Real a, Real b) {
  return std::isnan(a) ? a : std::isnan(b) ? b : std::min(a, b);
}
template <class Real>
Real max_propagating_nan(Real a, Real b) {
  return std::isnan(a) ? a : std::isnan(b) ? b : std::max(a, b);
}

/// Pointwise op on floats, result not a comparison. Computed in Real and not rounded.
template <class Real>
Real apply_real(Op op, Real a, Real b) {
  switch (op) {
    case Op::add: return a + b;
    case Op::sub: return a - b;
    case Op::mul: return a * b;
    case Op::div: return a / b;
    case Op::mod: {
      const Real whole = std::floor(a / b) * b;
      return a - whole;
    }
    case Op::min: return min_propagating_nan(a, b);
    case Op::max: return max_propagating_nan(a, b);
    case Op::neg: return -a;
    case Op::abs: return std::fabs(a);
    case Op::exp: return std::exp(a);
    case Op::exp2: return std::exp2(a);
    case Op::log: return std::log(a);
    case Op::tanh: return std::tanh(a);
    case Op::sigmoid: {
      const Real e = std::exp(-a);
      return 1 / (1 + e);
    }
    case Op::erf: return std::erf(a);
    case Op::sqrt: return std::sqrt(a);
    case Op::rsqrt: {
      const Real root = std::sqrt(a);
      return 1 / root;
    }
    case Op::floor: return std::floor(a);
    default: TW_CHECK(!"a float op"); return 0;
  }
}

/// Truncates and saturates to the integer dtype, NaN gives 0; to bool: not equal to zero.
template <class Real>
int64_t real_to_int(DType dtype, Real value) {
  if (dtype == DType::boolean) return value != 0;
  if (std::isnan(value)) return 0;
  const Real below = static_cast<Real>(min_int(dtype));  // a power of two, exact
  if (value < below) return min_int(dtype);
  if (value >= -below) return max_int(dtype);
  return std::min(static_cast<int64_t>(value), max_int(dtype));
}

}  // namespace tilewright::interp
