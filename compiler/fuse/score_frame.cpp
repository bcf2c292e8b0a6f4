#include "compiler/fuse/score_frame.h"

#include "compiler/fuse/merge_dots.h"

namespace tilewright::fusion {
namespace {

Indices unflatten(Tracer& t, Axis axis, const std::vector<Dim>& dims) {
  Indices out(dims.size(), t.math.constant(0));
  size_t first = 0;
  while (first < dims.size() && dims[first].is_constant(1)) ++first;
  if (first == dims.size()) return out;
  ExprId rest = t.pool.index(axis);
  if (const auto extent = product(dims)) t.math.set_extent(rest, *extent);
  for (size_t i = dims.size() - 1; i > first; --i) {
    if (dims[i].is_constant(1)) continue;
    out[i] = t.math.mod(rest, dims[i]);
    rest = t.math.div(rest, dims[i]);
  }
  t.math.set_extent(rest, dims[first]);
  out[first] = rest;
  return out;
}

}  // namespace

ScoreFrame::ScoreFrame(Tracer& t, const Shape& shape, size_t head_axes, Dim q_length, Dim kv_length)
    : q_len(std::move(q_length)), kv_len(std::move(kv_length)) {
  const auto split = shape.end() - static_cast<int64_t>(head_axes);
  batch.assign(shape.begin(), split);
  heads.assign(split, shape.end());
  q = t.math.axis(Axis::q, q_len);
  kv = t.math.axis(Axis::kv, kv_len);
  lead = unflatten(t, Axis::b, batch);
  const Indices h = unflatten(t, Axis::h, heads);
  lead.insert(lead.end(), h.begin(), h.end());
}

AxisExtents ScoreFrame::extents() const {
  AxisExtents out{{{Axis::q, q_len}, {Axis::kv, kv_len}}};
  if (const auto b = product(batch)) out.known.emplace_back(Axis::b, *b);
  if (const auto h = product(heads)) out.known.emplace_back(Axis::h, *h);
  return out;
}

Indices contract_operand(Tracer& t, const Graph& graph, const Node& product, size_t i, const Indices& lead, ExprId row,
                         ExprId column, ExprId k) {
  const Shape& shape = graph.type(product.operands[i]).shape;
  const Shape lead_shape(shape.begin(), shape.end() - 2);
  Indices at = broadcast_indices(t.math, lead_shape, lead);
  const bool k_last = i == 0 || product.op == Op::matmul_nt;
  const ExprId outer = i == 0 ? row : column;
  at.push_back(k_last ? outer : k);
  at.push_back(k_last ? k : outer);
  return at;
}

DotReader::DotReader(const GraphFacts& facts, Tracer& tracer, const ScoreFrame& frame)
    : facts_(facts), graph_(facts.graph), t_(tracer), frame_(frame) {
  t_.on_contract = [this](ValueId id, const Indices& at) { return read(id, at); };
}

void DotReader::stop(ValueId value, std::string why) {
  if (stopped_by != kNoValue) return;
  stopped_by = value;
  reason = std::move(why);
}

std::optional<ExprId> DotReader::read(ValueId id, const Indices& at) {
  const Node& product = graph_[id];
  for (const ScoreDot& known : dots)
    if (known.product == id && known.at == at) return known.score;
  const ExprId row = at[at.size() - 2], column = at.back();
  const uint32_t on_row = depends(t_.pool, row), on_column = depends(t_.pool, column);
  const uint32_t q = bit(Axis::q), kv = bit(Axis::kv);
  const bool straight = !(on_row & kv) && !(on_column & q) && ((on_column & kv) || frame_.kv_len.is_constant(1));
  const bool crossed = !straight && !(on_row & q) && !(on_column & kv) && (on_row & kv);
  const Indices lead(at.begin(), at.end() - 2);
  for (ExprId axis : lead)
    if (depends(t_.pool, axis) & (q | kv)) return std::nullopt;
  if (!straight && !crossed) return std::nullopt;

  ScoreDot dot;
  dot.product = id;
  dot.at = at;
  dot.straight = straight;
  for (ValueId value : {id, product.operands[0]})
    if (graph_.type(value).dtype == DType::f64) accumulate = DType::f64;
  const Dim& head_dim = graph_.type(product.operands[0]).shape.back();
  if (!head_dim.is_constant() || head_dim.constant() < 1 || head_dim.constant() > kMaxHeadDim)
    stop(id, fmt::format("the head dim is {}; a constant from 1 to {} is needed", to_string(head_dim), kMaxHeadDim));
  dot.head_dim = head_dim.constant();
  const ExprId d = t_.math.axis(Axis::d, head_dim);
  const auto trace = [&](LookThrough through) {
    for (size_t i : {0u, 1u}) {
      const bool is_query = straight == (i == 0);
      const Indices where = contract_operand(t_, graph_, product, i, lead, row, column, d);
      auto operand = trace_dot_operand(facts_, t_, product.operands[i], where, is_query ? Axis::q : Axis::kv, through);
      if (!operand) {
        stop(product.operands[i], "its elements are no strided access over (b, h, position, d)");
        operand = DotOperand{product.operands[i], where, {}, {product.operands[i]}};
      }
      (is_query ? dot.query : dot.key) = std::move(*operand);
    }
  };
  trace({});
  // Q and K of a spec share a dtype; one that was cast to meet the other is read after its cast.
  if (graph_.type(dot.query.root).dtype != graph_.type(dot.key.root).dtype) trace({false, true});
  dot.score = scaled_score(product, dot);
  dots.push_back(std::move(dot));
  return dots.back().score;
}

ExprId DotReader::scaled_score(const Node& product, const ScoreDot& dot) {
  ExprId s = partial_score(t_.pool, dots.size(), accumulate);
  for (const DotOperand* operand : {&dot.query, &dot.key}) s = with_factors(t_, s, operand->factors, accumulate);
  return t_.cast(s, product.type.dtype);
}

}  // namespace tilewright::fusion
