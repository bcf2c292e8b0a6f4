#include "compiler/gradient/score_products.h"

namespace tilewright::grad {
namespace {

/// Where a value leads through pointwise ops and views.
struct Destination {
  bool product = false;   ///< to an operand of a product
  bool softmax = false;   ///< to a softmax or LSE
  bool weighted = false;  ///< to a softmax that leads to a product
};

std::vector<Destination> find_destinations(const JointGraph& joint) {
  std::vector<Destination> out(joint.forward_size());
  for (size_t i = joint.forward_size(); i-- > 0;) {
    Destination& to = out[i];
    const ValueId id{static_cast<int32_t>(i)};
    if (!joint.live(id)) continue;
    for (ValueId user : joint.users(id)) {
      const Node& node = joint[user];
      const Destination& next = out[static_cast<size_t>(raw(user))];
      if (info(node.op).group == OpGroup::contract) {
        to.product = true;
      } else if (node.op == Op::softmax || node.op == Op::logsumexp) {
        to.softmax = true;
        to.weighted = to.weighted || (node.op == Op::softmax && next.product);
      } else if (is_transparent(node)) {
        to.product = to.product || next.product;
        to.softmax = to.softmax || next.softmax;
        to.weighted = to.weighted || next.weighted;
      }
    }
  }
  return out;
}

bool multiplies_queries_and_keys(const JointGraph& joint, const Node& product) {
  const Shape &a = joint.shape(product.operands[0]), &b = joint.shape(product.operands[1]), &out = product.type.shape;
  if (out.size() == 2) return !out[0].is_constant() && !out[1].is_constant();
  return a.size() == out.size() && b.size() == out.size() && a[0] == b[0] && !a[0].is_constant(1);
}

}  // namespace

ScoreProducts find_score_products(const JointGraph& joint) {
  const std::vector<Destination> destinations = find_destinations(joint);
  ScoreProducts out;
  out.is_score.assign(joint.forward_size(), false);
  out.from_weights.assign(joint.forward_size(), false);
  for (size_t i = 0; i < joint.forward_size(); ++i) {
    const ValueId id{static_cast<int32_t>(i)};
    if (!joint.live(id)) continue;
    const Node& node = joint[id];
    bool weights = false;
    for (ValueId operand : node.operands)
      weights = weights || (operand != kNoValue && out.from_weights[static_cast<size_t>(raw(operand))]);
    if (info(node.op).group == OpGroup::contract) {
      const Destination& to = destinations[i];
      out.is_score[i] =
          !weights && (to.weighted || ((to.softmax || to.product) && multiplies_queries_and_keys(joint, node)));
      out.from_weights[i] = out.is_score[i];
    } else {
      out.from_weights[i] = node.op == Op::softmax || (weights && is_transparent(node));
    }
  }
  return out;
}

}  // namespace tilewright::grad
