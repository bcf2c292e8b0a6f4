#include "codegen/cpu/softmax_end.h"

#include <numbers>

#include "codegen/cpu/vector_math.h"

namespace tilewright::cpu {
using llvm::Value;

SoftmaxEnd::SoftmaxEnd(LlvmBuilder& builder, Value* max, Value* sum, Value* sink) : b_(builder), max_(max), sum_(sum) {
  if (sink) add_sink(sink);
  empty_ = b_.ir.CreateFCmpOEQ(sum_, constant(0));
  divisor_ = b_.ir.CreateSelect(empty_, constant(1), sum_);
}

Value* SoftmaxEnd::constant(double value) {
  Value* scalar = llvm::ConstantFP::get(sum_->getType()->getScalarType(), value);
  return b_.splat(scalar, LlvmBuilder::lanes_of(sum_));
}

void SoftmaxEnd::add_sink(Value* sink) {
  sink = b_.ir.CreateFMul(sink, constant(std::numbers::log2e));
  Value* top = b_.max_ignoring_nan(max_, sink);
  Value* reference = b_.ir.CreateSelect(b_.ir.CreateFCmpOEQ(top, constant(kMinusInfinity)), constant(0), top);
  factor_ = math::exp2(b_, b_.ir.CreateFSub(max_, reference));
  Value* extra = math::exp2(b_, b_.ir.CreateFSub(sink, reference));
  sum_ = b_.fma(sum_, factor_, extra);
  max_ = top;
}

Value* SoftmaxEnd::normalise(Value* output) {
  const int64_t lanes = LlvmBuilder::lanes_of(output);
  if (factor_) output = b_.ir.CreateFMul(output, b_.splat(factor_, lanes));
  Value* nothing = llvm::Constant::getNullValue(output->getType());
  return b_.ir.CreateFDiv(b_.ir.CreateSelect(empty_, nothing, output), b_.splat(divisor_, lanes));
}

Value* SoftmaxEnd::logsumexp() {
  return b_.ir.CreateSelect(empty_, constant(kMinusInfinity), math::logsumexp(b_, max_, divisor_));
}

}  // namespace tilewright::cpu
