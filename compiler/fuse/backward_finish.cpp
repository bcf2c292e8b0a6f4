// The second half of an attempt: which products are s and t, the mask that all weights share, the spec's own tensors.
#include <algorithm>

#include "compiler/conjuncts.h"
#include "compiler/fuse/backward_attempt.h"
#include "compiler/fuse/merge_dots.h"

namespace tilewright::fusion {
namespace {

bool is_single(int64_t terms) { return (terms & (terms - 1)) == 0; }

/// True when the scores of `terms` enter every root linearly.
bool is_linear_in(const Expr& pool, std::span<const ExprId> roots, int64_t terms) {
  Expr expr;
  for (ExprId root : roots) expr.import(pool, root);
  std::vector<bool> on;
  for (const ExprNode& node : expr.nodes()) {
    const auto reads = [&](size_t i) { return on[static_cast<size_t>(raw(node.args[i]))]; };
    int readers = 0;
    for (size_t i = 0; i < node.args.size(); ++i) readers += reads(i);
    on.push_back(readers > 0 || (node.kind == ExprKind::score && node.literal.integer == terms));
    if (readers == 0) continue;
    if (node.kind != ExprKind::op) return false;
    switch (node.op) {
      case Op::add:
      case Op::sub:
      case Op::neg:
      case Op::cast: break;
      case Op::mul:
        if (readers > 1) return false;
        break;
      case Op::div:
        if (reads(1)) return false;
        break;
      case Op::select:
        if (reads(0)) return false;
        break;
      default: return false;
    }
  }
  return true;
}

using Conjunct = std::pair<ExprId, bool>;

bool contains(const std::vector<Conjunct>& all, const Conjunct& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

ExprId conjunction(SimplifyingBuilder& out, const std::vector<Conjunct>& conditions) {
  ExprId all = out.boolean(true);
  for (const auto& [id, wanted] : conditions)
    all = out.op(Op::logical_and, {all, wanted ? id : out.op(Op::logical_not, {id})});
  return all;
}

}  // namespace

/// s is what weights are functions of; t, when there is one, enters them linearly.
bool BackwardAttempt::number_dots() {
  std::vector<ExprId*> places;
  std::vector<ExprId> roots, weights;
  const auto add = [&](ExprId& root) {
    places.push_back(&root);
    roots.push_back(root);
  };
  for (Product& product : products_) add(product.plain.weight);
  for (Sum& sum : sums_) add(sum.weight);
  const size_t count = roots.size();
  for (Product& product : products_)
    if (product.keep) add(*product.keep);
  for (Sum& sum : sums_) {
    if (sum.keep) add(*sum.keep);
    for (ExprId& index : sum.index) add(index);
  }
  const ValueId first = exits_[0]->value;
  const auto found = merge_dots(t_.pool, roots, dots_.dots.size());
  if (!found || found->empty() || found->size() > 2) {
    const std::string what = !found           ? "use their products in another way than as sums under one scale"
                             : found->empty() ? "come from no product of rows over queries and rows over keys"
                                              : fmt::format(
                                                    "are functions of {} products, at most two can be "
                                                    "recomputed",
                                                    found->size());
    stop(first, "these scores " + what);
    return false;
  }
  std::vector<int64_t> order = *found;
  if (order.size() == 2) {
    const auto may_be_t = [&](size_t i) { return is_single(order[i]); };
    const std::span<const ExprId> values(roots.data(), count);
    const auto is_t = [&](size_t i) { return may_be_t(i) && is_linear_in(t_.pool, values, order[i]); };
    if (!is_t(1) && (is_t(0) || (may_be_t(0) && !may_be_t(1)))) std::swap(order[0], order[1]);
    if (!may_be_t(1)) {
      stop(first, "the gradient of these weights is a sum of several products");
      return false;
    }
  }
  number_products(t_.pool, roots, order);
  for (size_t i = 0; i < places.size(); ++i) *places[i] = roots[i];
  for (size_t i = 0; i < dots_.dots.size(); ++i) {
    if (order[0] >> i & 1) terms_.push_back(i);
    if (order.size() == 2 && order[1] == int64_t{1} << i) t_term_ = i;
  }
  return true;
}

/// keep is what all weights imply; within it, it is known to hold. A weight that implies more selects for itself.
void BackwardAttempt::split_masks() {
  const AxisExtents extents = frame_.extents();
  SimplifyingBuilder in(extents), out(extents);
  std::vector<ExprId*> weights, indices;
  std::vector<std::vector<Conjunct>> masks;
  const auto import_weight = [&](ExprId& weight, const std::optional<ExprId>& keep) {
    weight = in.import(t_.pool, weight);
    weights.push_back(&weight);
    masks.emplace_back();
    if (keep) masks.back() = conjuncts(in, in.import(t_.pool, *keep));
  };
  for (Product& product : products_) import_weight(product.plain.weight, product.keep);
  for (Sum& sum : sums_) {
    import_weight(sum.weight, sum.keep);
    for (ExprId& index : sum.index) {
      index = in.import(t_.pool, index);
      indices.push_back(&index);
    }
  }
  std::vector<Conjunct> shared;
  for (const Conjunct& one : masks[0]) {
    const auto has = [&](const std::vector<Conjunct>& mask) { return contains(mask, one); };
    if (std::all_of(masks.begin(), masks.end(), has)) shared.push_back(one);
  }
  int32_t nodes = 0;
  const auto cover = [&](ExprId id) { nodes = std::max(nodes, raw(id) + 1); };
  for (ExprId* id : weights) cover(*id);
  for (ExprId* id : indices) cover(*id);
  for (const auto& mask : masks)
    for (const Conjunct& one : mask) cover(one.first);
  std::vector<ExprId> moved;
  for (int32_t i = 0; i < nodes; ++i) {
    const auto known =
        std::find_if(shared.begin(), shared.end(), [&](const Conjunct& one) { return raw(one.first) == i; });
    ExprNode node = in[ExprId{i}];
    for (ExprId& arg : node.args) arg = moved[static_cast<size_t>(raw(arg))];
    moved.push_back(known != shared.end() ? out.boolean(known->second) : out.add(std::move(node)));
  }
  const auto now = [&](ExprId id) { return moved[static_cast<size_t>(raw(id))]; };
  ExprNode zero;
  zero.dtype = spec_.accumulate;
  for (size_t i = 0; i < weights.size(); ++i) {
    std::vector<Conjunct> own;
    for (const auto& [id, wanted] : masks[i])
      if (!contains(shared, {id, wanted})) own.emplace_back(now(id), wanted);
    const ExprId value = now(*weights[i]);
    const ExprId selected = out.op(Op::select, spec_.accumulate, {conjunction(out, own), value, out.add(zero)});
    *weights[i] = spec_.weights.import(out.take(own.empty() ? value : selected));
  }
  for (ExprId* index : indices) *index = spec_.weights.import(out.take(now(*index)));
  spec_.keep = in.take(conjunction(in, shared));
}

Access BackwardAttempt::access(ValueId tensor, const Indices& at) {
  Access out;
  out.tensor = t_.tensor(tensor);
  for (ExprId axis : at) out.axes.push_back(extract(t_.pool, axis));
  return out;
}

BackwardMatch BackwardAttempt::finish() {
  BackwardMatch match;
  const auto term = [&](size_t i) {
    const ScoreDot& dot = dots_.dots[i];
    match.products.push_back(dot.product);
    return DotTerm{access(dot.query.root, dot.query.at), access(dot.key.root, dot.key.at), dot.head_dim};
  };
  for (size_t i : terms_) spec_.dots.push_back(term(i));
  if (t_term_) spec_.output_gradient = term(*t_term_);
  for (const Product& product : products_)
    (product.row ? spec_.rows : spec_.columns)
        .push_back({product.plain.weight, access(product.operand.root, product.operand.at), product.width,
                    access(product.plain.value, product.plain.at), product.rounding});
  for (const Sum& sum : sums_) spec_.captured.push_back({sum.weight, t_.tensor(sum.value), sum.index, sum.in_bounds});

  // Tensors in the order people expect: q, k, dO, v, other operands, what the expressions load, results.
  std::vector<int> moved(t_.tensors.size(), -1);
  const auto place = [&](int& tensor) {
    int& slot = moved[static_cast<size_t>(tensor)];
    if (slot < 0) {
      slot = static_cast<int>(match.tensors.size());
      const ValueId value = t_.tensors[static_cast<size_t>(tensor)];
      match.tensors.push_back(value);
      spec_.tensors.push_back({graph_[value].name, graph_.type(value), false});
    }
    tensor = slot;
  };
  const auto place_loads = [&](Expr& expr) {
    Expr renamed;
    for (ExprNode node : expr.nodes()) {
      if (node.tensor >= 0) place(node.tensor);
      renamed.add(std::move(node));
    }
    renamed.set_root(expr.root());
    expr = std::move(renamed);
  };
  for (DotTerm& dot : spec_.dots) {
    place(dot.query.tensor);
    place(dot.key.tensor);
  }
  if (spec_.output_gradient) {
    place(spec_.output_gradient->query.tensor);
    place(spec_.output_gradient->key.tensor);
  }
  for (auto* products : {&spec_.rows, &spec_.columns})
    for (BackwardProduct& product : *products) place(product.operand.tensor);
  place_loads(spec_.weights);
  place_loads(spec_.keep);
  const size_t inputs = spec_.tensors.size();
  for (auto* products : {&spec_.rows, &spec_.columns})
    for (BackwardProduct& product : *products) place(product.output.tensor);
  for (CapturedSum& sum : spec_.captured) place(sum.tensor);
  for (size_t i = inputs; i < spec_.tensors.size(); ++i) spec_.tensors[i].output = true;
  match.users = std::move(users_);
  match.sums = sums_scores_;
  match.spec = std::move(spec_);
  return match;
}

}  // namespace tilewright::fusion
