#include "tests/support/random_parts.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tilewright::testing {
namespace {
constexpr double kInfinity = std::numeric_limits<double>::infinity();
}

Shape ScoreFrame::shape() const {
  Shape full = prefix;
  full.push_back(q_len);
  full.push_back(kv_len);
  return full;
}

Dim RandomParts::named_or_constant(const std::string& name, int64_t size, double constant) {
  if (chance(constant)) return size;
  dims[name] = size;
  return Dim::named(name);
}

int RandomParts::pick(const std::string& what, std::initializer_list<const char*> choices) {
  const auto chosen = static_cast<size_t>(below(static_cast<int64_t>(choices.size())));
  spellings.insert(what + ": " + choices.begin()[chosen]);
  return static_cast<int>(chosen);
}

ValueId RandomParts::param(const std::string& name, TensorType type, Fill how, bool inout) {
  fills.push_back(how);
  return b.param(name, std::move(type), inout);
}

ValueId RandomParts::position(const ScoreFrame& f, int64_t axis, DType dtype) {
  Shape shape(static_cast<size_t>(f.rank()), Dim(1));
  shape[static_cast<size_t>(axis)] = f.shape()[static_cast<size_t>(axis)];
  return b.index(axis, shape, dtype);
}

Shape RandomParts::broadcastable(const ScoreFrame& f) {
  Shape shape = f.shape();
  for (size_t axis = 0; axis + 1 < shape.size(); ++axis)
    if (chance(0.4)) shape[axis] = 1;
  if (chance(0.15)) shape.back() = 1;
  const auto dropped = static_cast<size_t>(below(static_cast<int64_t>(shape.size())));
  // Leading axes may be left out altogether; right-aligned broadcasting puts them back.
  return Shape(shape.begin() + static_cast<std::ptrdiff_t>(dropped), shape.end());
}

ValueId RandomParts::modify_and_mask(ValueId s, const ScoreFrame& f) {
  const int64_t modifications = chance(0.45) ? 0 : 1 + below(2);
  int64_t masks = chance(0.3) ? 0 : 1 + below(3);
  if (modifications > 0 && masks > 0 && chance(0.1)) {
    s = mask(s, f);
    --masks;
  }
  for (int64_t i = 0; i < modifications; ++i) s = modify(s, f);
  for (int64_t i = 0; i < masks; ++i) s = mask(s, f);
  if (masks == 0) spellings.insert("mask: none");
  return s;
}

ValueId RandomParts::captured(const char* stem, const Shape& shape, Fill how, const ScoreFrame& f) {
  if (f.accumulate != DType::f64 || chance(0.4)) return param(fresh(stem), {f.accumulate, shape}, how);
  return b.cast(param(fresh(stem), {DType::f32, shape}, how), f.accumulate);
}

ValueId RandomParts::modify(ValueId s, const ScoreFrame& f) {
  const int64_t q_axis = f.rank() - 2, kv_axis = f.rank() - 1;
  switch (pick("score", {"softcap op", "softcap spelled", "alibi", "bias tensor", "relative table", "distance", "gate",
                         "abs and min"})) {
    case 0: return b.softcap(s, 2.0 + static_cast<double>(below(20)));
    case 1: {
      const double cap = 1.0 + static_cast<double>(below(8));
      return b.binary(Op::mul, b.unary(Op::tanh, b.binary(Op::div, s, real(cap, f))), real(cap, f));
    }
    case 2:
      if (f.split_heads) return b.binary(Op::add, s, real(0.25, f));
      if (chance(0.5)) return b.alibi(s, kNoValue, chance(0.5) ? CausalAlign::top_left : CausalAlign::bottom_right);
      return b.alibi(s, captured("slopes", {f.heads}, {Fill::Kind::gaussian, 0.1}, f));
    case 3: {
      const ValueId bias = captured("bias", broadcastable(f), {Fill::Kind::gaussian, 1}, f);
      return chance(0.5) ? b.binary(Op::add, s, bias) : b.binary(Op::sub, s, bias);
    }
    case 4: {
      const DType integer_type = chance(0.5) ? DType::i64 : DType::i32;
      const ValueId distance = b.binary(Op::sub, position(f, kv_axis, integer_type), position(f, q_axis, integer_type));
      const ValueId near = b.binary(
          Op::max, b.binary(Op::min, b.binary(Op::add, distance, integer(16, integer_type)), integer(31, integer_type)),
          integer(0, integer_type));
      const ValueId table = param(fresh("table"), {f.accumulate, {32}}, {Fill::Kind::gaussian, 1});
      return b.binary(Op::add, s, b.load(table, {near}));
    }
    case 5: {
      const ValueId distance = b.binary(Op::sub, position(f, kv_axis, DType::i64), position(f, q_axis, DType::i64));
      return b.binary(Op::add, s, b.binary(Op::mul, b.cast(distance, f.accumulate), real(-0.0625, f)));
    }
    case 6: return b.binary(Op::mul, s, b.unary(Op::sigmoid, s));
    default: return b.binary(Op::min, b.unary(Op::abs, s), real(6, f));
  }
}

ValueId RandomParts::mask(ValueId s, const ScoreFrame& f) {
  const auto align = [&] { return chance(0.5) ? CausalAlign::top_left : CausalAlign::bottom_right; };
  const auto offset = [&]() -> ValueId {
    if (chance(0.6)) return kNoValue;
    const int64_t far = size_of_dim(f.kv_len) + 2;
    const Shape shape = chance(0.5) ? Shape{} : Shape{f.batch};
    return param(fresh("offset"), {chance(0.5) ? DType::i64 : DType::i32, shape},
                 {Fill::Kind::integer_between, 1, -3, far});
  };
  switch (pick("mask", {"causal op", "window op", "select", "select with arms swapped", "additive", "bool tensor",
                        "additive tensor"})) {
    case 0: return b.mask_causal(s, align(), offset());
    case 1: return b.mask_window(s, chance(0.2) ? -1 : below(20), chance(0.2) ? -1 : below(6), align(), offset());
    case 2: return b.select(keep_condition(f), s, real(-kInfinity, f));
    case 3: return b.select(b.unary(Op::logical_not, keep_condition(f)), real(-kInfinity, f), s);
    case 4: return b.binary(Op::add, s, b.select(keep_condition(f), real(0, f), real(-kInfinity, f)));
    case 5: {
      const ValueId mask = param(fresh("mask"), {DType::boolean, broadcastable(f)}, {Fill::Kind::coin, 0.7});
      return b.select(mask, s, real(-kInfinity, f));
    }
    default: {
      const ValueId bias =
          param(fresh("float_mask"), {f.accumulate, broadcastable(f)}, {Fill::Kind::minus_inf_or_small});
      return b.binary(Op::add, s, bias);
    }
  }
}

ValueId RandomParts::keep_condition(const ScoreFrame& f) {
  const int64_t q_axis = f.rank() - 2, kv_axis = f.rank() - 1;
  const DType type = chance(0.7) ? DType::i64 : DType::i32;
  const ValueId q = position(f, q_axis, type), kv = position(f, kv_axis, type);
  const auto at = [&](const char* stem, const Dim& extent, ValueId index, Fill how) {
    const ValueId table = param(fresh(stem), {DType::i32, {f.batch, extent}}, how);
    return b.load(table, {position(f, 0, type), index});
  };
  switch (pick("keep", {"causal", "window", "padding", "documents", "prefix", "chunks", "dilated", "causal or column",
                        "blocks"})) {
    case 0:
      switch (below(3)) {
        case 0: return b.binary(Op::le, kv, q);
        case 1: return b.binary(Op::ge, b.binary(Op::sub, q, kv), integer(0, type));
        default: return b.unary(Op::logical_not, b.binary(Op::gt, kv, q));
      }
    case 1: {
      const ValueId distance = b.binary(Op::sub, q, kv);
      return b.binary(Op::logical_and, b.binary(Op::lt, distance, integer(1 + below(24), type)),
                      b.binary(Op::ge, distance, integer(-below(4), type)));
    }
    case 2: {
      const ValueId lengths =
          param(fresh("len"), {DType::i32, {f.batch}}, {Fill::Kind::integer_between, 1, 0, size_of_dim(f.kv_len) + 2});
      return b.binary(Op::lt, kv, b.cast(b.load(lengths, {position(f, 0, DType::i64)}), type));
    }
    case 3: {
      const Fill ids{Fill::Kind::ascending, 1, 0, 3};
      return b.binary(Op::eq, at("doc_q", f.q_len, q, ids), at("doc_kv", f.kv_len, kv, ids));
    }
    case 4: {
      const ValueId prefix =
          param(fresh("prefix"), {DType::i32, {f.batch}}, {Fill::Kind::integer_between, 1, 0, size_of_dim(f.kv_len)});
      return b.binary(Op::logical_or, b.binary(Op::le, kv, q),
                      b.binary(Op::lt, kv, b.cast(b.load(prefix, {position(f, 0, DType::i64)}), type)));
    }
    case 5: {
      const ValueId size = integer(1 + below(20), type);
      return b.binary(Op::eq, b.binary(Op::div, kv, size), b.binary(Op::div, q, size));
    }
    case 6: {
      const ValueId distance = b.binary(Op::sub, q, kv);
      return b.binary(Op::logical_and, b.binary(Op::ge, distance, integer(0, type)),
                      b.binary(Op::eq, b.binary(Op::mod, distance, integer(1 + below(4), type)), integer(0, type)));
    }
    case 7: return b.binary(Op::logical_or, b.binary(Op::le, kv, q), b.binary(Op::eq, kv, integer(below(5), type)));
    default: {
      const int64_t block = 4 + below(12);
      const auto blocks = [&](const Dim& extent) { return Dim(size_of_dim(extent) / block + 1); };
      const ValueId table =
          param(fresh("block_mask"), {DType::boolean, {blocks(f.q_len), blocks(f.kv_len)}}, {Fill::Kind::coin, 0.6});
      return b.load(table, {b.binary(Op::div, q, integer(block, type)), b.binary(Op::div, kv, integer(block, type))});
    }
  }
}

}  // namespace tilewright::testing
