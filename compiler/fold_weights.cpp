#include "compiler/fold_weights.h"

#include <limits>
#include <numbers>

#include "compiler/passes.h"
#include "compiler/score_chain.h"

namespace tilewright {
namespace {

class WeightFolder {
 public:
  WeightFolder(const BackwardSpec& spec, bool scale_queries)
      : in_(spec.weights), depends_(dependencies(spec.weights)), spec_(spec), scale_queries_(scale_queries) {}

  FoldedWeights run() {
    const int64_t chain = score_chain(spec_);
    for (size_t i = 0; i < in_.nodes().size(); ++i) {
      ExprNode node = in_.nodes()[i];
      for (ExprId& arg : node.args) arg = moved_[static_cast<size_t>(raw(arg))];
      const bool weight = is_weight(in_.nodes()[i]);
      moved_.push_back(weight ? fold(in_.nodes()[i], node) : out_.add(std::move(node)));
    }
    spec_.weights = std::move(out_);
    for (ExprId* root : roots(spec_)) *root = moved_[static_cast<size_t>(raw(*root))];
    if (scale_ != 1) scale_scores();
    spec_.weights = spec_.weights.pruned(roots(spec_));
    return {std::move(spec_), scale_, chain};
  }

 private:
  uint32_t depends(ExprId id) const { return depends_[static_cast<size_t>(raw(id))]; }

  /// exp(score - lse) of a score that reads s alone, with the lse of empty rows taken out (as the gradient of a
  /// softmax spells it): only then are the weights known to be at most 1.
  bool is_weight(const ExprNode& node) const {
    if (node.kind != ExprKind::op || node.op != Op::exp) return false;
    const ExprNode& sub = in_[node.args[0]];
    if (sub.kind != ExprKind::op || sub.op != Op::sub) return false;
    if (!(depends(sub.args[0]) & kDependsOnScore) || depends(sub.args[0]) & kDependsOnT) return false;
    const ExprNode& safe = in_[sub.args[1]];
    if (safe.kind != ExprKind::op || safe.op != Op::select) return false;
    const ExprNode &empty = in_[safe.args[0]], &zero = in_[safe.args[1]];
    if (zero.kind != ExprKind::constant || zero.literal.real != 0) return false;
    if (empty.kind != ExprKind::op || empty.op != Op::eq || empty.args[0] != safe.args[2]) return false;
    const ExprNode& infinity = in_[empty.args[1]];
    return infinity.kind == ExprKind::constant && infinity.literal.real == -std::numeric_limits<double>::infinity() &&
           !(depends(safe.args[2]) & (kDependsOnScore | bit(Axis::kv)));
  }

  ExprId fold(const ExprNode& weight, const ExprNode& moved) {
    Expr score;
    score.set_root(score.import(in_, in_[weight.args[0]].args[0]));
    const FoldedScale folded = fold_softmax_scale(score, std::numbers::log2e);
    if (scale_queries_ && scale_ == 1) scale_ = leading_scale(folded.expr).scale;
    const DType dtype = weight.dtype;
    ExprId exponent = out_.import(folded.expr);
    if (folded.left_over != 1) exponent = out_.op(Op::mul, dtype, {exponent, out_.constant(folded.left_over, dtype)});
    const ExprId lse = out_[moved.args[0]].args[1];
    const ExprId subtract = out_.op(Op::mul, dtype, {lse, out_.constant(std::numbers::log2e, dtype)});
    exponent = out_.op(Op::sub, dtype, {exponent, subtract});
    return out_.op(Op::exp2, dtype, {out_.op(Op::min, dtype, {exponent, out_.constant(0, dtype)})});
  }

  /// s · scale reads s', s · c reads s' · (c / scale), and s by itself s' / scale.
  void scale_scores() {
    const Expr from = std::exchange(spec_.weights, {});
    Expr& to = spec_.weights;
    std::vector<ExprId> map;
    for (const ExprNode& old : from.nodes()) {
      ExprNode node = old;
      for (ExprId& arg : node.args) arg = map[static_cast<size_t>(raw(arg))];
      map.push_back(scaled(from, old).value_or(ExprId{-1}));
      if (raw(map.back()) < 0) map.back() = to.add(std::move(node));
    }
    for (ExprId* root : roots(spec_)) *root = map[static_cast<size_t>(raw(*root))];
  }

  std::optional<ExprId> scaled(const Expr& from, const ExprNode& node) {
    Expr& to = spec_.weights;
    const auto times = [&](DType dtype, double factor) {
      const ExprId s = to.score(dtype);
      return factor == 1 ? s : to.op(Op::mul, dtype, {s, to.constant(factor, dtype)});
    };
    const auto is_s = [&](ExprId id) { return from[id].kind == ExprKind::score && from[id].product == 0; };
    if (node.kind == ExprKind::score && node.product == 0) return times(node.dtype, 1 / scale_);
    if (node.kind != ExprKind::op || (node.op != Op::mul && node.op != Op::div)) return std::nullopt;
    for (size_t i = 0; i < (node.op == Op::mul ? 2 : 1); ++i) {
      const ExprNode& other = from[node.args[1 - i]];
      if (!is_s(node.args[i]) || other.kind != ExprKind::constant) continue;
      const double c = node.op == Op::mul ? other.literal.real : 1 / other.literal.real;
      return times(node.dtype, c / scale_);
    }
    return std::nullopt;
  }

  const Expr& in_;
  std::vector<uint32_t> depends_;
  BackwardSpec spec_;
  bool scale_queries_;
  double scale_ = 1;
  std::vector<ExprId> moved_;  ///< by node of in_
  Expr out_;
};

}  // namespace

FoldedWeights fold_weights(const BackwardSpec& spec, bool scale_queries) {
  return WeightFolder(spec, scale_queries).run();
}

}  // namespace tilewright
