#include "compiler/fuse/match_attention.h"

#include <algorithm>

#include "compiler/fuse/attempt.h"

namespace tilewright::fusion {
namespace {

/// Walks down the pointwise chain under the weights of a product without a normaliser.
struct ChainWalk {
  const GraphFacts& facts;
  std::vector<bool> seen;
  std::vector<bool> over_product;  ///< products, and chain values that one leads to
  std::vector<ValueId> products;
  bool nonlinear = false;

  explicit ChainWalk(const GraphFacts& f)
      : facts(f), seen(f.graph.nodes.size(), false), over_product(f.graph.nodes.size(), false) {}

  bool visit(ValueId id) {
    const size_t i = GraphFacts::at(id);
    if (seen[i] || facts.stored[i]) return over_product[i];
    const Node& node = facts.graph[id];
    const OpGroup group = info(node.op).group;
    if (group == OpGroup::contract && !over_product[i]) {
      over_product[i] = true;
      products.push_back(id);
    }
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

bool is_zero(const GraphFacts& facts, ValueId id) {
  const Node& node = facts.graph[id];
  return node.op == Op::constant && is_float(node.type.dtype) && node.attributes.literal.real == 0;
}

/// A matrix without leading axes, broadcast or not.
bool lacks_lead(const Graph& graph, ValueId id) {
  while (graph[id].op == Op::broadcast || is_float_cast(graph, graph[id])) id = graph[id].operands[0];
  const Shape& shape = graph.type(id).shape;
  return std::all_of(shape.begin(), shape.end() - std::min<int64_t>(2, graph.type(id).rank()),
                     [](const Dim& dim) { return dim.is_constant(1); });
}

}  // namespace

std::vector<WeightChain> weight_chains(const GraphFacts& facts) {
  std::vector<WeightChain> chains;
  std::vector<bool> plain;  // pointwise, index and view code over what lies in memory
  for (size_t i = 0; i < facts.graph.nodes.size(); ++i) {
    const Node& node = facts.graph.nodes[i];
    const OpGroup group = info(node.op).group;
    WeightChain chain;
    const auto is_plain = [&](size_t k) { return plain[GraphFacts::at(node.operands[k])]; };
    const auto softmax = [&](size_t k) { return chains[GraphFacts::at(node.operands[k])].softmax; };
    const auto take = [&](size_t k) {
      if (chain.softmax != kNoValue) return;
      chain = {softmax(k), static_cast<int>(k)};
      if (chain.softmax == kNoValue) chain = {};
    };
    bool all = group == OpGroup::leaf || group == OpGroup::pointwise || is_simple_view(node.op);
    for (size_t k = 0; k < node.operands.size() && all; ++k) all = is_plain(k);
    plain.push_back(all || facts.stored[i]);
    if (facts.stored[i]) {
      chains.push_back(chain);
      continue;
    }
    if (node.op == Op::softmax) {
      chain.softmax = ValueId{static_cast<int32_t>(i)};
    } else if (is_simple_view(node.op) || is_float_cast(facts.graph, node)) {
      chain.softmax = softmax(0);
    } else if (node.op == Op::mul || node.op == Op::div) {
      if (is_plain(1)) take(0);
      if (is_plain(0) && node.op == Op::mul) take(1);
    } else if (node.op == Op::select && is_plain(0)) {
      if (is_zero(facts, node.operands[2])) take(1);
      if (is_zero(facts, node.operands[1])) take(2);
    }
    chains.push_back(chain);
  }
  return chains;
}

std::optional<WeightsOperand> find_weights(const GraphFacts& facts, ValueId pv) {
  const Node& product = facts.graph[pv];
  const std::vector<WeightChain> chains = weight_chains(facts);
  for (size_t i : {0u, 1u}) {
    if (const ValueId softmax = chains[GraphFacts::at(product.operands[i])].softmax; softmax != kNoValue)
      return WeightsOperand{i, softmax};
  }
  for (size_t i : {0u, 1u}) {
    ChainWalk walk(facts);
    if (walk.visit(product.operands[i]) && walk.nonlinear && walk.closed(product.operands[i])) {
      const bool shared = !lacks_lead(facts.graph, pv) && lacks_lead(facts.graph, product.operands[1 - i]) &&
                          std::any_of(walk.products.begin(), walk.products.end(), [&](ValueId inner) {
                            const auto& operands = facts.graph[inner].operands;
                            return lacks_lead(facts.graph, operands[0]) || lacks_lead(facts.graph, operands[1]);
                          });
      return WeightsOperand{i, kNoValue, shared};
    }
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
