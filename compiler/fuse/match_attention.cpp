#include "compiler/fuse/match_attention.h"

#include "compiler/fuse/attempt.h"

namespace tilewright::fusion {
namespace {

/// Walks down the pointwise chain under the weights of a product without a normaliser.
struct ChainWalk {
  const GraphFacts& facts;
  std::vector<bool> seen;
  std::vector<bool> over_product;  ///< products, and chain values that one leads to
  bool nonlinear = false;

  explicit ChainWalk(const GraphFacts& f)
      : facts(f), seen(f.graph.nodes.size(), false), over_product(f.graph.nodes.size(), false) {}

  bool visit(ValueId id) {
    const size_t i = GraphFacts::at(id);
    if (seen[i] || facts.stored[i]) return over_product[i];
    const Node& node = facts.graph[id];
    const OpGroup group = info(node.op).group;
    if (group == OpGroup::contract) over_product[i] = true;
    if ((group != OpGroup::pointwise && !is_simple_view(node.op)) || node.op == Op::load) return over_product[i];
    seen[i] = true;
    const bool linear = is_simple_view(node.op) || node.op == Op::cast || node.op == Op::mul || node.op == Op::div ||
                        node.op == Op::add || node.op == Op::sub || node.op == Op::neg;
    for (ValueId operand : node.operands)
      if (visit(operand)) over_product[i] = true;
    nonlinear = nonlinear || (over_product[i] && !linear);
    return over_product[i];
  }

  /// Nothing below `weights` is read elsewhere, so that fusing leaves nothing of it behind. What reads the weights
  /// themselves is the matcher's to complain about.
  bool closed(ValueId weights) const {
    std::vector<bool> exempt(seen.size(), false);
    exempt[GraphFacts::at(weights)] = true;
    while (is_simple_view(facts.graph[weights].op) || is_float_cast(facts.graph, facts.graph[weights])) {
      weights = facts.graph[weights].operands[0];
      exempt[GraphFacts::at(weights)] = true;
    }
    for (size_t i = 0; i < seen.size(); ++i) {
      if (!over_product[i] || exempt[i]) continue;
      if (facts.result_uses[i] > 0) return false;
      for (ValueId user : facts.users[i])
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
    if (walk.visit(product.operands[i]) && walk.nonlinear && walk.closed(product.operands[i]))
      return WeightsOperand{i, kNoValue};
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
