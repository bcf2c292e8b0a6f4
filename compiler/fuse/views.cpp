#include "compiler/fuse/views.h"

namespace tilewright::fusion {
namespace {

/// One run of axes of either side that hold the same elements.
struct Segment {
  size_t from_begin, from_end, to_begin, to_end;
};

/// Cuts both shapes into the smallest matching runs. nullopt when sizes cannot be compared symbolically.
std::optional<std::vector<Segment>> match_segments(const Shape& from, const Shape& to) {
  std::vector<Segment> segments;
  size_t i = 0, j = 0;
  while (i < from.size() && j < to.size()) {
    Segment s{i, i + 1, j, j + 1};
    Dim have = from[i], want = to[j];
    while (have != want) {
      const bool extend_from = divide(want, have).has_value();
      if (!extend_from && !divide(have, want)) return std::nullopt;
      size_t& end = extend_from ? s.from_end : s.to_end;
      const Shape& shape = extend_from ? from : to;
      if (end == shape.size()) return std::nullopt;
      Dim& side = extend_from ? have : want;
      const auto grown = product({side, shape[end++]});
      if (!grown) return std::nullopt;
      side = *grown;
    }
    segments.push_back(s);
    i = s.from_end;
    j = s.to_end;
  }
  if (i != from.size() || j != to.size()) return std::nullopt;
  return segments;
}

void reshape_segment(IndexMath& math, const Shape& from, const Indices& at, const Shape& to, const Segment& s,
                     Indices& out) {
  ExprId linear = at[s.from_begin];
  for (size_t i = s.from_begin + 1; i < s.from_end; ++i) linear = math.add(math.scale(linear, from[i]), at[i]);
  for (size_t j = s.to_end; j-- > s.to_begin + 1;) {
    out[j] = math.mod(linear, to[j]);
    linear = math.div(linear, to[j]);
  }
  out[s.to_begin] = linear;
}

struct Squeezed {
  Shape shape;
  std::vector<size_t> axes;
};

Squeezed squeeze(const Shape& shape) {
  Squeezed out;
  for (size_t i = 0; i < shape.size(); ++i)
    if (!shape[i].is_constant(1)) {
      out.shape.push_back(shape[i]);
      out.axes.push_back(i);
    }
  return out;
}

}  // namespace

Indices reshape_indices(IndexMath& math, const Shape& from, const Indices& at, const Shape& to) {
  const Squeezed a = squeeze(from), b = squeeze(to);
  Indices inner;
  for (size_t axis : a.axes) inner.push_back(at[axis]);
  Indices moved(b.shape.size());
  Indices out(to.size(), math.constant(0));
  if (a.shape.empty() || b.shape.empty()) return out;
  if (auto segments = match_segments(a.shape, b.shape)) {
    for (const Segment& s : *segments) reshape_segment(math, a.shape, inner, b.shape, s, moved);
  } else {
    reshape_segment(math, a.shape, inner, b.shape, {0, a.shape.size(), 0, b.shape.size()}, moved);
  }
  for (size_t j = 0; j < b.axes.size(); ++j) out[b.axes[j]] = moved[j];
  return out;
}

bool is_simple_view(Op op) { return info(op).group == OpGroup::view && op != Op::concat && op != Op::update; }

Indices broadcast_indices(IndexMath& math, const Shape& operand, const Indices& at) {
  Indices out;
  const size_t skip = at.size() - operand.size();
  for (size_t i = 0; i < operand.size(); ++i)
    out.push_back(operand[i].is_constant(1) ? math.constant(0) : at[skip + i]);
  return out;
}

Indices view_operand_indices(IndexMath& math, const Graph& graph, const Node& view, const Indices& at) {
  const Shape& operand = graph.type(view.operands[0]).shape;
  Indices out = at;
  switch (view.op) {
    case Op::transpose:
      for (size_t i = 0; i < at.size(); ++i) out[static_cast<size_t>(view.attributes.perm[i])] = at[i];
      return out;
    case Op::reshape: return reshape_indices(math, view.type.shape, at, operand);
    case Op::broadcast: return broadcast_indices(math, operand, at);
    case Op::slice: {
      ExprId& axis = out[static_cast<size_t>(view.attributes.axis)];
      axis = math.add(axis, math.constant(view.attributes.begin));
      return out;
    }
    case Op::repeat_heads: {
      ExprId& head = out[out.size() - 3];
      head = math.div(head, view.attributes.times);
      return out;
    }
    default: break;
  }
  TW_CHECK(is_simple_view(view.op));
  return out;
}

std::optional<Indices> view_result_indices(IndexMath& math, const Graph& graph, const Node& view, const Indices& at) {
  const Shape& operand = graph.type(view.operands[0]).shape;
  if (view.op == Op::reshape) return reshape_indices(math, operand, at, view.type.shape);
  if (view.op != Op::transpose) return std::nullopt;
  Indices out;
  for (int64_t axis : view.attributes.perm) out.push_back(at[static_cast<size_t>(axis)]);
  return out;
}

}  // namespace tilewright::fusion
