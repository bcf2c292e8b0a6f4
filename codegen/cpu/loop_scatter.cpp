// The loop kernel of scatter_add: one work item adds all updates, row-major, so that the order never depends on the
// number of threads. Where the last axis of the updates goes one to one to an axis of the output, it is walked in
// vectors; lanes then are different elements, and the order per element stays.
#include <functional>

#include "codegen/cpu/loop_frame.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {

/// Exactly one output axis is the step's last axis itself, and no other depends on it.
bool is_one_to_one(const LoopStep& step) {
  if (step.extents.empty()) return false;
  const auto last = static_cast<Axis>(step.extents.size() - 1);
  int exact = 0;
  for (const Expr& axis : step.output.axes) {
    const ExprNode& root = axis.root_node();
    if (root.kind == ExprKind::index && root.axis == last)
      ++exact;
    else if (dependencies(axis)[static_cast<size_t>(raw(axis.root()))] & bit(last))
      return false;
  }
  return exact == 1;
}

Value* add_values(LlvmBuilder& b, Value* x, Value* y) {
  return y->getType()->isFPOrFPVectorTy() ? b.ir.CreateFAdd(x, y) : b.ir.CreateAdd(x, y);
}

class ScatterLoops {
 public:
  ScatterLoops(LlvmBuilder& b, ArgsReader& args, const LoopStep& step, std::vector<int> all)
      : b_(b), args_(args), step_(step), frame_(b, args, step, std::move(all)) {}

  void axis(int position) {
    const int last = std::max(static_cast<int>(step_.extents.size()) - 1, 0);
    if (position == last) return is_one_to_one(step_) ? add_row(last) : add_each(last);
    b_.loop(b_.i64(0), frame_.extent(position), 1, [&](Value* at) {
      frame_.set(position, at);
      axis(position + 1);
    });
  }

 private:
  void add_row(int last) {
    const DType dtype = frame_.output_type();
    const int64_t lanes = b_.target().vector_bytes() / size_of(dtype);
    const LoopFrame::Place place = frame_.output(last);
    ExprEmitter value = frame_.emitter(step_.value, lanes, last);
    for_each_vector(b_, frame_.extent(last), lanes, [&](Value* position, Value* mask) {
      Value* pointer = b_.element_pointer(dtype, place.pointer, b_.mul(position, place.stride));
      Value* update = b_.splat(value.emit(position, nullptr, mask), lanes);
      Value* sum = b_.load_strided(dtype, pointer, place.stride, lanes, mask);
      b_.store_strided(dtype, add_values(b_, sum, update), pointer, place.stride, mask);
    });
  }

  void add_each(int last) {
    const DType dtype = frame_.output_type();
    const Access& output = step_.output;
    ExprEmitter value = frame_.emitter(step_.value, 1, last);
    std::vector<ExprEmitter> indices;
    std::vector<Value*> strides;
    for (const Expr& index : output.axes) {
      indices.push_back(frame_.emitter(index, 1, last));
      strides.push_back(args_.stride(output.tensor, static_cast<int>(strides.size())));
    }
    Value* base = args_.tensor(output.tensor);
    Value* extent = step_.extents.empty() ? b_.i64(1) : frame_.extent(last);
    b_.loop(b_.i64(0), extent, 1, [&](Value* position) {
      Value* offset = b_.i64(0);
      for (size_t i = 0; i < indices.size(); ++i)
        offset = b_.add(offset, b_.mul(indices[i].emit(position, nullptr, nullptr), strides[i]));
      Value* pointer = b_.element_pointer(dtype, base, offset);
      Value* update = value.emit(position, nullptr, nullptr);
      b_.store(dtype, add_values(b_, b_.load(dtype, pointer), update), pointer);
    });
  }

  LlvmBuilder& b_;
  ArgsReader& args_;
  const LoopStep& step_;
  LoopFrame frame_;
};

}  // namespace

void emit_scatter(LlvmBuilder& b, ArgsReader& args, const LoopStep& step) {
  std::vector<int> all;
  for (size_t i = 0; i < step.extents.size(); ++i) all.push_back(static_cast<int>(i));
  ScatterLoops loops(b, args, step, std::move(all));
  b.loop(b.argument(1), b.argument(2), 1, [&](Value*) { loops.axis(0); });
}

}  // namespace tilewright::cpu
