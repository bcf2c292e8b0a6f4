#include "compiler/fuse/backward_attempt.h"

#include <algorithm>

namespace tilewright::fusion {
namespace {

ScoreFrame make_frame(Tracer& t, const ScoreExit& exit, size_t head_axes) {
  return {t, exit.lead, head_axes, exit.q_len, exit.kv_len};
}

}  // namespace

BackwardAttempt::BackwardAttempt(const GraphFacts& facts, const std::vector<const ScoreExit*>& exits, size_t head_axes)
    : facts_(facts),
      graph_(facts.graph),
      exits_(exits),
      t_(facts, Region::attention),
      reader_(facts.graph, t_),
      frame_(make_frame(t_, *exits[0], head_axes)),
      dots_(facts, t_, frame_) {
  spec_.batch = frame_.batch;
  spec_.heads = frame_.heads;
  spec_.q_len = frame_.q_len;
  spec_.kv_len = frame_.kv_len;
  for (const ScoreExit* exit : exits_)
    for (ValueId id : {exit->core, exit->value, exit->user})
      if (id != kNoValue && graph_.type(id).dtype == DType::f64) dots_.accumulate = DType::f64;
}

void BackwardAttempt::stop(ValueId value, std::string reason) {
  if (!note_) note_ = FusionNote{graph_[value].name, graph_[value].line, std::move(reason)};
}

bool BackwardAttempt::stopped() {
  if (dots_.stopped_by != kNoValue) stop(dots_.stopped_by, dots_.reason);
  return note_.has_value();
}

std::variant<BackwardMatch, FusionNote> BackwardAttempt::run() {
  for (const ScoreExit* exit : exits_) {
    if (stopped()) return *note_;
    read(*exit);
  }
  spec_.accumulate = dots_.accumulate;
  if (!stopped()) choose_groups();
  if (stopped() || !number_dots()) return *note_;
  split_masks();
  return finish();
}

void BackwardAttempt::read(const ScoreExit& exit) {
  const Shape& shape = graph_.type(exit.core).shape;
  Indices at = broadcast_indices(t_.math, Shape(shape.begin(), shape.end() - 2), frame_.lead);
  at.push_back(exit.crossed ? frame_.kv : frame_.q);
  at.push_back(exit.crossed ? frame_.q : frame_.kv);
  const MaskedValue weight = reader_.read(exit.core, at, Fill::zero);
  for (ValueId view : views_between(graph_, exit.core, exit.value)) {
    if (graph_[view].op == Op::cast) continue;
    auto moved = view_result_indices(t_.math, graph_, graph_[view], at);
    if (!moved) return stop(view, "this view of the scores repeats or drops elements");
    at = std::move(*moved);
  }
  if (exit.user != kNoValue) users_.push_back(exit.user);
  const OpGroup group = exit.user == kNoValue ? OpGroup::leaf : info(graph_[exit.user].op).group;
  if (group == OpGroup::contract)
    read_product(exit, weight, at);
  else if (group == OpGroup::reduce)
    follow_sum(exit.user, exit.value, at, weight, true);
  else
    store(exit.value, at, weight, true);
}

void BackwardAttempt::read_product(const ScoreExit& exit, const MaskedValue& weight, const Indices& at) {
  const Node& node = graph_[exit.user];
  const size_t i = exit.operand;
  const bool k_last = i == 0 || node.op == Op::matmul_nt;
  const ExprId contracted = at[at.size() - (k_last ? 1 : 2)], outer = at[at.size() - (k_last ? 2 : 1)];
  Product product;
  product.row = contracted == frame_.kv;
  if (!product.row && contracted != frame_.q) {
    users_.pop_back();
    return store(exit.value, at, weight, true);
  }
  const Shape& out = node.type.shape;
  Indices lead(at.begin(), at.end() - 2);
  const Shape& shape = graph_.type(exit.value).shape;
  if (Shape(shape.begin(), shape.end() - 2) != Shape(out.begin(), out.end() - 2)) lead = frame_.lead;
  if (lead.size() + 2 != out.size()) return stop(exit.user, "this product repeats the scores along other axes");
  const Dim& width = out[out.size() - (i == 0 ? 1 : 2)];
  if (!width.is_constant() || width.constant() < 1 || width.constant() > kMaxHeadDim)
    return stop(exit.user,
                fmt::format("its width is {}; a constant from 1 to {} is needed", to_string(width), kMaxHeadDim));
  product.width = width.constant();
  product.rounding = rounding_of(graph_.type(node.operands[i]).dtype);
  const ExprId d = t_.math.axis(Axis::d, width);
  const Indices where = contract_operand(t_, graph_, node, 1 - i, lead, d, d, contracted);
  const ValueId other = node.operands[1 - i];
  auto operand = trace_dot_operand(facts_, t_, other, where, product.row ? Axis::kv : Axis::q, {});
  if (!operand) return stop(other, "its elements are no strided access over (b, h, position, d)");
  product.operand = std::move(*operand);
  product.keep = weight.keep;
  Indices to = std::move(lead);
  to.push_back(i == 0 ? outer : d);
  to.push_back(i == 0 ? d : outer);
  if (!is_strided_access(t_.math, t_.pool, to, product.row ? Axis::q : Axis::kv))
    return stop(exit.user, "its elements are no strided access over (b, h, position, d)");
  const ExprId value = t_.cast(weight.value, dots_.accumulate);
  product.plain = {exit.user, std::move(to), with_factors(t_, value, product.operand.factors, dots_.accumulate)};
  follow(product);
  products_.push_back(std::move(product));
}

void BackwardAttempt::follow(Product& product) {
  const Axis sequence = product.row ? Axis::q : Axis::kv;
  const auto follow_all = [&](Target& target) {
    do target.value = follow_views(facts_, t_, target.value, target.at, sequence, true);
    while (follow_factor(target));
  };
  follow_all(product.plain);
  product.grouped = product.plain;
  if (!product.row && follow_group(product, product.grouped)) follow_all(product.grouped);
}

/// Multiplication or division by one number, and negation.
bool BackwardAttempt::follow_factor(Target& target) {
  const auto& users = facts_.users[GraphFacts::at(target.value)];
  if (facts_.result_uses[GraphFacts::at(target.value)] > 0 || users.size() != 1) return false;
  const Node& user = graph_[users[0]];
  if (user.op == Op::neg) {
    target.weight = t_.pool.op(Op::neg, dots_.accumulate, {target.weight});
  } else if (user.op == Op::mul || user.op == Op::div) {
    const size_t i = user.operands[0] == target.value ? 1 : 0;
    if (user.op == Op::div && i == 0) return false;
    const ValueId factor = user.operands[i];
    ValueId scalar = factor;
    while (t_.is_open_view(scalar) || t_.is_open_cast(scalar)) scalar = graph_[scalar].operands[0];
    if (graph_.type(scalar).rank() != 0 || !facts_.cheap[GraphFacts::at(scalar)]) return false;
    if (user.type.shape != graph_.type(target.value).shape) return false;
    const ExprId value = t_.cast(t_.read_operand(user, i, target.at), dots_.accumulate);
    target.weight = t_.pool.op(user.op, dots_.accumulate, {target.weight, value});
  } else {
    return false;
  }
  target.value = users[0];
  return true;
}

/// The sum over the query heads that share a key head.
bool BackwardAttempt::follow_group(Product& product, Target& target) {
  const auto& users = facts_.users[GraphFacts::at(target.value)];
  if (facts_.result_uses[GraphFacts::at(target.value)] > 0 || users.size() != 1) return false;
  const Node& user = graph_[users[0]];
  if (user.op != Op::reduce_sum) return false;
  const auto axis = static_cast<size_t>(user.attributes.axis);
  const Dim& extent = graph_.type(target.value).shape[axis];
  const ExprNode& index = t_.pool[target.at[axis]];
  const ExprId heads = t_.pool.index(Axis::h);
  const auto all = tilewright::product(frame_.heads);
  const bool whole = target.at[axis] == heads && all && *all == extent;
  const bool rest = index.kind == ExprKind::op && index.op == Op::mod && index.args[0] == heads;
  if (!extent.is_constant() || extent.is_constant(0) || (!whole && !rest)) return false;
  Indices at = target.at;
  if (user.attributes.keepdims)
    at[axis] = t_.math.constant(0);
  else
    at.erase(at.begin() + user.attributes.axis);
  const int64_t left = common_head_group(t_.pool, {&at});
  if (left % extent.constant() != 0) return false;
  product.group = extent.constant();
  target.at = std::move(at);
  target.value = users[0];
  return true;
}

/// One group for all: where the graph does not sum all column products over it, none is.
void BackwardAttempt::choose_groups() {
  std::vector<const Indices*> keys;
  for (const ScoreDot& dot : dots_.dots) keys.push_back(&dot.key.at);
  for (const Product& product : products_)
    if (product.row) keys.push_back(&product.operand.at);
  const int64_t common = common_head_group(t_.pool, keys);
  keys_depend_on_heads_ = common != 0;
  const auto heads = tilewright::product(frame_.heads);
  int64_t group = common;
  if (group == 0) group = heads && heads->is_constant() ? std::max<int64_t>(heads->constant(), 1) : 1;
  if (!heads || !divide(*heads, group)) group = 1;
  bool agree = true;
  std::optional<int64_t> summed;
  for (const Product& product : products_) {
    if (product.row) continue;
    agree = agree && (!summed || *summed == product.group);
    summed = product.group;
  }
  if (summed) group = agree && group % *summed == 0 ? *summed : 1;
  spec_.head_group = group;
  if (group != 1 || !summed)
    for (Product& product : products_)
      if (!product.row) product.plain = product.grouped;
}

void BackwardAttempt::store(ValueId value, const Indices& at, const MaskedValue& weight, bool in_bounds) {
  const auto same = [&](const Sum& sum) { return sum.value == value; };
  if (std::any_of(sums_.begin(), sums_.end(), same)) return;
  sums_.push_back({value, t_.cast(weight.value, dots_.accumulate), weight.keep, at, in_bounds});
}

bool BackwardAttempt::is_linear_step(ValueId user, ValueId from) const {
  const Node& node = graph_[user];
  if (node.type.shape != graph_.type(from).shape) return false;
  switch (node.op) {
    case Op::neg: return true;
    case Op::mul: return node.operands[0] != node.operands[1];
    case Op::div: return node.operands[0] == from && node.operands[1] != from;
    case Op::select: {
      const Scalar* other = t_.literal(node.operands[1] == from ? node.operands[2] : node.operands[1]);
      return other && other->real == 0 && node.operands[0] != from;
    }
    default: return false;
  }
}

bool BackwardAttempt::leads_to_sum(ValueId value) const {
  const auto& users = facts_.users[GraphFacts::at(value)];
  if (facts_.result_uses[GraphFacts::at(value)] > 0 || users.empty() || facts_.stored[GraphFacts::at(value)])
    return false;
  return std::all_of(users.begin(), users.end(), [&](ValueId id) {
    const Node& user = graph_[id];
    if (is_sum(user.op) && user.operands[0] == value) return true;
    const bool step =
        user.op == Op::transpose || user.op == Op::reshape || is_float_cast(graph_, user) || is_linear_step(id, value);
    return step && leads_to_sum(id);
  });
}

void BackwardAttempt::follow_sums(ValueId value, const Indices& at, const MaskedValue& weight, bool in_bounds) {
  if (leads_to_sum(value)) {
    for (ValueId user : facts_.users[GraphFacts::at(value)]) follow_sum(user, value, at, weight, in_bounds);
    return;
  }
  Indices to = at;
  while (facts_.result_uses[GraphFacts::at(value)] == 0 && facts_.users[GraphFacts::at(value)].size() == 1) {
    const ValueId id = facts_.users[GraphFacts::at(value)][0];
    const Node& user = graph_[id];
    if (!is_float_cast(graph_, user)) {
      auto moved = is_simple_view(user.op) ? view_result_indices(t_.math, graph_, user, to) : std::nullopt;
      if (!moved) break;
      to = std::move(*moved);
    }
    value = id;
  }
  store(value, to, weight, in_bounds);
}

void BackwardAttempt::follow_sum(ValueId id, ValueId from, Indices at, MaskedValue weight, bool in_bounds) {
  sums_scores_ = true;
  const Node& user = graph_[id];
  const DType dtype = compute_type(user.type.dtype);
  if (user.op == Op::scatter_add) {
    Indices index;
    for (size_t i = 1; i < user.operands.size(); ++i)
      index.push_back(t_.cast(t_.read_operand(user, i, at), DType::i64));
    at = std::move(index);
    in_bounds = false;
  } else if (user.op == Op::reduce_sum) {
    if (user.attributes.keepdims)
      at[static_cast<size_t>(user.attributes.axis)] = t_.math.constant(0);
    else
      at.erase(at.begin() + user.attributes.axis);
  } else if (is_simple_view(user.op)) {
    at = *view_result_indices(t_.math, graph_, user, at);
  } else if (user.op == Op::cast) {
    weight.value = t_.cast(weight.value, user.type.dtype);
  } else if (is_linear_step(id, from)) {
    std::vector<ExprId> args;
    for (size_t i = 0; i < user.operands.size(); ++i)
      args.push_back(user.operands[i] == from ? weight.value : t_.read_operand(user, i, at));
    weight.value = t_.pool.op(user.op, dtype, std::move(args));
  } else {
    return stop(id, fmt::format("{} of scores is no sum", info(user.op).name));
  }
  follow_sums(id, at, weight, in_bounds);
}

}  // namespace tilewright::fusion
