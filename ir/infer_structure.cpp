// Type rules of views, reductions, matmul and sugar.
#include <algorithm>
#include <cmath>

#include "ir/infer_rules.h"

namespace tilewright::infer {
namespace {

Result<Done> check_axis(const Rule& rule) {
  const int64_t axis = rule.node.attributes.axis;
  if (axis < 0 || axis >= rule.type(0).rank())
    return invalid("{}: axis {} is not an axis of its operand; {}, which has rank {}", info(rule.node.op).name, axis,
                   rule.what(0), rule.type(0).rank());
  return Done{};
}

Result<TensorType> transpose(const Rule& rule) {
  const TensorType& a = rule.type(0);
  const std::vector<int64_t>& perm = rule.node.attributes.perm;
  std::vector<int64_t> sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  bool permutation = sorted.size() == a.shape.size();
  for (size_t i = 0; permutation && i < sorted.size(); ++i) permutation = sorted[i] == static_cast<int64_t>(i);
  if (!permutation)
    return invalid("transpose: perm=[{}] is not a permutation of the axes of its operand; {}, which has rank {}",
                   fmt::join(perm, ","), rule.what(0), a.rank());
  TensorType type{a.dtype, {}};
  for (int64_t axis : perm) type.shape.push_back(a.shape[static_cast<size_t>(axis)]);
  return type;
}

/// True when x - y is a constant below zero.
bool surely_less(const Dim& x, const Dim& y) {
  const auto negated = checked_multiply(y, -1);
  const auto difference = negated ? checked_add(x, *negated) : std::nullopt;
  return difference && difference->is_constant() && difference->constant() < 0;
}

Result<TensorType> slice(const Rule& rule) {
  if (auto axis = check_axis(rule); !axis) return axis.error();
  const Attributes& at = rule.node.attributes;
  TensorType type = rule.type(0);
  Dim& size = type.shape[static_cast<size_t>(at.axis)];
  if (surely_less(at.begin, 0) || surely_less(at.end, at.begin) || surely_less(size, at.end))
    return invalid("slice: [{}, {}) is not a range within axis {} of its operand, whose size is {}; {}",
                   to_string(at.begin), to_string(at.end), at.axis, to_string(size), rule.what(0));
  const auto negated = checked_multiply(at.begin, -1);
  const auto length = negated ? checked_add(at.end, *negated) : std::nullopt;
  if (!length) return invalid("slice: the length of [{}, {}) overflows", to_string(at.begin), to_string(at.end));
  size = *length;
  return type;
}

Result<TensorType> concat(const Rule& rule) {
  if (auto axis = check_axis(rule); !axis) return axis.error();
  const auto axis = static_cast<size_t>(rule.node.attributes.axis);
  TensorType type = rule.type(0);
  for (size_t i = 1; i < rule.node.operands.size(); ++i) {
    const TensorType& next = rule.type(i);
    TensorType expected = rule.type(0);
    if (next.rank() == expected.rank()) expected.shape[axis] = next.shape[axis];
    if (next != expected)
      return invalid("concat: operands differ in more than axis {}: {} and {}", axis, rule.what(0), rule.what(i));
    const auto sum = checked_add(type.shape[axis], next.shape[axis]);
    if (!sum) return invalid("concat: the length of axis {} overflows", axis);
    type.shape[axis] = *sum;
  }
  return type;
}

Result<TensorType> update(const Rule& rule) {
  if (auto axis = check_axis(rule); !axis) return axis.error();
  const auto axis = static_cast<size_t>(rule.node.attributes.axis);
  const TensorType &cache = rule.type(0), &rows = rule.type(1), &at = rule.type(2);
  TensorType expected = cache;
  if (rows.rank() == cache.rank()) expected.shape[axis] = rows.shape[axis];
  if (rows != expected)
    return invalid("update: the new rows differ from the operand in more than axis {}: {} and {}", axis, rule.what(0),
                   rule.what(1));
  if (surely_less(cache.shape[axis], rows.shape[axis]))
    return invalid("update: {} new rows do not fit into {} of axis {}: {} and {}", to_string(rows.shape[axis]),
                   to_string(cache.shape[axis]), axis, rule.what(1), rule.what(0));
  if (at.dtype != DType::i32 && at.dtype != DType::i64)
    return invalid("update: the position must be i32 or i64, but {}", rule.what(2));
  const bool per_batch = at.rank() == 1 && axis > 0 && at.shape[0] == cache.shape[0];
  if (at.rank() != 0 && !per_batch)
    return invalid(
        "update: the position must be a scalar or [{}] (one per batch, for an axis behind it), but {} and {}",
        to_string(cache.shape[0]), rule.what(2), rule.what(0));
  return cache;
}

Result<TensorType> repeat_heads(const Rule& rule) {
  TensorType type = rule.type(0);
  const int64_t times = rule.node.attributes.times;
  if (type.rank() < 3) return invalid("repeat_heads needs a head axis (rank at least 3), but {}", rule.what(0));
  if (times < 1) return invalid("repeat_heads: times={} is not a positive number", times);
  Dim& heads = type.shape[type.shape.size() - 3];
  const auto repeated = checked_multiply(heads, times);
  if (!repeated) return invalid("repeat_heads: {} heads times {} overflows", to_string(heads), times);
  heads = *repeated;
  return type;
}

/// The rows of a score: its shape with the softmax axis set to 1. A sink has rank 0, is [H] (one value per head, the
/// axis rank-3), or broadcasts right-aligned to the rows.
Result<Done> check_sink(const Rule& rule) {
  const TensorType &scores = rule.type(0), &sink = rule.type(1);
  if (sink.dtype != scores.dtype)
    return invalid("{}: the sink needs the dtype of the scores, but {} and {}; insert a cast", info(rule.node.op).name,
                   rule.what(1), rule.what(0));
  const auto axis = static_cast<size_t>(rule.node.attributes.axis);
  Shape rows = scores.shape;
  rows[axis] = 1;
  const bool per_head =
      sink.rank() == 1 && scores.rank() >= 3 && axis + 1 == rows.size() && sink.shape[0] == rows[rows.size() - 3];
  if (per_head || (sink.rank() <= scores.rank() && broadcast(sink.shape, rows) == rows)) return Done{};
  return invalid("{}: the sink is neither one value per head nor broadcasts to the rows {}; {} and {}",
                 info(rule.node.op).name, to_string(rows), rule.what(1), rule.what(0));
}

Result<Done> check_leading(const Rule& rule, Shape* out) {
  const Shape &a = rule.type(0).shape, &b = rule.type(1).shape;
  const Shape lead_a(a.begin(), a.end() - 2), lead_b(b.begin(), b.end() - 2);
  if (auto both = broadcast(lead_a, lead_b)) {
    *out = *both;
    return Done{};
  }
  const std::string_view op = info(rule.node.op).name;
  for (size_t back = 1; back <= std::min(lead_a.size(), lead_b.size()); ++back) {
    const Dim &x = lead_a[lead_a.size() - back], &y = lead_b[lead_b.size() - back];
    if (x == y || x.is_constant(1) || y.is_constant(1)) continue;
    if (back != 1 || !x.is_constant() || !y.is_constant() || y.constant() <= 0)
      return invalid("{}: the leading axes do not broadcast, {} against {}: {} and {}", op, to_string(x), to_string(y),
                     rule.what(0), rule.what(1));
    if (x.constant() % y.constant() != 0)
      return invalid("{}: {} query heads are not a multiple of {} key/value heads: {} and {}", op, x.constant(),
                     y.constant(), rule.what(0), rule.what(1));
    return invalid("{}: {} heads against {}: {} and {}; repeat_heads {}, times={} makes them equal", op, x.constant(),
                   y.constant(), rule.what(0), rule.what(1), label(rule.graph, rule.operand(1)),
                   x.constant() / y.constant());
  }
  return Done{};
}

Result<Done> check_q_offset(const Rule& rule, size_t i) {
  const TensorType &scores = rule.type(0), &offset = rule.type(i);
  const std::string_view op = info(rule.node.op).name;
  if (offset.dtype != DType::i32 && offset.dtype != DType::i64)
    return invalid("{}: q_offset must be i32 or i64, but {}", op, rule.what(i));
  const bool per_batch = offset.rank() == 1 && scores.rank() >= 4 && offset.shape[0] == scores.shape[0];
  if (offset.rank() == 0 || per_batch) return Done{};
  return invalid("{}: q_offset must be a scalar or [{}] (one per batch), but {} and {}", op,
                 scores.rank() >= 4 ? to_string(scores.shape[0]) : "B", rule.what(i), rule.what(0));
}

Result<Done> check_slopes(const Rule& rule) {
  const TensorType& scores = rule.type(0);
  if (scores.rank() < 3) return invalid("alibi needs a head axis (rank at least 3), but {}", rule.what(0));
  const Dim& heads = scores.shape[scores.shape.size() - 3];
  if (!rule.has(1)) {
    if (heads.is_constant()) return Done{};
    return invalid("alibi: default slopes need a constant number of heads, but {}; give slopes=", rule.what(0));
  }
  const TensorType& slopes = rule.type(1);
  if (slopes.dtype == scores.dtype && slopes.rank() == 1 && slopes.shape[0] == heads) return Done{};
  return invalid("alibi: slopes must be {}[{}] (one per head), but {} and {}", to_string(scores.dtype),
                 to_string(heads), rule.what(1), rule.what(0));
}

Result<Done> check_dropout(const Rule& rule) {
  const double rate = rule.node.attributes.rate;
  if (!(rate >= 0 && rate <= 1)) return invalid("dropout: rate={} is outside [0, 1]", rate);
  for (size_t i : {1u, 2u}) {
    const std::string_view what = i == 1 ? "seed" : "offset";
    if (!rule.has(i)) return invalid("dropout needs {}=", what);
    if (rule.type(i).dtype != DType::i64 || rule.type(i).rank() != 0)
      return invalid("dropout: {} must be i64[], but {}", what, rule.what(i));
  }
  return Done{};
}

}  // namespace

Result<TensorType> view(const Rule& rule) {
  const TensorType& a = rule.type(0);
  const TensorType reshaped{a.dtype, rule.declared.shape};
  switch (rule.node.op) {
    case Op::transpose: return transpose(rule);
    case Op::slice: return slice(rule);
    case Op::concat: return concat(rule);
    case Op::repeat_heads: return repeat_heads(rule);
    case Op::update: return update(rule);
    case Op::reshape:
      if (!same_element_count(a.shape, reshaped.shape))
        return invalid("reshape: {}, which does not have the same number of elements as {}", rule.what(0),
                       to_string(reshaped));
      return reshaped;
    default: break;
  }
  if (a.rank() > reshaped.rank() || broadcast(a.shape, reshaped.shape) != reshaped.shape)
    return invalid("broadcast: {}, which does not broadcast to {}", rule.what(0), to_string(reshaped));
  return reshaped;
}

Result<TensorType> reduce(const Rule& rule) {
  if (auto axis = check_axis(rule); !axis) return axis.error();
  const Op op = rule.node.op;
  TensorType type = rule.type(0);
  const bool any_number = op == Op::reduce_sum || op == Op::reduce_max || op == Op::reduce_min;
  if (any_number ? type.dtype == DType::boolean : !is_float(type.dtype))
    return invalid("{} takes {}, but {}", info(op).name, any_number ? "numbers" : "floats", rule.what(0));
  if ((op == Op::softmax || op == Op::logsumexp) && rule.has(1))
    if (auto sink = check_sink(rule); !sink) return sink.error();
  if (op == Op::softmax) return type;
  const auto axis = static_cast<size_t>(rule.node.attributes.axis);
  if (rule.node.attributes.keepdims)
    type.shape[axis] = 1;
  else
    type.shape.erase(type.shape.begin() + rule.node.attributes.axis);
  return type;
}

Result<TensorType> contract(const Rule& rule) {
  const TensorType &a = rule.type(0), &b = rule.type(1);
  const std::string_view op = info(rule.node.op).name;
  if (a.rank() < 2 || b.rank() < 2)
    return invalid("{} needs operands of rank at least 2, but {} and {}", op, rule.what(0), rule.what(1));
  if (!is_float(a.dtype)) return invalid("{} takes floats, but {}", op, rule.what(0));
  if (a.dtype != b.dtype)
    return invalid("{} needs operands of one dtype, but {} and {}; insert a cast", op, rule.what(0), rule.what(1));
  const DType result = rule.declared.dtype;
  const bool widened = result == DType::f64 || (result == DType::f32 && a.dtype != DType::f64);
  if (result != a.dtype && !widened)
    return invalid("{} of {} operands gives {}{}, but it is annotated {}", op, to_string(a.dtype), to_string(a.dtype),
                   a.dtype == DType::f64   ? ""
                   : a.dtype == DType::f32 ? " or f64"
                                           : ", f32 or f64",
                   to_string(result));
  const bool transposed = rule.node.op == Op::matmul_nt;
  const Dim& k_a = a.shape[a.shape.size() - 1];
  const Dim& k_b = b.shape[b.shape.size() - (transposed ? 1 : 2)];
  if (k_a != k_b)
    return invalid("{} contracts {} of the first operand with {} of the second: {} and {}", op, to_string(k_a),
                   to_string(k_b), rule.what(0), rule.what(1));
  TensorType type{result, {}};
  if (auto leading = check_leading(rule, &type.shape); !leading) return leading.error();
  type.shape.push_back(a.shape[a.shape.size() - 2]);
  type.shape.push_back(b.shape[b.shape.size() - (transposed ? 2 : 1)]);
  return type;
}

Result<TensorType> sugar(const Rule& rule) {
  const TensorType& a = rule.type(0);
  const Attributes& at = rule.node.attributes;
  const Op op = rule.node.op;
  if (!is_float(a.dtype)) return invalid("{} takes floats, but {}", info(op).name, rule.what(0));
  if (op == Op::softcap) {
    if (!std::isfinite(at.cap) || at.cap < 0)
      return invalid("softcap: cap={} is neither 0 nor a positive number", at.cap);
    return a;
  }
  if (a.rank() < 2) return invalid("{} needs the axes q and kv (rank at least 2), but {}", info(op).name, rule.what(0));
  if (op == Op::mask_window && (at.left < -1 || at.right < -1))
    return invalid("mask_window: left={} and right={} must be distances of at least 0, or -1 for unbounded", at.left,
                   at.right);
  if (op == Op::alibi)
    if (auto slopes = check_slopes(rule); !slopes) return slopes.error();
  if (op == Op::dropout) {
    if (auto ok = check_dropout(rule); !ok) return ok.error();
    return a;
  }
  const size_t offset = op == Op::alibi ? 2 : 1;
  if (rule.has(offset))
    if (auto ok = check_q_offset(rule, offset); !ok) return ok.error();
  return a;
}

}  // namespace tilewright::infer
