#include "codegen/cpu/expr_emitter.h"

#include "codegen/cpu/expr_emitter_lanes.h"

namespace tilewright::cpu {
using llvm::Value;

struct ExprEmitter::Impl {
  Impl(LlvmBuilder& b, ArgsReader& args, const std::vector<SpecTensor>& tensors, const Expr& whole,
       const std::vector<ExprId>& wanted, int64_t lane_count, Axis varying)
      : expr(import(whole, wanted)),
        lanes(lane_count),
        vary(varying),
        builder(b, args, tensors, expr, lanes, vary),
        walker(builder, expr) {}

  /// The part of `whole` that the roots reach; fills `roots`.
  Expr import(const Expr& whole, const std::vector<ExprId>& wanted) {
    Expr part;
    for (ExprId root : wanted) roots.push_back(part.import(whole, root));
    return part;
  }

  std::vector<ExprId> roots;  // in front of `expr`, which fills it
  Expr expr;
  int64_t lanes;
  Axis vary;
  LaneBuilder builder;
  PointwiseWalker<LaneBuilder> walker;
  uint32_t known = 0;
};

ExprEmitter::ExprEmitter(LlvmBuilder& builder, ArgsReader& args, const std::vector<SpecTensor>& tensors,
                         const Expr& expr, int64_t lanes, Axis vary)
    : ExprEmitter(builder, args, tensors, expr, {expr.root()}, lanes, vary) {}
ExprEmitter::ExprEmitter(LlvmBuilder& builder, ArgsReader& args, const std::vector<SpecTensor>& tensors,
                         const Expr& expr, const std::vector<ExprId>& roots, int64_t lanes, Axis vary)
    : impl_(std::make_unique<Impl>(builder, args, tensors, expr, roots, lanes, vary)) {}
ExprEmitter::~ExprEmitter() = default;
ExprEmitter::ExprEmitter(ExprEmitter&&) noexcept = default;

void ExprEmitter::set_axis(Axis axis, Value* value) {
  TW_CHECK(impl_->lanes == 1 || axis != impl_->vary);
  impl_->builder.set_axis(axis, value);
  impl_->walker.forget(bit(axis));
  impl_->known |= bit(axis);
}

void ExprEmitter::promise_aligned() { impl_->builder.promise_aligned(); }

void ExprEmitter::hoist() { impl_->walker.hoist(impl_->known); }

Value* ExprEmitter::emit(Value* vary_base, Value* score, Value* mask) {
  return emit_roots(vary_base, {score, nullptr}, mask)[0];
}

Values ExprEmitter::emit_roots(Value* vary_base, const ScoreLanes& scores, Value* mask) {
  if (impl_->lanes == 1 && vary_base) {
    impl_->builder.set_axis(impl_->vary, vary_base);
    if (impl_->known & bit(impl_->vary)) impl_->walker.forget(bit(impl_->vary));
    impl_->known &= ~bit(impl_->vary);
  }
  impl_->builder.begin_emit(vary_base, scores, mask);
  const std::vector<LaneValue> found = impl_->walker.roots(impl_->roots);
  Values results;
  for (size_t i = 0; i < found.size(); ++i) results.push_back(impl_->builder.result(impl_->roots[i], found[i]));
  return results;
}

bool ExprEmitter::streams(Axis axis) const {
  for (size_t i = 0; i < impl_->expr.nodes().size(); ++i)
    if (impl_->builder.streams(ExprId{static_cast<int32_t>(i)}, axis)) return true;
  return false;
}

void ExprEmitter::prefetch(Axis axis, Value* vary_base) {
  impl_->builder.begin_emit(vary_base, {}, nullptr);
  impl_->walker.each_kept([&](ExprId id, const LaneValue& value) {
    if (impl_->builder.streams(id, axis)) impl_->builder.prefetch(id, value);
  });
}

bool ExprEmitter::uniform(size_t root) const { return impl_->builder.uniform(impl_->roots[root]); }

}  // namespace tilewright::cpu
