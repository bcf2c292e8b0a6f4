#include "codegen/cpu/loop_frame.h"

#include <algorithm>

#include "codegen/cpu/expr_emitter_facts.h"

namespace tilewright::cpu {
using llvm::Value;

LoopFrame::LoopFrame(LlvmBuilder& builder, ArgsReader& args, const LoopStep& step, std::vector<int> inner)
    : b_(builder), args_(args), step_(step), inner_(std::move(inner)) {
  for (const Dim& extent : step.extents) extents_.push_back(args_.dim(extent));
}

void LoopFrame::decode(Value* item) {
  std::vector<int> outer;
  for (int axis = 0; axis < static_cast<int>(extents_.size()); ++axis)
    if (std::find(inner_.begin(), inner_.end(), axis) == inner_.end()) outer.push_back(axis);
  set_flat(outer, item);
}

void LoopFrame::set_flat(const std::vector<int>& axes, Value* flat) {
  for (size_t i = axes.size(); i-- > 1;) {
    Value* extent =
        b_.max(extents_[static_cast<size_t>(axes[i])], b_.i64(1));  // an empty axis may be asked for its start
    Value* rest = b_.ir.CreateUDiv(flat, extent);
    values_[axes[i]] = b_.sub(flat, b_.mul(rest, extent));
    flat = rest;
  }
  if (!axes.empty()) values_[axes[0]] = flat;
}

ExprEmitter LoopFrame::emitter(const Expr& expr, int64_t lanes, int vary) {
  ExprEmitter emitter(b_, args_, step_.tensors, expr, lanes, static_cast<Axis>(vary));
  for (const auto& [axis, value] : values_)
    if (axis != vary) emitter.set_axis(static_cast<Axis>(axis), value);
  emitter.hoist();
  return emitter;
}

LoopFrame::Place LoopFrame::place(const Access& access, int vary) {
  Value *offset = b_.i64(0), *step = b_.i64(0);
  for (size_t axis = 0; axis < access.axes.size(); ++axis) {
    ExprEmitter index = emitter(access.axes[axis], 1, vary);
    Value* first = index.emit(b_.i64(0), nullptr, nullptr);
    Value* second = index.emit(b_.i64(1), nullptr, nullptr);
    Value* stride = args_.stride(access.tensor, static_cast<int>(axis));
    offset = b_.add(offset, b_.mul(first, stride));
    step = b_.add(step, b_.mul(b_.sub(second, first), stride));
  }
  const DType dtype = step_.tensors[static_cast<size_t>(access.tensor)].type.dtype;
  return {b_.element_pointer(dtype, args_.tensor(access.tensor), offset), step};
}

std::optional<Access> plain_access(const Expr& operand, const std::vector<int>& axes) {
  const Expr expr = operand.pruned();
  ExprId id = expr.root();
  while (expr[id].kind == ExprKind::op && expr[id].op == Op::cast && is_float(expr[expr[id].args[0]].dtype))
    id = expr[id].args[0];
  const ExprNode& node = expr[id];
  if (node.kind != ExprKind::load || !node.in_bounds || !is_float(node.dtype)) return std::nullopt;
  for (const int axis : axes) {
    const LaneForm form = analyze_nodes(expr, 2, static_cast<Axis>(axis))[static_cast<size_t>(raw(id))].form;
    if (form != LaneForm::strided && form != LaneForm::uniform) return std::nullopt;
  }
  Access access{node.tensor, {}};
  for (const ExprId index : node.args) {
    Expr part = expr;
    part.set_root(index);
    access.axes.push_back(part.pruned());
  }
  return access;
}

Expr scatter_items(const LoopStep& step) {
  Expr expr;
  ExprId items = expr.constant_int(1, DType::i64);
  for (const Dim& dim : step.tensors[static_cast<size_t>(step.output.tensor)].type.shape)
    items = expr.op(Op::min, DType::i64, {items, expr.dim(dim)});
  expr.set_root(items);
  return expr;
}

Expr loop_items(const LoopStep& step, int inner) {
  Expr expr;
  ExprId items = expr.constant_int(1, DType::i64);
  for (int axis = 0; axis < static_cast<int>(step.extents.size()); ++axis)
    if (axis != inner) items = expr.op(Op::mul, DType::i64, {items, expr.dim(step.extents[static_cast<size_t>(axis)])});
  expr.set_root(items);
  return expr;
}

void for_each_vector(LlvmBuilder& b, Value* extent, int64_t lanes, const std::function<void(Value*, Value*)>& body) {
  Value* rest = b.ir.CreateURem(extent, b.i64(lanes));
  Value* full = b.sub(extent, rest);
  b.loop(b.i64(0), full, lanes, [&](Value* position) { body(position, nullptr); });
  if (lanes > 1) b.when(b.ir.CreateICmpSGT(rest, b.i64(0)), [&] { body(full, b.lane_mask(rest, lanes)); });
}

Value* to_accumulator(LlvmBuilder& b, Value* value, DType accumulate) {
  llvm::Type* type = b.vector_type(accumulate, LlvmBuilder::lanes_of(value));
  return value->getType() == type ? value : b.ir.CreateFPCast(value, type);
}

}  // namespace tilewright::cpu
