#include "compiler/score_chain.h"

#include <algorithm>
#include <cmath>

namespace tilewright {
namespace {

constexpr int64_t kShortChain = 32;
constexpr double kUsualSpread = 2;  // of scores: 1 with the usual scale, and some freedom

/// What `node` makes of its argument number `score`.
double factor(const Expr& expr, const ExprNode& node, size_t score) {
  if (node.kind != ExprKind::op || (node.op != Op::mul && (node.op != Op::div || score != 0))) return 1;
  const ExprNode& other = expr[node.args[1 - score]];
  if (other.kind != ExprKind::constant) return 1;
  return std::abs(node.op == Op::mul ? other.literal.real : 1 / other.literal.real);
}

double largest_scale(const Expr& expr) {
  double largest = 0;
  for (const ExprNode& node : expr.nodes())
    for (size_t i = 0; i < node.args.size(); ++i) {
      const ExprNode& arg = expr[node.args[i]];
      if (arg.kind == ExprKind::score && arg.product == 0) largest = std::max(largest, factor(expr, node, i));
    }
  return largest == 0 ? 1 : largest;  // the bare score
}

int64_t chain(const Expr& expr, const std::vector<DotTerm>& dots) {
  int64_t columns = 0;
  for (const DotTerm& dot : dots) columns += dot.head_dim;
  return largest_scale(expr) * std::sqrt(static_cast<double>(columns)) > kUsualSpread ? kShortChain : kLongestChain;
}

}  // namespace

int64_t score_chain(const AttentionSpec& spec) { return chain(spec.score, spec.dots); }
int64_t score_chain(const BackwardSpec& spec) { return chain(spec.weights, spec.dots); }

}  // namespace tilewright
