#include "compiler/fuse/match_attention.h"

#include "compiler/fuse/attempt.h"

namespace tilewright::fusion {
namespace {

/// Walks down the pointwise chain under the weights of a product without a normaliser.
struct ChainWalk {
  const GraphFacts& facts;
  std::vector<bool> seen;
  std::vector<ValueId> products;
  bool nonlinear = false;

  explicit ChainWalk(const GraphFacts& f) : facts(f), seen(f.graph.nodes.size(), false) {}

  void visit(ValueId id) {
    if (seen[GraphFacts::at(id)] || facts.stored[GraphFacts::at(id)]) return;
    const Node& node = facts.graph[id];
    const OpGroup group = info(node.op).group;
    if (group == OpGroup::contract) products.push_back(id);
    if (group != OpGroup::pointwise && !is_simple_view(node.op)) return;
    if (node.op == Op::load) return;
    seen[GraphFacts::at(id)] = true;
    const bool linear = is_simple_view(node.op) || node.op == Op::cast || node.op == Op::mul || node.op == Op::div ||
                        node.op == Op::add || node.op == Op::sub || node.op == Op::neg;
    for (ValueId operand : node.operands) {
      const size_t before = products.size();
      visit(operand);
      if (products.size() > before && !linear) nonlinear = true;
    }
  }

  /// No product is read outside the chain, so that fusing leaves nothing of it behind.
  bool closed() const {
    for (ValueId product : products) {
      if (facts.result_uses[GraphFacts::at(product)] > 0) return false;
      for (ValueId user : facts.users[GraphFacts::at(product)])
        if (!seen[GraphFacts::at(user)]) return false;
    }
    return true;
  }
};

}  // namespace

std::optional<WeightsOperand> find_weights(const GraphFacts& facts, ValueId pv) {
  const Node& product = facts.graph[pv];
  for (size_t i : {0u, 1u}) {
    ValueId id = product.operands[i];
    while (!facts.stored[GraphFacts::at(id)] &&
           (is_simple_view(facts.graph[id].op) || is_float_cast(facts.graph, facts.graph[id])))
      id = facts.graph[id].operands[0];
    if (facts.graph[id].op == Op::softmax) return WeightsOperand{i, id};
  }
  for (size_t i : {0u, 1u}) {
    ChainWalk walk(facts);
    walk.visit(product.operands[i]);
    if (!walk.products.empty() && walk.nonlinear && walk.closed()) return WeightsOperand{i, kNoValue};
  }
  return std::nullopt;
}

std::variant<AttentionMatch, FusionNote> match_attention(const GraphFacts& facts, ValueId pv,
                                                         const WeightsOperand& weights) {
  // The last lead axis is a head axis. More of them are when the keys do not tell them apart: [B, Hkv, G, Sq, Sk].
  const size_t lead = facts.graph.type(pv).shape.size() - 2;
  std::optional<std::variant<AttentionMatch, FusionNote>> first;
  for (size_t heads = std::min<size_t>(lead, 1);
       heads <= std::max<size_t>(std::min<size_t>(lead, 1), lead ? lead - 1 : 0); ++heads) {
    Attempt attempt(facts, pv, weights, heads);
    auto found = attempt.run();
    const bool done = std::holds_alternative<AttentionMatch>(found) && attempt.keys_depend_on_heads();
    if (done) return found;
    if (!first) first = std::move(found);
  }
  return std::move(*first);
}

}  // namespace tilewright::fusion
