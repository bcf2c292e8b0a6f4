#include "compiler/fuse/attempt.h"

#include <algorithm>
#include <numeric>

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
      reader_(facts.graph, t_),
      frame_(frame(head_axes)),
      dots_(facts, t_, frame_) {
  spec_.batch = frame_.batch;
  spec_.heads = frame_.heads;
  spec_.q_len = frame_.q_len;
  spec_.kv_len = frame_.kv_len;
}

ScoreFrame Attempt::frame(size_t head_axes) {
  const Shape& out = product_.type.shape;
  const bool transposed = weights_.operand == 1;
  return {t_, Shape(out.begin(), out.end() - 2), head_axes, out[out.size() - (transposed ? 1 : 2)],
          graph_.type(product_.operands[0]).shape.back()};
}

void Attempt::stop(ValueId value, std::string reason) {
  if (!note_) note_ = FusionNote{graph_[value].name, graph_[value].line, std::move(reason)};
}

bool Attempt::stopped() {
  if (dots_.stopped_by != kNoValue) stop(dots_.stopped_by, dots_.reason);
  return note_.has_value();
}

std::variant<AttentionMatch, FusionNote> Attempt::run() {
  if (find_scores() && read_scores() && read_value()) {
    read_rows();
    set_head_group();
    read_sink();
    set_weight_factor();
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
  Indices at = contract_operand(t_, graph_, product_, weights_.operand, frame_.lead, frame_.q,
                                transposed ? frame_.q : frame_.kv, frame_.kv);
  const auto used_once = [&](ValueId value) {
    if (facts_.uses(value) <= 1) return true;
    const bool returned = facts_.result_uses[GraphFacts::at(value)] > 0;
    stop(value, returned ? "the attention weights are returned, so they have to exist in memory"
                         : "the attention weights are used more than once, so they have to exist in memory");
    return false;
  };
  const std::vector<WeightChain> chains = weight_chains(facts_);
  while (id != weights_.softmax) {
    if (!used_once(id)) return false;
    const Node& node = graph_[id];
    if (const int scaled = chains[GraphFacts::at(id)].scaled; weights_.softmax != kNoValue && scaled >= 0) {
      note_factor(node, static_cast<size_t>(scaled), at);
      const ValueId inner = node.operands[static_cast<size_t>(scaled)];
      one_to_one_ = one_to_one_ && graph_.type(inner).shape == node.type.shape;
      at = t_.operand_indices(inner, at);
      id = inner;
      continue;
    }
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
  bool rows_fixed = scores_at_.back() == frame_.kv && softmax.type.shape.back() == spec_.kv_len;
  for (size_t i = 0; i + 1 < scores_at_.size(); ++i)
    rows_fixed = rows_fixed && !(depends(t_.pool, scores_at_[i]) & bit(Axis::kv));
  if (!rows_fixed) stop(id, "the product with V does not sum over exactly the axis that the softmax normalises");
  return rows_fixed;
}

void Attempt::note_factor(const Node& node, size_t i, const Indices& at) {
  if (node.op == Op::select)
    factors_.push_back({node.op, t_.read_operand(node, 0, at), i == 2});
  else
    factors_.push_back({node.op, t_.read_operand(node, 1 - i, at)});
}

void Attempt::set_weight_factor() {
  if (factors_.empty()) return;
  Expr& pool = t_.pool;
  const ExprId zero = pool.constant(0, spec_.accumulate);
  ExprId all = pool.constant(1, spec_.accumulate);
  for (size_t i = factors_.size(); i-- > 0;) {
    const WeightFactor& f = factors_[i];
    if (f.op == Op::select)
      all = pool.op(f.op, spec_.accumulate, {f.value, f.negated ? zero : all, f.negated ? all : zero});
    else
      all = pool.op(f.op, spec_.accumulate, {all, t_.cast(f.value, spec_.accumulate)});
  }
  spec_.weight_factor = simplify(extract(pool, all));
}

bool Attempt::read_scores() {
  for (ValueId id : {scores_, pv_, product_.operands[0]})
    if (graph_.type(id).dtype == DType::f64) dots_.accumulate = DType::f64;
  const Fill fill = weights_.softmax == kNoValue ? Fill::zero : Fill::minus_infinity;
  const MaskedValue masked = reader_.read(scores_, scores_at_, fill);
  spec_.accumulate = dots_.accumulate;
  if (dots_.dots.empty()) stop(scores_, "no product of queries and keys leads to these scores");
  if (stopped()) return false;
  ExprId roots[] = {masked.value, masked.keep.value_or(t_.pool.constant_int(1, DType::boolean))};
  const auto products = merge_dots(t_.pool, roots, dots_.dots.size());
  const int64_t all = (int64_t{1} << dots_.dots.size()) - 1;
  if (!products || (!products->empty() && (*products)[0] != all))
    stop(dots_.dots.back().product,
         fmt::format("the scores use several products (%{} and this one) in another way than as a sum under one scale",
                     graph_[dots_.dots[0].product].name));
  if (stopped()) return false;
  number_products(t_.pool, roots, *products);
  const AxisExtents extents = frame_.extents();
  spec_.score = simplify(extract(t_.pool, t_.cast(roots[0], spec_.accumulate)), extents);
  spec_.keep = simplify(extract(t_.pool, roots[1]), extents);
  return true;
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
  const Indices at = contract_operand(t_, graph_, product_, i, frame_.lead, d_, d_, frame_.kv);
  auto value = trace_dot_operand(facts_, t_, product_.operands[i], at, Axis::kv, {true, false});
  if (!value) {
    stop(product_.operands[i], "its elements are no strided access over (b, h, kv, d)");
    return false;
  }
  value_ = std::move(*value);
  spec_.weights = rounding_of(graph_.type(product_.operands[weights_.operand]).dtype);
  return true;
}

void Attempt::read_rows() {
  for (ScoreDot& dot : dots_.dots) {
    DotPrograms& rows = rows_.emplace_back();
    const Indices lead(dot.at.begin(), dot.at.end() - 2);
    for (const bool query : {true, false}) {
      const size_t side = query == dot.straight ? 0 : 1;
      const auto at = [&](Tracer& t, ExprId k) {
        return contract_operand(t, graph_, graph_[dot.product], side, lead, dot.at[dot.at.size() - 2], dot.at.back(),
                                k);
      };
      RowReading reading = read_row(facts_, t_, frame_,
                                    {dot.product, query ? &dot.query : &dot.key, at, dot.head_dim, spec_.accumulate});
      const ValueId operand = (query ? dot.query : dot.key).root;
      if (!reading.refused.empty())
        match_.kept_rows.push_back({graph_[operand].name, graph_[operand].line, reading.refused});
      if (!reading.row) continue;
      std::vector<int> tensors;
      for (const ValueId tensor : reading.row->tensors) tensors.push_back(t_.tensor(tensor));
      RowProgram row = with_tensors(std::move(reading.row->row), tensors);
      row.dtype = rounding_of(graph_.type(graph_[dot.product].operands[side]).dtype);
      (query ? rows.query : rows.key) = std::move(row);
    }
    // A stored operand was cast to meet the dtype of the other one, which is gone.
    for (const bool query : {true, false}) {
      DotOperand& stored = query ? dot.query : dot.key;
      if (!(query ? rows.key : rows.query) || (query ? rows.query : rows.key)) continue;
      auto behind = trace_dot_operand(facts_, t_, stored.root, stored.at, query ? Axis::q : Axis::kv, {true, false});
      if (!behind) continue;
      stored.root = behind->root;
      stored.at = std::move(behind->at);
    }
  }
}

void Attempt::set_head_group() {
  std::vector<const Indices*> accesses{&value_.at};
  for (size_t i = 0; i < rows_.size(); ++i)
    if (!rows_[i].key) accesses.push_back(&dots_.dots[i].key.at);
  int64_t group = common_head_group(t_.pool, accesses);
  for (const DotPrograms& rows : rows_)
    if (rows.key) group = std::gcd(group, head_group(rows.key->values, roots(*rows.key)));
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
