#include "codegen/cpu/amx_prefill_weights.h"

#include "codegen/cpu/vector_math.h"

namespace tilewright::cpu {
using llvm::Value;

AmxWeights::AmxWeights(LlvmBuilder& builder, const AttentionSpec& spec, double scale, Value* b, Value* h)
    : b_(builder), spec_(spec), coarse_(spec.weights == DType::bf16 && !spec.logsumexp), scale_(scale) {
  if (!spec.weight_factor) return;
  ArgsReader args(b_, args_layout(spec));
  factor_.emplace(b_, args, spec.tensors, *spec.weight_factor, kLanes, Axis::q);
  factor_->set_axis(Axis::b, b);
  factor_->set_axis(Axis::h, h);
  factor_->hoist();
}

AmxWeights::Group AmxWeights::group(Value* q, Value* rows, Value* lane, Value* max) {
  Value* exists = factor_ ? b_.lane_mask(b_.sub(rows, lane), kLanes) : nullptr;
  Value* reached = b_.load_vector(DType::f32, b_.element_pointer(DType::f32, max, lane), kLanes);
  // Queries that keep nothing so far are at -inf; their reference is 0, so that nothing becomes -inf - -inf.
  Value* none = b_.ir.CreateFCmpOEQ(reached, b_.constant(DType::f32, kMinusInfinity, kLanes));
  return {b_.add(q, lane), exists, b_.ir.CreateSelect(none, b_.constant(DType::f32, 0, kLanes), reached)};
}

Value* AmxWeights::weigh(const Group& group, Value* kv, Value* scores, Value*& sum) {
  auto& ir = b_.ir;
  Value* weight = nullptr;
  if (normalised()) {
    weight = scale_ == 1 ? ir.CreateFSub(scores, group.reference)
                         : b_.fma(scores, b_.constant(DType::f32, scale_, kLanes), ir.CreateFNeg(group.reference));
    weight = coarse_ ? math::exp2_for_bf16(b_, weight) : math::exp2(b_, weight);
    sum = ir.CreateFAdd(sum, weight);
  } else {
    weight = scale_ == 1 ? scores : ir.CreateFMul(scores, b_.constant(DType::f32, scale_, kLanes));
  }
  if (!factor_) return weight;
  factor_->set_axis(Axis::kv, kv);
  return ir.CreateFMul(weight, b_.splat(factor_->emit(group.first, nullptr, group.exists), kLanes));
}

void rescale_outputs(LlvmBuilder& b, const AmxPrefillLayout& layout, Value* outputs, Value* factors) {
  constexpr int64_t kLanes = AmxPrefillLayout::kGroup;
  for (int64_t group = 0; group < 2; ++group) {
    Value* factor = b.load_vector(DType::f32, b.byte_pointer(factors, b.i64(group * kLanes * 4)), kLanes);
    b.loop_nonempty(b.i64(0), b.i64(layout.padded_value_dim), 1, {}, [&](Value* column, const Values&) {
      Value* slot =
          b.byte_pointer(outputs, b.add(b.i64(group * layout.output_group()), b.mul(column, b.i64(kLanes * 4))));
      b.store_vector(DType::f32, b.ir.CreateFMul(b.load_vector(DType::f32, slot, kLanes), factor), slot);
      return Values{};
    });
  }
}

}  // namespace tilewright::cpu
