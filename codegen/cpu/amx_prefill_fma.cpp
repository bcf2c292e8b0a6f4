#include "codegen/cpu/amx_prefill_fma.h"

#include <algorithm>

#include "compiler/score_chain.h"

namespace tilewright::cpu {
using llvm::Value;

AmxFmaUnit::AmxFmaUnit(LlvmBuilder& builder, AmxScorePass& scores, const AttentionSpec& spec,
                       const AmxPrefillLayout& layout)
    : b_(builder),
      scores_(scores),
      spec_(spec),
      layout_(layout),
      product_(builder, DType::f32, kLanes, kTile, 1, "fma_product"),
      piece_(chain_length(layout.padded_head_dim, 1, score_chain(spec))) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  function_ = b_.begin_internal("fma_unit", b_.ir.getVoidTy(), {p, i, i, i, i, i, i, i, i, i, p});
  b_.mark_cold();
  emit();
  b_.ret();
}

/// void fma_unit(args, b, h, row, q, rows, kv, columns, whole, step, scratch)
void AmxFmaUnit::emit() {
  const Layout& l = layout_;
  const DType type = DType::f32;
  const auto arg = [&](unsigned n) { return b_.argument(n); };
  const Unit u{arg(1), arg(2), arg(3), arg(4), arg(5), arg(6), arg(7), arg(8), arg(9), arg(10)};
  const auto place = [&](int64_t at) { return b_.byte_pointer(u.scratch, b_.i64(at)); };
  const auto per_row = [&](int64_t at, int64_t unit_bytes) {
    return b_.byte_pointer(place(at), b_.mul(u.row, b_.i64(unit_bytes / Layout::kUnit)));
  };
  Value* first = b_.mul(u.step, b_.i64(Layout::kStep * 4));  // of the unit's keys in the block
  Value *keys = b_.byte_pointer(place(l.wide_keys_at), b_.mul(first, b_.i64(l.padded_head_dim))),
        *values = b_.byte_pointer(place(l.wide_values_at), first);
  Value *max = per_row(l.max_at, Layout::kUnit * 4), *sum = per_row(l.sum_at, Layout::kUnit * 4);
  Value *scores = place(l.scores_at), *ones = place(l.ones_at), *outputs = per_row(l.outputs_at, l.unit_outputs());
  Value* covered = b_.mul(b_.ceil_div(u.columns, Layout::kStep), b_.i64(Layout::kStep));
  b_.loop_nonempty(b_.i64(0), b_.i64(std::max(l.block_kv, l.padded_value_dim)), kLanes, {},
                   [&](Value* at, const Values&) {
                     b_.store_vector(type, b_.constant(type, 1, kLanes), b_.element_pointer(type, ones, at));
                     return Values{};
                   });
  const auto each_group = [&](const std::function<void(Value * lane, Value * own_scores)>& body) {
    b_.loop_nonempty(b_.i64(0), b_.i64(Layout::kUnit), kLanes, {}, [&](Value* lane, const Values&) {
      body(lane, b_.byte_pointer(scores, b_.mul(lane, b_.i64(l.score_group() / kLanes))));
      return Values{};
    });
  };
  Value *one = b_.i64(1), *lanes = b_.i64(kLanes);
  each_group([&](Value* lane, Value* own_scores) {
    Value* queries = b_.element_pointer(type, place(l.wide_queries_at), b_.mul(lane, b_.i64(l.padded_head_dim)));
    for (int64_t d = 0; d < l.padded_head_dim; d += piece_)
      product_.call({b_.element_pointer(type, keys, b_.i64(d)), b_.i64(l.padded_head_dim),
                     b_.element_pointer(type, queries, b_.i64(d * kLanes)), lanes, b_.i64(0), own_scores, lanes,
                     b_.i64(std::min(piece_, l.padded_head_dim - d)), one, b_.ir.CreateUDiv(covered, b_.i64(kTile.mr)),
                     d ? ones : llvm::ConstantPointerNull::get(b_.ir.getPtrTy())});
  });
  Value* changed =
      scores_.call({u.b, u.h, u.q, u.rows, u.kv, u.columns, u.whole, scores, max, sum, place(l.factor_at)});
  b_.when(b_.ir.CreateICmpNE(changed, b_.i64(0)), [&] { rescale_outputs(b_, l, outputs, place(l.factor_at)); });
  AmxWeights weights(b_, spec_, scores_.plain_scale(), u.b, u.h);
  each_group([&](Value* lane, Value* own_scores) {
    const AmxWeights::Group group = weights.group(u.q, u.rows, lane, max);
    Value* zero = b_.constant(type, 0, kLanes);
    Value* added = b_.loop_nonempty(b_.i64(0), covered, 1, {zero}, [&](Value* key, const Values& before) {
      Value* slot = b_.element_pointer(type, own_scores, b_.mul(key, lanes));
      Value* total = before[0];
      Value* weight = weights.weigh(group, b_.add(u.kv, key), b_.load_vector(type, slot, kLanes), total);
      b_.store_vector(type, weight, slot);
      return Values{total};
    })[0];
    Value* own_sum = b_.element_pointer(type, sum, lane);
    b_.store_vector(type, b_.ir.CreateFAdd(b_.load_vector(type, own_sum, kLanes), added), own_sum);
    Value* own_outputs = b_.byte_pointer(outputs, b_.mul(lane, b_.i64(l.output_group() / kLanes)));
    product_.call({values, b_.i64(l.block_kv), own_scores, lanes, b_.i64(0), own_outputs, lanes, covered, one,
                   b_.i64(l.padded_value_dim / kTile.mr), ones});
  });
}

void AmxFmaUnit::call(const Unit& u) {
  b_.ir.CreateCall(function_,
                   {b_.argument(0), u.b, u.h, u.row, u.q, u.rows, u.kv, u.columns, u.whole, u.step, u.scratch});
}

}  // namespace tilewright::cpu
