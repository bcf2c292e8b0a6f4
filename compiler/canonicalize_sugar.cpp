// The meaning of the sugar ops in index, compare, select and arithmetic (semantics 7, 8, 10, 11, 13).
#include <cmath>
#include <limits>
#include <tuple>

#include "compiler/canonicalize_rewriter.h"

namespace tilewright::canonical {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The score a sugar op works on: its last two axes are q and kv, axis rank-3 is the head, axis 0 the batch.
struct Score {
  Rewriter& to;
  ValueId value;
  const Attributes& attributes;

  int64_t rank() const { return to.type(value).rank(); }
  Dim extent(int64_t axis) const { return to.type(value).shape[static_cast<size_t>(axis)]; }
  DType dtype() const { return to.type(value).dtype; }
  ValueId index(int64_t axis) const { return to.index(axis, extent(axis), rank()); }
  ValueId kv() const { return index(rank() - 1); }

  /// p = q + q_offset, i64.
  ValueId position(ValueId q_offset) const {
    const ValueId q = index(rank() - 2);
    if (q_offset == kNoValue) {
      if (attributes.align == CausalAlign::top_left) return q;
      return to.pointwise(Op::add, {q, to.dim(extent(rank() - 1) - extent(rank() - 2))});
    }
    ValueId offset = to.cast(q_offset, DType::i64);
    if (to.type(offset).rank() == 1) {
      Shape shape(static_cast<size_t>(rank()), Dim(1));
      shape[0] = extent(0);
      offset = to.reshape(offset, shape);
    }
    return to.pointwise(Op::add, {q, offset});
  }

  ValueId keep_where(ValueId condition) const {
    return to.pointwise(Op::select, {condition, value, to.constant(-kInfinity, dtype())});
  }
};

ValueId expand_window(const Score& s, ValueId q_offset) {
  const Attributes& at = s.attributes;
  if (at.left < 0 && at.right < 0) return s.value;
  const ValueId p = s.position(q_offset);
  ValueId keep = kNoValue;
  if (at.left >= 0)
    keep = s.to.pointwise(Op::ge, {s.kv(), s.to.pointwise(Op::sub, {p, s.to.constant_int(at.left, DType::i64)})});
  if (at.right >= 0) {
    const ValueId right = s.to.pointwise(Op::add, {p, s.to.constant_int(at.right, DType::i64)});
    const ValueId below = s.to.pointwise(Op::le, {s.kv(), at.right == 0 ? p : right});
    keep = keep == kNoValue ? below : s.to.pointwise(Op::logical_and, {keep, below});
  }
  return s.keep_where(keep);
}

/// log2 of the default slope per head, as a value over the head axis. With n the largest power of two up to H, head h
/// has 2^(-8(h+1)/n) below n; the others take every second slope of the series for 2n heads.
ValueId default_slopes(const Score& s) {
  const int64_t heads = s.extent(s.rank() - 3).constant();
  int64_t n = 1;
  while (n * 2 <= heads) n *= 2;
  const auto real = [&](double value) { return s.to.constant(value, s.dtype()); };
  const ValueId h = s.to.cast(s.index(s.rank() - 3), s.dtype());
  const ValueId first =
      s.to.pointwise(Op::mul, {s.to.pointwise(Op::add, {h, real(1)}), real(-8.0 / static_cast<double>(n))});
  if (n == heads) return s.to.pointwise(Op::exp2, {first});
  const ValueId odd = s.to.pointwise(
      Op::add,
      {s.to.pointwise(Op::mul, {s.to.pointwise(Op::sub, {h, real(static_cast<double>(n))}), real(2)}), real(1)});
  const ValueId second = s.to.pointwise(Op::mul, {odd, real(-4.0 / static_cast<double>(n))});
  const ValueId below = s.to.pointwise(Op::lt, {s.index(s.rank() - 3), s.to.constant_int(n, DType::i64)});
  return s.to.pointwise(Op::exp2, {s.to.pointwise(Op::select, {below, first, second})});
}

ValueId expand_alibi(const Score& s, ValueId slopes, ValueId q_offset) {
  ValueId slope = kNoValue;
  if (slopes == kNoValue) {
    slope = default_slopes(s);
  } else {
    slope = s.to.reshape(slopes, {s.extent(s.rank() - 3), 1, 1});
  }
  const ValueId distance = s.to.pointwise(Op::sub, {s.kv(), s.position(q_offset)});
  const ValueId bias = s.to.pointwise(Op::mul, {slope, s.to.cast(distance, s.dtype())});
  return s.to.pointwise(Op::add, {s.value, bias});
}

/// rate 0 keeps everything at no cost; at rate 1 no number is large enough and the scale is 0.
ValueId expand_dropout(const Score& s, ValueId seed, ValueId offset) {
  const double rate = s.attributes.rate;
  if (rate == 0) return s.value;
  ValueId bh = s.to.constant_int(0, DType::i64);
  for (int64_t axis = 0; axis + 2 < s.rank(); ++axis) {
    const ValueId index = s.index(axis);
    bh = axis == 0 ? index : s.to.pointwise(Op::add, {s.to.pointwise(Op::mul, {bh, s.to.dim(s.extent(axis))}), index});
  }
  const ValueId bits = s.to.pointwise(Op::random_bits, {seed, offset, bh, s.index(s.rank() - 2), s.kv()});
  const auto least = static_cast<int64_t>(std::floor(rate * 4294967296.0));
  const ValueId keep = s.to.pointwise(Op::ge, {bits, s.to.constant_int(least, DType::i64)});
  const ValueId scale = s.to.constant(rate < 1 ? 1 / (1 - rate) : 0, s.dtype());
  return s.to.pointwise(Op::select, {keep, s.to.pointwise(Op::mul, {s.value, scale}), s.to.constant(0, s.dtype())});
}

}  // namespace

ValueId expand_update(Rewriter& to, const Node& node, const std::vector<ValueId>& operands) {
  const auto [before, rows, position] = std::tuple(operands[0], operands[1], operands[2]);
  const int64_t axis = node.attributes.axis, rank = node.type.rank();
  const Dim& size = node.type.shape[static_cast<size_t>(axis)];
  const Dim& count = to.type(rows).shape[static_cast<size_t>(axis)];
  const auto i64 = [&](const Dim& value) {
    return value.is_constant() ? to.constant_int(value.constant(), DType::i64) : to.dim(value);
  };
  ValueId begin = to.cast(position, DType::i64);
  if (to.type(begin).rank() == 1) {
    Shape shape(static_cast<size_t>(rank), Dim(1));
    shape[0] = node.type.shape[0];
    begin = to.reshape(begin, shape);
  }
  begin = to.pointwise(Op::max, {to.pointwise(Op::min, {begin, i64(size - count)}), i64(0)});
  const ValueId row = to.pointwise(Op::sub, {to.index(axis, size, rank), begin});
  const ValueId fresh =
      to.pointwise(Op::logical_and, {to.pointwise(Op::ge, {row, i64(0)}), to.pointwise(Op::lt, {row, i64(count)})});
  Node load;
  load.op = Op::load;
  load.operands = {rows};
  for (int64_t i = 0; i < rank; ++i)
    load.operands.push_back(i == axis ? row : to.index(i, node.type.shape[static_cast<size_t>(i)], rank));
  load.type = node.type;
  return to.pointwise(Op::select, {fresh, to.emit(std::move(load)), before});
}

ValueId expand_sugar(Rewriter& to, const Node& node, const std::vector<ValueId>& operands) {
  const auto optional = [&](size_t i) { return i < operands.size() ? operands[i] : kNoValue; };
  const Score s{to, operands[0], node.attributes};
  switch (node.op) {
    case Op::mask_causal: return s.keep_where(to.pointwise(Op::le, {s.kv(), s.position(optional(1))}));
    case Op::mask_window: return expand_window(s, optional(1));
    case Op::alibi: return expand_alibi(s, optional(1), optional(2));
    case Op::softcap: {
      if (node.attributes.cap == 0) return s.value;
      // A product with 1/cap: a division per score costs more than the rounding it saves.
      const ValueId scaled = to.pointwise(Op::mul, {s.value, to.constant(1 / node.attributes.cap, s.dtype())});
      return to.pointwise(Op::mul, {to.pointwise(Op::tanh, {scaled}), to.constant(node.attributes.cap, s.dtype())});
    }
    case Op::dropout: return expand_dropout(s, operands[1], operands[2]);
    default: break;
  }
  TW_CHECK(info(node.op).group != OpGroup::sugar);
  return kNoValue;
}

}  // namespace tilewright::canonical
