#include "compiler/simplify_range.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "ir/result.h"

namespace tilewright {
namespace {

using Wide = __int128;

int64_t width_of(DType dtype) { return size_of(dtype) * 8; }

/// The exact range, or everything when some value of it wraps.
IntRange exact(Wide lo, Wide hi, DType dtype) {
  const IntRange all = full_range(dtype);
  if (lo < all.lo || hi > all.hi) return all;
  return {static_cast<int64_t>(lo), static_cast<int64_t>(hi)};
}

IntRange hull(std::initializer_list<Wide> values, DType dtype) {
  return exact(std::min(values), std::max(values), dtype);
}

int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) return 0;
  if (b == -1) return static_cast<int64_t>(-static_cast<uint64_t>(a));
  const int64_t q = a / b;
  return q - (a % b != 0 && (a < 0) != (b < 0));
}

int64_t floor_mod(int64_t a, int64_t b) {
  if (b == 0 || b == -1) return 0;
  const int64_t r = a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

bool compare(Op op, int64_t a, int64_t b) {
  switch (op) {
    case Op::eq: return a == b;
    case Op::ne: return a != b;
    case Op::lt: return a < b;
    case Op::le: return a <= b;
    case Op::gt: return a > b;
    default: return a >= b;
  }
}

IntRange range_of_compare(Op op, IntRange a, IntRange b) {
  switch (op) {
    case Op::lt: return a.hi < b.lo ? IntRange{1, 1} : a.lo >= b.hi ? IntRange{0, 0} : IntRange{0, 1};
    case Op::le: return a.hi <= b.lo ? IntRange{1, 1} : a.lo > b.hi ? IntRange{0, 0} : IntRange{0, 1};
    case Op::gt: return range_of_compare(Op::lt, b, a);
    case Op::ge: return range_of_compare(Op::le, b, a);
    default: {
      const bool apart = a.hi < b.lo || b.hi < a.lo, same = a.is_constant() && a == b;
      if (!apart && !same) return {0, 1};
      const int64_t truth = same == (op == Op::eq);
      return {truth, truth};
    }
  }
}

IntRange range_of_div(IntRange a, IntRange b, DType dtype) {
  if (b.lo < 0) return full_range(dtype);
  const int64_t least = std::max<int64_t>(b.lo, 1), most = std::max<int64_t>(b.hi, 1);
  IntRange range{std::min(floor_div(a.lo, least), floor_div(a.lo, most)),
                 std::max(floor_div(a.hi, least), floor_div(a.hi, most))};
  if (b.lo == 0) range = {std::min<int64_t>(range.lo, 0), std::max<int64_t>(range.hi, 0)};
  return range;
}

IntRange range_of_mod(IntRange a, IntRange b, DType dtype) {
  if (b.lo < 0) return full_range(dtype);
  if (a.lo >= 0 && a.hi < b.lo) return a;
  return {0, std::max<int64_t>(b.hi - 1, 0)};
}

}  // namespace

IntRange full_range(DType dtype) {
  switch (dtype) {
    case DType::boolean: return {0, 1};
    case DType::i8: return {INT8_MIN, INT8_MAX};
    case DType::i32: return {INT32_MIN, INT32_MAX};
    default: return {};
  }
}

IntRange range_of_axis(Axis axis, const Dim* extent) {
  const bool position = axis != Axis::b && axis != Axis::h;
  const int64_t most = position ? kMaxPosition : kMaxExtent;
  if (!extent) return {0, most};
  return {0, std::clamp<int64_t>(range_of_dim(*extent).hi - 1, 0, most)};
}

IntRange range_of_dim(const Dim& dim) {
  Wide lo = dim.constant(), hi = lo;
  for (const auto& [name, coefficient] : dim.terms())
    (coefficient > 0 ? hi : lo) += static_cast<Wide>(coefficient) * kMaxExtent;
  return exact(lo, hi, DType::i64);
}

IntRange range_of_op(Op op, DType dtype, DType operand, const std::vector<IntRange>& args) {
  if (!is_integer_or_bool(dtype)) return {};
  if (!is_integer_or_bool(operand)) return full_range(dtype);
  const auto wide = [&](size_t i) { return std::pair<Wide, Wide>{args[i].lo, args[i].hi}; };
  if (is_compare(op)) return range_of_compare(op, args[0], args[1]);
  switch (op) {
    case Op::add: return exact(wide(0).first + wide(1).first, wide(0).second + wide(1).second, dtype);
    case Op::sub: return exact(wide(0).first - wide(1).second, wide(0).second - wide(1).first, dtype);
    case Op::neg: return exact(-wide(0).second, -wide(0).first, dtype);
    case Op::mul: {
      const auto [a, b] = wide(0);
      const auto [c, d] = wide(1);
      return hull({a * c, a * d, b * c, b * d}, dtype);
    }
    case Op::div: return range_of_div(args[0], args[1], dtype);
    case Op::mod: return range_of_mod(args[0], args[1], dtype);
    case Op::min: return {std::min(args[0].lo, args[1].lo), std::min(args[0].hi, args[1].hi)};
    case Op::max: return {std::max(args[0].lo, args[1].lo), std::max(args[0].hi, args[1].hi)};
    case Op::abs: {
      const auto [a, b] = wide(0);
      return exact(a > 0 ? a : b < 0 ? -b : 0, std::max(-a, b), dtype);
    }
    case Op::shr:
      if (!args[1].within(0, width_of(dtype) - 1)) return full_range(dtype);
      return {std::min(args[0].lo >> args[1].lo, args[0].lo >> args[1].hi),
              std::max(args[0].hi >> args[1].lo, args[0].hi >> args[1].hi)};
    case Op::shl:
      if (!args[1].is_constant() || !args[1].within(0, width_of(dtype) - 1)) return full_range(dtype);
      return exact(wide(0).first << args[1].lo, wide(0).second << args[1].lo, dtype);
    case Op::logical_and:
      if (dtype == DType::boolean) return {args[0].lo & args[1].lo, args[0].hi & args[1].hi};
      if (args[1].lo >= 0) return {0, args[0].lo >= 0 ? std::min(args[0].hi, args[1].hi) : args[1].hi};
      if (args[0].lo >= 0) return {0, args[0].hi};
      return full_range(dtype);
    case Op::logical_or:
      if (dtype == DType::boolean) return {args[0].lo | args[1].lo, args[0].hi | args[1].hi};
      return full_range(dtype);
    case Op::logical_not:
      if (dtype == DType::boolean) return {1 - args[0].hi, 1 - args[0].lo};
      return {~args[0].hi, ~args[0].lo};
    case Op::select: {
      if (args[0].is_constant()) return args[0].lo ? args[1] : args[2];
      return {std::min(args[1].lo, args[2].lo), std::max(args[1].hi, args[2].hi)};
    }
    case Op::random_bits: return {0, UINT32_MAX};
    case Op::cast:
      if (dtype == DType::boolean) {
        if (args[0] == IntRange{0, 0}) return {0, 0};
        return {args[0].lo > 0 || args[0].hi < 0, 1};
      }
      return exact(args[0].lo, args[0].hi, dtype);
    default: return full_range(dtype);
  }
}

int64_t wrap(int64_t value, DType dtype) {
  switch (dtype) {
    case DType::boolean: return value != 0;
    case DType::i8: return static_cast<int8_t>(value);
    case DType::i32: return static_cast<int32_t>(value);
    default: return value;
  }
}

std::optional<int64_t> fold_integer(Op op, DType dtype, DType operand, const std::vector<int64_t>& args) {
  if (is_compare(op)) return compare(op, args[0], args[1]);
  const auto u = [&](size_t i) { return static_cast<uint64_t>(args[i]); };
  const auto wrapped = [&](uint64_t v) { return wrap(static_cast<int64_t>(v), dtype); };
  const auto shift = [&] { return u(1) % static_cast<uint64_t>(width_of(operand)); };
  switch (op) {
    case Op::add: return wrapped(u(0) + u(1));
    case Op::sub: return wrapped(u(0) - u(1));
    case Op::mul: return wrapped(u(0) * u(1));
    case Op::div: return wrap(floor_div(args[0], args[1]), dtype);
    case Op::mod: return wrap(floor_mod(args[0], args[1]), dtype);
    case Op::min: return std::min(args[0], args[1]);
    case Op::max: return std::max(args[0], args[1]);
    case Op::shl: return wrapped(u(0) << shift());
    case Op::shr: return wrap(args[0] >> shift(), dtype);
    case Op::logical_and: return args[0] & args[1];
    case Op::logical_or: return args[0] | args[1];
    case Op::logical_xor: return args[0] ^ args[1];
    case Op::logical_not: return dtype == DType::boolean ? !args[0] : wrap(~args[0], dtype);
    case Op::neg: return wrapped(-u(0));
    case Op::abs: return args[0] < 0 ? wrapped(-u(0)) : args[0];
    case Op::cast: return wrap(args[0], dtype);
    default: return std::nullopt;
  }
}

std::optional<double> fold_float(Op op, const std::vector<double>& args) {
  switch (op) {
    case Op::add: return args[0] + args[1];
    case Op::sub: return args[0] - args[1];
    case Op::mul: return args[0] * args[1];
    case Op::div: return args[0] / args[1];
    case Op::neg: return -args[0];
    case Op::abs: return std::abs(args[0]);
    case Op::sqrt: return std::sqrt(args[0]);
    case Op::floor: return std::floor(args[0]);
    default: return std::nullopt;
  }
}

Op negated_compare(Op op) {
  switch (op) {
    case Op::eq: return Op::ne;
    case Op::ne: return Op::eq;
    case Op::lt: return Op::ge;
    case Op::le: return Op::gt;
    case Op::gt: return Op::le;
    case Op::ge: return Op::lt;
    default: TW_CHECK(false);
  }
  return op;
}

Op swapped_compare(Op op) {
  switch (op) {
    case Op::lt: return Op::gt;
    case Op::le: return Op::ge;
    case Op::gt: return Op::lt;
    case Op::ge: return Op::le;
    default: return op;
  }
}

}  // namespace tilewright
