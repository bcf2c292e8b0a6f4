// LoopFrame: the index space of one LoopStep inside a kernel: items to axis values, expressions, output addresses.
#pragma once

#include <map>
#include <optional>

#include "codegen/cpu/expr_emitter.h"

namespace tilewright::cpu {

/// Items run over all axes of the step but the inner ones, row-major, the last outer axis fastest.
class LoopFrame {
 public:
  /// `inner` axes are walked by the kernel itself. Emits the loop-invariant extents here.
  LoopFrame(LlvmBuilder& builder, ArgsReader& args, const LoopStep& step, std::vector<int> inner);

  llvm::Value* extent(int axis) { return extents_[static_cast<size_t>(axis)]; }
  /// Sets the outer axes from a work item.
  void decode(llvm::Value* item);
  void set(int axis, llvm::Value* value) { values_[axis] = value; }
  /// Sets `axes` from their row-major flattening.
  void set_flat(const std::vector<int>& axes, llvm::Value* flat);
  llvm::Value* value(int axis) const { return values_.at(axis); }

  /// Evaluator of one of the step's expressions; knows the axes set so far, hoisted at this point.
  ExprEmitter emitter(const Expr& expr, int64_t lanes, int vary);
  /// Address of the element that `access` names at the axes set so far with `vary` = 0, and the elements between its
  /// neighbours along `vary` (0 when it does not move along that axis).
  struct Place {
    llvm::Value* pointer;
    llvm::Value* stride;
  };
  Place place(const Access& access, int vary);
  Place output(int vary) { return place(step_.output, vary); }
  DType output_type() const { return step_.tensors[static_cast<size_t>(step_.output.tensor)].type.dtype; }

 private:
  LlvmBuilder& b_;
  ArgsReader& args_;
  const LoopStep& step_;
  std::vector<int> inner_;
  std::vector<llvm::Value*> extents_;
  std::map<int, llvm::Value*> values_;
};

/// The element of a tensor that `operand` is, behind casts between floats, when its address is an affine function of
/// each of `axes` and always inside the tensor.
std::optional<Access> plain_access(const Expr& operand, const std::vector<int>& axes);

/// 1 when the output of a scatter step has elements, else 0.
Expr scatter_items(const LoopStep& step);

/// Product of the extents of the axes but `inner`, as LaunchPhase::items.
Expr loop_items(const LoopStep& step, int inner);

/// Calls body(position, mask) for every vector of [0, extent): mask is null but for the last, partial one.
void for_each_vector(LlvmBuilder& b, llvm::Value* extent, int64_t lanes,
                     const std::function<void(llvm::Value* position, llvm::Value* mask)>& body);

/// float or double vector to the accumulation type.
llvm::Value* to_accumulator(LlvmBuilder& b, llvm::Value* value, DType accumulate);

/// The bodies of the loop kernels, emitted into a started kernel function.
void emit_pointwise(LlvmBuilder& b, ArgsReader& args, const LoopStep& step);
void emit_reduce(LlvmBuilder& b, ArgsReader& args, const LoopStep& step);
void emit_scatter(LlvmBuilder& b, ArgsReader& args, const LoopStep& step);

}  // namespace tilewright::cpu
