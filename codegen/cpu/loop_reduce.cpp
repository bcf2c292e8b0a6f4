// Loop kernels that are not products: pointwise maps, reductions along one axis, unfused softmax and logsumexp.
// One work item is one row of the inner axis; the softmax evaluates its input three times rather than store it.
#include <algorithm>
#include <functional>
#include <limits>

#include "codegen/cpu/loop_frame.h"
#include "codegen/cpu/vector_math.h"
#include "ir/result.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {

// Lanes of the wider of what is computed and what is stored.
int64_t lanes_for(DType dtype, const CpuTarget& target) {
  return target.vector_bytes() / std::max<int64_t>(4, size_of(compute_type(dtype)));
}

using Combine = std::function<Value*(Value*, Value*)>;

Combine combine_for(LlvmBuilder& b, Op op, bool floating) {
  if (op == Op::reduce_sum || op == Op::reduce_mean)
    return [&b, floating](Value* x, Value* y) { return floating ? b.ir.CreateFAdd(x, y) : b.ir.CreateAdd(x, y); };
  const bool largest = op == Op::reduce_max;
  if (!floating)
    return [&b, largest](Value* x, Value* y) {
      return b.ir.CreateBinaryIntrinsic(largest ? llvm::Intrinsic::smax : llvm::Intrinsic::smin, x, y);
    };
  return [&b, largest](Value* x, Value* y) {  // a NaN on either side stays
    Value* better = largest ? b.ir.CreateFCmpOGT(x, y) : b.ir.CreateFCmpOLT(x, y);
    return b.ir.CreateSelect(b.ir.CreateOr(better, b.ir.CreateFCmpUNO(x, x)), x, y);
  };
}

Value* fold_lanes(LlvmBuilder& b, Value* vector, const Combine& combine) {
  const int64_t lanes = LlvmBuilder::lanes_of(vector);
  Value* result = vector;
  if (lanes > 1) {
    result = b.ir.CreateExtractElement(vector, uint64_t{0});
    for (int64_t lane = 1; lane < lanes; ++lane)
      result = combine(b.ir.CreateExtractElement(vector, static_cast<uint64_t>(lane)), result);
  }
  return result;
}

// Folds value(position, mask) over the axis; hidden lanes count as `neutral`.
Value* fold(LlvmBuilder& b, Value* extent, Value* neutral, int64_t lanes, const Combine& combine,
            const std::function<Value*(Value*, Value*)>& value) {
  Value* rest = b.ir.CreateURem(extent, b.i64(lanes));
  Value* full = b.sub(extent, rest);
  Value* start = b.splat(neutral, lanes);
  Value* sum = b.loop(b.i64(0), full, lanes, {start}, [&](Value* position, const Values& so_far) {
    return Values{combine(value(position, nullptr), so_far[0])};
  })[0];
  if (lanes > 1)
    sum = b.branch(
        b.ir.CreateICmpSGT(rest, b.i64(0)),
        [&] {
          Value* mask = b.lane_mask(rest, lanes);
          return Values{combine(b.ir.CreateSelect(mask, value(full, mask), start), sum)};
        },
        [&] { return Values{sum}; })[0];
  return fold_lanes(b, sum, combine);
}

Value* neutral_for(LlvmBuilder& b, Op op, DType dtype) {
  if (op == Op::reduce_sum || op == Op::reduce_mean) return b.constant(dtype, 0);
  const bool largest = op == Op::reduce_max;
  if (is_float(dtype))
    return b.constant(dtype,
                      largest ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity());
  const unsigned bits = static_cast<unsigned>(size_of(dtype) * 8);
  return llvm::ConstantInt::get(b.context(),
                                largest ? llvm::APInt::getSignedMinValue(bits) : llvm::APInt::getSignedMaxValue(bits));
}

// Reference and sum of exp(value - reference) of one row, the sink included. The reference is the maximum, 0 when that
// is -inf, so that (-inf) - reference stays -inf.
struct RowSum {
  Value *reference, *sum;
};

RowSum sum_exponentials(LlvmBuilder& b, const LoopStep& step, LoopFrame& frame, ExprEmitter& emitter, int64_t lanes) {
  const DType dtype = step.accumulate;
  const auto at = [&](Value* position, Value* mask) {
    return to_accumulator(b, emitter.emit(position, nullptr, mask), dtype);
  };
  const auto add = combine_for(b, Op::reduce_sum, true);
  Value* minus_infinity = neutral_for(b, Op::reduce_max, dtype);
  Value* largest = fold(
      b, frame.extent(step.axis), minus_infinity, lanes, [&](Value* x, Value* y) { return b.max_ignoring_nan(x, y); },
      at);
  Value* sink = nullptr;
  if (step.sink) {
    ExprEmitter sink_emitter = frame.emitter(*step.sink, 1, step.axis);
    sink = to_accumulator(b, sink_emitter.emit(b.i64(0), nullptr, nullptr), dtype);
    largest = b.max_ignoring_nan(sink, largest);
  }
  Value* reference = b.ir.CreateSelect(b.ir.CreateFCmpOEQ(largest, minus_infinity), b.constant(dtype, 0), largest);
  Value* wide = b.splat(reference, lanes);
  Value* sum = fold(b, frame.extent(step.axis), b.constant(dtype, 0), lanes, add, [&](Value* position, Value* mask) {
    return math::exp(b, b.ir.CreateFSub(at(position, mask), wide));
  });
  if (sink) sum = b.ir.CreateFAdd(sum, math::exp(b, b.ir.CreateFSub(sink, reference)));
  return {reference, sum};
}

void store_result(LlvmBuilder& b, LoopFrame& frame, const LoopStep& step, Value* value) {
  const LoopFrame::Place place = frame.output(step.axis);
  llvm::Type* type = b.value_type(frame.output_type());
  if (value->getType() != type && type->isFloatingPointTy()) value = b.ir.CreateFPCast(value, type);
  b.store(frame.output_type(), value, place.pointer);
}

}  // namespace

void emit_pointwise(LlvmBuilder& b, ArgsReader& args, const LoopStep& step) {
  const int vary = std::max(static_cast<int>(step.extents.size()) - 1, 0);  // a scalar has one position of axis 0
  LoopFrame frame(b, args, step, {vary});
  const int64_t lanes = lanes_for(frame.output_type(), b.target()) * (draws_random(step.value) ? 2 : 1);
  Value* extent = step.extents.empty() ? b.i64(1) : frame.extent(vary);
  b.loop(b.argument(1), b.argument(2), 1, [&](Value* item) {
    frame.decode(item);
    const LoopFrame::Place place = frame.output(vary);
    ExprEmitter value = frame.emitter(step.value, lanes, vary);
    if (lanes % 4 == 0) value.promise_aligned();
    for_each_vector(b, extent, lanes, [&](Value* position, Value* mask) {
      Value* pointer = b.element_pointer(frame.output_type(), place.pointer, b.mul(position, place.stride));
      Value* vector = b.splat(value.emit(position, nullptr, mask), lanes);
      b.store_strided(frame.output_type(), vector, pointer, place.stride, mask);
    });
  });
}

void emit_reduce(LlvmBuilder& b, ArgsReader& args, const LoopStep& step) {
  LoopFrame frame(b, args, step, {step.axis});
  const DType dtype = step.accumulate;
  const int64_t lanes = lanes_for(dtype, b.target());
  b.loop(b.argument(1), b.argument(2), 1, [&](Value* item) {
    frame.decode(item);
    ExprEmitter value = frame.emitter(step.value, lanes, step.axis);
    const auto at = [&](Value* position, Value* mask) {
      Value* x = b.splat(value.emit(position, nullptr, mask), lanes);
      return is_float(dtype) ? to_accumulator(b, x, dtype) : x;
    };
    if (step.kind == LoopKind::reduce && step.op != Op::logsumexp) {
      Value* result = fold(b, frame.extent(step.axis), neutral_for(b, step.op, dtype), lanes,
                           combine_for(b, step.op, is_float(dtype)), at);
      if (step.op == Op::reduce_mean) {
        Value* count = b.ir.CreateSIToFP(frame.extent(step.axis), b.value_type(dtype));
        result = b.ir.CreateFDiv(result, count);
      }
      store_result(b, frame, step, result);
      return;
    }
    const RowSum row = sum_exponentials(b, step, frame, value, lanes);
    Value* zero = b.constant(dtype, 0);
    Value* empty = b.ir.CreateFCmpOEQ(row.sum, zero);
    if (step.kind == LoopKind::reduce) {
      Value* lse = b.ir.CreateFAdd(row.reference, math::log(b, row.sum));
      store_result(b, frame, step, b.ir.CreateSelect(empty, neutral_for(b, Op::reduce_max, dtype), lse));
      return;
    }
    const LoopFrame::Place place = frame.output(step.axis);
    Value* reference = b.splat(row.reference, lanes);
    Value* divisor = b.splat(b.ir.CreateSelect(empty, b.constant(dtype, 1), row.sum), lanes);
    for_each_vector(b, frame.extent(step.axis), lanes, [&](Value* position, Value* mask) {
      Value* p = b.ir.CreateFDiv(math::exp(b, b.ir.CreateFSub(at(position, mask), reference)), divisor);
      llvm::Type* type = b.vector_type(frame.output_type(), lanes);
      if (p->getType() != type) p = b.ir.CreateFPCast(p, type);
      Value* pointer = b.element_pointer(frame.output_type(), place.pointer, b.mul(position, place.stride));
      b.store_strided(frame.output_type(), p, pointer, place.stride, mask);
    });
  });
}

}  // namespace tilewright::cpu
