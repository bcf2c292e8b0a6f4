#include "layers/graph_parts.h"

#include <limits>

namespace tilewright {
namespace {

const TensorType& type_of(const GraphBuilder& g, ValueId value) { return g.graph().type(value); }

/// The value itself where nothing changes.
ValueId cast_to(GraphBuilder& g, ValueId value, DType dtype) {
  return type_of(g, value).dtype == dtype ? value : g.cast(value, dtype);
}

ValueId literal(GraphBuilder& g, double value, ValueId like) { return g.constant(value, type_of(g, like).dtype); }

ValueId mul(GraphBuilder& g, ValueId a, ValueId b) { return g.binary(Op::mul, a, b); }
ValueId add(GraphBuilder& g, ValueId a, ValueId b) { return g.binary(Op::add, a, b); }
ValueId sub(GraphBuilder& g, ValueId a, ValueId b) { return g.binary(Op::sub, a, b); }

int64_t last_axis(const GraphBuilder& g, ValueId x) { return type_of(g, x).rank() - 1; }

/// x · rsqrt(mean(x²) + epsilon), in x's dtype.
ValueId divide_by_rms(GraphBuilder& g, ValueId x, double epsilon) {
  const ValueId mean = g.reduce(Op::reduce_mean, mul(g, x, x), last_axis(g, x));
  return mul(g, x, g.unary(Op::rsqrt, add(g, mean, literal(g, epsilon, mean))));
}

}  // namespace

ValueId linear(GraphBuilder& g, ValueId x, ValueId weight, ValueId bias) {
  const ValueId y = cast_to(g, g.matmul_nt(x, weight), type_of(g, x).dtype);
  return bias == kNoValue ? y : add(g, y, bias);
}

ValueId rms_norm(GraphBuilder& g, ValueId x, ValueId weight, double epsilon) {
  const DType dtype = type_of(g, x).dtype;
  const ValueId wide = cast_to(g, x, compute_type(dtype));
  const ValueId unit = divide_by_rms(g, wide, epsilon);
  return cast_to(g, mul(g, unit, cast_to(g, weight, compute_type(dtype))), dtype);
}

ValueId layer_norm(GraphBuilder& g, ValueId x, ValueId weight, ValueId bias, double epsilon) {
  const DType dtype = type_of(g, x).dtype, compute = compute_type(dtype);
  const ValueId wide = cast_to(g, x, compute);
  const ValueId centred = sub(g, wide, g.reduce(Op::reduce_mean, wide, last_axis(g, wide)));
  const ValueId unit = divide_by_rms(g, centred, epsilon);
  const ValueId scaled = mul(g, unit, cast_to(g, weight, compute));
  return cast_to(g, add(g, scaled, cast_to(g, bias, compute)), dtype);
}

std::string_view to_string(Activation activation) {
  switch (activation) {
    case Activation::identity: return "identity";
    case Activation::relu: return "relu";
    case Activation::gelu: return "gelu";
    case Activation::silu: return "silu";
    case Activation::tanh: return "tanh";
    case Activation::sigmoid: return "sigmoid";
    case Activation::softmax: break;
  }
  return "softmax";
}

ValueId activate(GraphBuilder& g, ValueId x, Activation activation) {
  switch (activation) {
    case Activation::identity: return x;
    case Activation::relu: return g.binary(Op::max, x, literal(g, 0, x));
    case Activation::gelu: {  // x/2 · (1 + erf(x/√2))
      const ValueId erf = g.unary(Op::erf, mul(g, x, literal(g, 0.70710678118654752, x)));
      return mul(g, mul(g, x, literal(g, 0.5, x)), add(g, erf, literal(g, 1, x)));
    }
    case Activation::silu: return mul(g, x, g.unary(Op::sigmoid, x));
    case Activation::tanh: return g.unary(Op::tanh, x);
    case Activation::sigmoid: return g.unary(Op::sigmoid, x);
    case Activation::softmax: break;
  }
  return g.softmax(x, last_axis(g, x));
}

ValueId swiglu(GraphBuilder& g, ValueId x, ValueId gate, ValueId up, ValueId down) {
  const ValueId gated = activate(g, linear(g, x, gate), Activation::silu);
  return linear(g, mul(g, gated, linear(g, x, up)), down);
}

ValueId split_heads(GraphBuilder& g, ValueId x, int64_t heads) {
  const Shape shape = type_of(g, x).shape;
  TW_CHECK(shape.size() == 3 && shape[2].is_constant() && shape[2].constant() % heads == 0);
  const ValueId split = g.reshape(x, {shape[0], shape[1], heads, shape[2].constant() / heads});
  return g.transpose(split, {0, 2, 1, 3});
}

ValueId merge_heads(GraphBuilder& g, ValueId x) {
  const ValueId rows = g.transpose(x, {0, 2, 1, 3});
  const Shape shape = type_of(g, rows).shape;
  return g.reshape(rows, {shape[0], shape[1], shape[3] * shape[2].constant()});
}

ValueId rope(GraphBuilder& g, ValueId x, ValueId cos, ValueId sin, RopeLayout layout, ValueId first) {
  const Shape shape = type_of(g, x).shape;
  TW_CHECK(shape.size() == 4 && shape[3].is_constant() && shape[3].constant() % 2 == 0);
  const Dim& length = shape[2];
  const int64_t half = shape[3].constant() / 2;
  const bool interleaved = layout == RopeLayout::interleaved;

  // cos and sin at [S, D/2] or [B,1,S,D/2]; the interleaved pairs lie along a fifth axis.
  const auto rows = [&](ValueId table) {
    ValueId at = kNoValue;
    if (first == kNoValue) {
      at = g.slice(table, 0, 0, length);
    } else {
      const ValueId start =
          type_of(g, first).rank() == 0 ? first : g.reshape(first, {type_of(g, first).shape[0], 1, 1, 1});
      const ValueId position = add(g, g.index(2, {1, 1, length, 1}), start);
      at = g.load(table, {position, g.index(3, {1, 1, 1, half})});
    }
    if (!interleaved) return at;
    Shape paired = type_of(g, at).shape;
    paired.push_back(1);
    return g.reshape(at, paired);
  };
  const ValueId c = rows(cos), s = rows(sin);

  const int64_t axis = interleaved ? 4 : 3, width = interleaved ? 1 : half;
  const ValueId pairs = interleaved ? g.reshape(x, {shape[0], shape[1], length, half, 2}) : x;
  const ValueId a = g.slice(pairs, axis, 0, width), b = g.slice(pairs, axis, width, 2 * width);
  const ValueId turned_a = sub(g, mul(g, a, c), mul(g, b, s));
  const ValueId turned_b = add(g, mul(g, b, c), mul(g, a, s));
  const ValueId turned = g.concat({turned_a, turned_b}, axis);
  return interleaved ? g.reshape(turned, shape) : turned;
}

AttentionValues attention(GraphBuilder& g, ValueId q, ValueId k, ValueId v, const AttentionForm& form) {
  const DType dtype = type_of(g, q).dtype, read_as = form.operands.value_or(dtype);
  const int64_t heads = type_of(g, q).shape[1].constant(), kv_heads = type_of(g, k).shape[1].constant();
  TW_CHECK(kv_heads > 0 && heads % kv_heads == 0);
  const auto operand = [&](ValueId x) {
    const ValueId narrow = cast_to(g, x, read_as);
    return type_of(g, x).shape[1].is_constant(heads) ? narrow : g.repeat_heads(narrow, heads / kv_heads);
  };
  ValueId s = g.matmul_nt(operand(q), operand(k));
  s = mul(g, s, literal(g, form.scale, s));
  const auto like_scores = [&](ValueId x) { return x == kNoValue ? x : cast_to(g, x, type_of(g, s).dtype); };
  if (form.alibi) s = g.alibi(s, like_scores(form.slopes), form.align, form.offset);
  if (form.bias != kNoValue) s = add(g, s, like_scores(form.bias));
  if (form.causal) s = g.mask_causal(s, form.align, form.offset);
  if (form.mask != kNoValue) s = g.select(form.mask, s, literal(g, -std::numeric_limits<double>::infinity(), s));
  const ValueId p = g.softmax(s, 3);
  const ValueId kept = form.dropout > 0 ? g.dropout(p, form.seed, form.draw, form.dropout) : p;
  const ValueId o = g.matmul(cast_to(g, kept, read_as), operand(v));
  return {cast_to(g, o, dtype), p};
}

}  // namespace tilewright
