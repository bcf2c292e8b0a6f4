#include "compiler/fuse/attempt.h"

#include <algorithm>

#include "compiler/fuse/merge_dots.h"
#include "compiler/passes.h"

namespace tilewright::fusion {

Attempt::Attempt(const GraphFacts& facts, ValueId pv, const WeightsOperand& weights, size_t head_axes)
    : facts_(facts),
      graph_(facts.graph),
      pv_(pv),
      product_(facts.graph[pv]),
      weights_(weights),
      t_(facts, Region::attention),
      reader_(facts.graph, t_) {
  t_.on_contract = [this](ValueId id, const Indices& at) { return read_dot(id, at); };
  set_axes(head_axes);
}

void Attempt::set_axes(size_t head_axes) {
  const Shape& out = product_.type.shape;
  const auto split = out.end() - 2 - static_cast<int64_t>(head_axes);
  spec_.batch.assign(out.begin(), split);
  spec_.heads.assign(split, out.end() - 2);
  const bool transposed = weights_.operand == 1;
  spec_.q_len = out[out.size() - (transposed ? 1 : 2)];
  spec_.kv_len = graph_.type(product_.operands[0]).shape.back();
  q_ = t_.math.axis(Axis::q, spec_.q_len);
  kv_ = t_.math.axis(Axis::kv, spec_.kv_len);
  lead_ = unflatten(Axis::b, spec_.batch);
  const Indices heads = unflatten(Axis::h, spec_.heads);
  lead_.insert(lead_.end(), heads.begin(), heads.end());
}

Indices Attempt::unflatten(Axis axis, const std::vector<Dim>& dims) {
  Indices out(dims.size(), t_.math.constant(0));
  size_t first = 0;
  while (first < dims.size() && dims[first].is_constant(1)) ++first;
  if (first == dims.size()) return out;
  ExprId rest = t_.pool.index(axis);
  if (const auto extent = product(dims)) t_.math.set_extent(rest, *extent);
  for (size_t i = dims.size() - 1; i > first; --i) {
    if (dims[i].is_constant(1)) continue;
    out[i] = t_.math.mod(rest, dims[i]);
    rest = t_.math.div(rest, dims[i]);
  }
  t_.math.set_extent(rest, dims[first]);
  out[first] = rest;
  return out;
}

Indices Attempt::contract_operand(const Node& product, size_t i, const Indices& lead, ExprId row, ExprId column,
                                  ExprId k) {
  const Shape& shape = graph_.type(product.operands[i]).shape;
  const Shape lead_shape(shape.begin(), shape.end() - 2);
  Indices at = broadcast_indices(t_.math, lead_shape, lead);
  const bool k_last = i == 0 || product.op == Op::matmul_nt;
  const ExprId outer = i == 0 ? row : column;
  at.push_back(k_last ? outer : k);
  at.push_back(k_last ? k : outer);
  return at;
}

void Attempt::stop(ValueId value, std::string reason) {
  if (!note_) note_ = FusionNote{graph_[value].name, graph_[value].line, std::move(reason)};
}

std::variant<AttentionMatch, FusionNote> Attempt::run() {
  if (find_scores() && read_scores() && read_value()) {
    set_head_group();
    read_sink();
    find_output();
    find_logsumexp();
  }
  if (stopped()) return *note_;
  return finish();
}

bool Attempt::find_scores() {
  const bool transposed = weights_.operand == 1;
  ValueId id = product_.operands[weights_.operand];
  const Shape& shape = graph_.type(id).shape;
  one_to_one_ = std::equal(shape.begin(), shape.end() - 2, product_.type.shape.begin(), product_.type.shape.end() - 2);
  Indices at = contract_operand(product_, weights_.operand, lead_, q_, transposed ? q_ : kv_, kv_);
  const auto used_once = [&](ValueId value) {
    if (facts_.uses(value) <= 1) return true;
    const bool returned = facts_.result_uses[GraphFacts::at(value)] > 0;
    stop(value, returned ? "the attention weights are returned, so they have to exist in memory"
                         : "the attention weights are used more than once, so they have to exist in memory");
    return false;
  };
  while (id != weights_.softmax) {
    if (!used_once(id)) return false;
    const Node& node = graph_[id];
    if (is_simple_view(node.op)) {
      one_to_one_ = one_to_one_ && (node.op == Op::transpose || node.op == Op::reshape);
      at = view_operand_indices(t_.math, graph_, node, at);
    } else if (!is_float_cast(graph_, node)) {
      break;  // no normaliser: the chain below is the score
    }
    id = node.operands[0];
  }
  scores_at_ = std::move(at);
  if (weights_.softmax == kNoValue) {
    scores_ = match_.weights = id;
    spec_.normaliser = Normaliser::none;
    return true;
  }
  if (!used_once(id)) return false;
  const Node& softmax = graph_[id];
  match_.weights = id;
  scores_ = softmax.operands[0];
  if (softmax.attributes.axis + 1 != softmax.type.rank()) {
    stop(id, fmt::format("the softmax runs along axis {}, not along the last one", softmax.attributes.axis));
    return false;
  }
  bool rows_fixed = scores_at_.back() == kv_ && softmax.type.shape.back() == spec_.kv_len;
  for (size_t i = 0; i + 1 < scores_at_.size(); ++i)
    rows_fixed = rows_fixed && !(depends(t_.pool, scores_at_[i]) & bit(Axis::kv));
  if (!rows_fixed) stop(id, "the product with V does not sum over exactly the axis that the softmax normalises");
  return rows_fixed;
}

bool Attempt::read_scores() {
  spec_.accumulate = DType::f32;
  for (ValueId id : {scores_, pv_, product_.operands[0]})
    if (graph_.type(id).dtype == DType::f64) spec_.accumulate = DType::f64;
  const Fill fill = weights_.softmax == kNoValue ? Fill::zero : Fill::minus_infinity;
  const MaskedValue masked = reader_.read(scores_, scores_at_, fill);
  if (dots_.empty()) stop(scores_, "no product of queries and keys leads to these scores");
  if (stopped()) return false;
  const auto value = merge_dots(t_.pool, masked.value, dots_.size());
  if (!value)
    stop(dots_.back().product, fmt::format("the scores use several products (%{} and this one) in another way than as "
                                           "a sum under one scale",
                                           graph_[dots_[0].product].name));
  if (stopped()) return false;
  AxisExtents extents{{{Axis::q, spec_.q_len}, {Axis::kv, spec_.kv_len}}};
  if (const auto batch = product(spec_.batch)) extents.known.emplace_back(Axis::b, *batch);
  if (const auto heads = product(spec_.heads)) extents.known.emplace_back(Axis::h, *heads);
  spec_.score = simplify(extract(t_.pool, t_.cast(*value, spec_.accumulate)), extents);
  const ExprId always = t_.pool.constant_int(1, DType::boolean);
  spec_.keep = simplify(extract(t_.pool, masked.keep.value_or(always)), extents);
  return true;
}

std::optional<ExprId> Attempt::read_dot(ValueId id, const Indices& at) {
  const Node& product = graph_[id];
  for (const Dot& known : dots_)
    if (known.product == id && known.at == at) return known.score;
  const ExprId row = at[at.size() - 2], column = at.back();
  const uint32_t on_row = depends(t_.pool, row), on_column = depends(t_.pool, column);
  const uint32_t q = bit(Axis::q), kv = bit(Axis::kv);
  const bool straight = !(on_row & kv) && !(on_column & q) && ((on_column & kv) || spec_.kv_len.is_constant(1));
  const bool crossed = !straight && !(on_row & q) && !(on_column & kv) && (on_row & kv);
  const Indices lead(at.begin(), at.end() - 2);
  for (ExprId axis : lead)
    if (depends(t_.pool, axis) & (q | kv)) return std::nullopt;
  if (!straight && !crossed) return std::nullopt;

  Dot dot;
  dot.product = id;
  dot.at = at;
  for (ValueId value : {id, product.operands[0]})
    if (graph_.type(value).dtype == DType::f64) spec_.accumulate = DType::f64;
  const Dim& head_dim = graph_.type(product.operands[0]).shape.back();
  if (!head_dim.is_constant() || head_dim.constant() < 1 || head_dim.constant() > kMaxHeadDim)
    stop(id, fmt::format("the head dim is {}; a constant from 1 to {} is needed", to_string(head_dim), kMaxHeadDim));
  dot.head_dim = head_dim.constant();
  const ExprId d = t_.math.axis(Axis::d, head_dim);
  const auto trace = [&](LookThrough through) {
    for (size_t i : {0u, 1u}) {
      const bool is_query = straight == (i == 0);
      const Indices where = contract_operand(product, i, lead, row, column, d);
      auto operand = trace_dot_operand(facts_, t_, product.operands[i], where, is_query ? Axis::q : Axis::kv, through);
      if (!operand) {
        stop(product.operands[i], "its elements are no strided access over (b, h, position, d)");
        operand = DotOperand{product.operands[i], where, {}};
      }
      (is_query ? dot.query : dot.key) = std::move(*operand);
    }
  };
  trace({});
  // Q and K of a spec share a dtype; one that was cast to meet the other is read after its cast.
  if (graph_.type(dot.query.root).dtype != graph_.type(dot.key.root).dtype) trace({false, true});
  dot.score = scaled_score(product, dot, dots_.size());
  dots_.push_back(std::move(dot));
  return dots_.back().score;
}

ExprId Attempt::scaled_score(const Node& product, const Dot& dot, size_t term) {
  ExprId s = partial_score(t_.pool, term, spec_.accumulate);
  for (const DotOperand* operand : {&dot.query, &dot.key})
    for (const Factor& factor : operand->factors)
      s = t_.pool.op(factor.divides ? Op::div : Op::mul, spec_.accumulate,
                     {s, t_.cast(factor.value, spec_.accumulate)});
  return t_.cast(s, product.type.dtype);
}

bool Attempt::read_value() {
  const bool transposed = weights_.operand == 1;
  const Dim& value_dim = product_.type.shape[product_.type.shape.size() - (transposed ? 2 : 1)];
  if (!value_dim.is_constant() || value_dim.constant() < 1 || value_dim.constant() > kMaxHeadDim) {
    stop(pv_,
         fmt::format("the head dim of V is {}; a constant from 1 to {} is needed", to_string(value_dim), kMaxHeadDim));
    return false;
  }
  spec_.value_dim = value_dim.constant();
  d_ = t_.pool.index(Axis::d);
  if (spec_.value_dim == 1) d_ = t_.math.constant(0);
  t_.math.set_extent(d_, value_dim);
  const size_t i = 1 - weights_.operand;
  const Indices at = contract_operand(product_, i, lead_, d_, d_, kv_);
  auto value = trace_dot_operand(facts_, t_, product_.operands[i], at, Axis::kv, {true, false});
  if (!value) {
    stop(product_.operands[i], "its elements are no strided access over (b, h, kv, d)");
    return false;
  }
  value_ = std::move(*value);
  return true;
}

void Attempt::set_head_group() {
  std::vector<const Indices*> accesses{&value_.at};
  for (const Dot& dot : dots_) accesses.push_back(&dot.key.at);
  const int64_t group = common_head_group(t_.pool, accesses);
  const auto heads = product(spec_.heads);
  keys_depend_on_heads_ = group != 0;
  spec_.head_group = 1;
  if (!heads) return;
  if (group == 0)
    spec_.head_group = heads->is_constant() ? std::max<int64_t>(heads->constant(), 1) : 1;
  else if (divide(*heads, group))
    spec_.head_group = group;
}

void Attempt::read_sink() {
  if (weights_.softmax == kNoValue) return;
  const ValueId sink = Graph::operand(graph_[weights_.softmax], 1);
  if (sink == kNoValue) return;
  const Shape& shape = graph_.type(sink).shape;
  Indices row = scores_at_;
  row.back() = t_.math.constant(0);
  // [H] is one value per head (axis rank-3); anything else broadcasts to the rows.
  const bool per_head = shape.size() == 1 && !shape[0].is_constant(1) && row.size() >= 3;
  const Indices at = per_head ? Indices{row[row.size() - 3]} : broadcast_indices(t_.math, shape, row);
  const ExprId value = t_.cast(t_.read(sink, at), spec_.accumulate);
  if (depends(t_.pool, value) & (kDependsOnScore | bit(Axis::kv))) stop(sink, "the sink depends on the scores");
  spec_.sink = simplify(extract(t_.pool, value));
}

}  // namespace tilewright::fusion
