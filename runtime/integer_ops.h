// What integer ops of the IR mean (docs/semantics.md, 17), for everything in the runtime that evaluates them: launch
// sizes and the ahead-of-time tier. Values of every width are held in int64, bools as 0 and 1.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "ir/dtype.h"
#include "ir/op.h"
#include "ir/result.h"

namespace tilewright {

/// To the declared width.
inline int64_t wrap_integer(int64_t value, DType dtype) {
  switch (dtype) {
    case DType::i32: return static_cast<int32_t>(value);
    case DType::i8: return static_cast<int8_t>(value);
    case DType::boolean: return value != 0;
    default: return value;
  }
}

inline int64_t wrapping(uint64_t value) { return static_cast<int64_t>(value); }

inline int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) return 0;
  if (b == -1) return wrapping(0 - static_cast<uint64_t>(a));
  return a / b - ((a % b != 0 && (a % b < 0) != (b < 0)) ? 1 : 0);
}

/// Result not wrapped yet; `dtype` is that of the operands, comparisons and select included. Unary ops leave b alone.
inline int64_t apply_integer(Op op, DType dtype, int64_t a, int64_t b, int64_t c = 0) {
  const auto ua = static_cast<uint64_t>(a), ub = static_cast<uint64_t>(b);
  const uint64_t count = ub & static_cast<uint64_t>(8 * size_of(dtype) - 1);
  switch (op) {
    case Op::add: return wrapping(ua + ub);
    case Op::sub: return wrapping(ua - ub);
    case Op::mul: return wrapping(ua * ub);
    case Op::div: return floor_div(a, b);
    case Op::mod: return b == 0 ? 0 : wrapping(ua - static_cast<uint64_t>(floor_div(a, b)) * ub);
    case Op::min: return std::min(a, b);
    case Op::max: return std::max(a, b);
    case Op::shl: return wrapping(ua << count);
    case Op::shr: return a >> count;
    case Op::logical_and: return a & b;
    case Op::logical_or: return a | b;
    case Op::logical_xor: return a ^ b;
    case Op::logical_not: return dtype == DType::boolean ? a == 0 : ~a;
    case Op::eq: return a == b;
    case Op::ne: return a != b;
    case Op::lt: return a < b;
    case Op::le: return a <= b;
    case Op::gt: return a > b;
    case Op::ge: return a >= b;
    case Op::select: return a ? b : c;
    case Op::neg: return wrapping(0 - ua);
    case Op::abs: return a < 0 ? wrapping(0 - ua) : a;
    case Op::cast: return a;
    default: TW_CHECK(!"an integer op"); return 0;
  }
}

/// Truncated, saturated, NaN gives 0.
template <class T, class Real>
T saturate(Real value) {
  if (std::isnan(value)) return 0;
  constexpr Real low = static_cast<Real>(std::numeric_limits<T>::min());
  if (value <= low) return std::numeric_limits<T>::min();
  if (value >= -low) return std::numeric_limits<T>::max();
  return static_cast<T>(value);
}

}  // namespace tilewright
