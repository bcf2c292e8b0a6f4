// ExprEmitter: an Expr as LLVM code over `lanes` consecutive positions of one axis.
//
//   ExprEmitter score(b, args, spec.tensors, spec.score, 16, Axis::kv);   // where run arguments are invariant
//   score.set_axis(Axis::b, …); score.set_axis(Axis::h, …); score.hoist();    // per head
//   score.set_axis(Axis::q, …); score.hoist();                             // per row
//   … = score.emit(kv, s, mask);                                          // per vector: lanes kv … kv + 15
//
// hoist() emits at the insertion point what the axes set so far allow, so call it once after the axes of a loop level
// are set and before the loops inside. Values hoisted at a level must dominate the emits that follow; setting an axis
// anew forgets what depended on it.
#pragma once

#include <array>
#include <memory>

#include "codegen/cpu/llvm_builder.h"
#include "ir/attention_spec.h"

namespace tilewright::cpu {

/// Raw products at the lanes of one emit, by ExprNode::product: s and t. Null where the expression reads none.
using ScoreLanes = std::array<llvm::Value*, 2>;

/// Are random numbers drawn along an axis? They cost least per lane with two vectors of lanes at once, less with four
/// where nothing else hides their latency.
bool draws_random(const Expr& expr);

class ExprEmitter {
 public:
  /// Emits reads of the argument block here: construct it outside all loops. `lanes` == 1 gives scalar code; block
  /// tests (load_min, load_max) exist only there.
  ExprEmitter(LlvmBuilder& builder, ArgsReader& args, const std::vector<SpecTensor>& tensors, const Expr& expr,
              int64_t lanes, Axis vary);
  /// Several roots of one DAG: what they share is emitted once per emit_roots.
  ExprEmitter(LlvmBuilder& builder, ArgsReader& args, const std::vector<SpecTensor>& tensors, const Expr& expr,
              const std::vector<ExprId>& roots, int64_t lanes, Axis vary);
  ~ExprEmitter();
  ExprEmitter(ExprEmitter&&) noexcept;

  /// `value` is i64, not negative. Not for the varying axis unless lanes == 1.
  void set_axis(Axis axis, llvm::Value* value);
  void hoist();
  /// Every vary_base will be a multiple of 4; random numbers are then cheaper, in code and time.
  void promise_aligned();

  /// The root for positions vary_base + lane, as <lanes x value_type(root)> (a scalar for 1 lane): i1 for bool.
  /// `vary_base` may be null when nothing depends on the axis or it was set, `score` (in value_type of the score's
  /// dtype) when there is no score. `mask` (may be null) hides lanes from memory; their results are unspecified.
  llvm::Value* emit(llvm::Value* vary_base, llvm::Value* score, llvm::Value* mask);
  /// The same for every root, in their order.
  Values emit_roots(llvm::Value* vary_base, const ScoreLanes& scores, llvm::Value* mask);
  /// No axis, no score: for launch-time expressions over dims, and for uniform roots after their axes are set.
  llvm::Value* emit() { return emit(nullptr, nullptr, nullptr); }

  /// Is there a load whose lanes lie in a row that moves with `axis`?
  bool streams(Axis axis) const;
  /// Asks for the memory that such loads read at vary_base and the axes set (and hoisted), which may lie beyond the
  /// tensor's end.
  void prefetch(Axis axis, llvm::Value* vary_base);

  /// One value serves all lanes (the root depends on neither the varying axis nor the scores).
  bool uniform(size_t root = 0) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tilewright::cpu
