#include "codegen/cpu/decode_weights.h"

#include <limits>
#include <optional>

#include "codegen/cpu/vector_math.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {
enum WeightsArgument : unsigned { kArgs, kScratch, kBatch, kHead, kFirstRow, kCount, kKv, kKeys };
}  // namespace

DecodeWeights::DecodeWeights(LlvmBuilder& builder, const TileProgram& program, const Expr& score,
                             const DecodeLayout& layout)
    : b_(builder), spec_(program.spec), l_(layout), scale_(program.score_scale) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  function_ = b_.begin_internal("weights", b_.ir.getVoidTy(), {p, p, i, i, i, i, i, i});
  auto arg = [&](unsigned n) { return b_.argument(n); };
  const DecodeRows rows{arg(kBatch), arg(kHead), arg(kFirstRow), arg(kCount), arg(kKv), arg(kKeys)};
  const ArgsLayout args_layout = tilewright::args_layout(spec_);
  std::optional<ArgsReader> args;
  std::optional<ExprEmitter> score_emitter, keep_emitter, weight_emitter;
  auto start = [&](std::optional<ExprEmitter>& emitter, const Expr& expr) {
    if (!args) args.emplace(b_, args_layout);
    emitter.emplace(b_, *args, spec_.tensors, expr, l_.lanes, Axis::kv);
    emitter->set_axis(Axis::b, rows.b);
    emitter->hoist();
  };
  if (score.root_node().kind != ExprKind::score) start(score_emitter, score);
  if (!spec_.keep.is_constant_true()) start(keep_emitter, spec_.keep);
  if (spec_.weight_factor) {
    start(weight_emitter, *spec_.weight_factor);
    weight_emitter->promise_aligned();  // splits and their blocks start at multiples of 4
  }
  b_.loop_nonempty(b_.i64(0), rows.count, 1, {}, [&](Value* row, const Values&) {
    auto used = [](std::optional<ExprEmitter>& emitter) { return emitter ? &*emitter : nullptr; };
    emit_row(rows, row, used(score_emitter), used(keep_emitter), used(weight_emitter));
    return Values{};
  });
  b_.ret();
}

void DecodeWeights::call(Value* scratch, const DecodeRows& rows) {
  b_.ir.CreateCall(function_,
                   {b_.argument(0), scratch, rows.b, rows.h, rows.first_row, rows.count, rows.kv, rows.keys});
}

Value* DecodeWeights::scratch(int64_t start, Value* offset) {
  return b_.element_pointer(l_.dtype, b_.element_pointer(l_.dtype, b_.argument(kScratch), b_.i64(start)), offset);
}

void DecodeWeights::emit_row(const DecodeRows& rows, Value* i, ExprEmitter* score, ExprEmitter* keep,
                             ExprEmitter* weight) {
  auto& ir = b_.ir;
  const DType type = l_.dtype;
  const int64_t lanes = l_.lanes;
  if (score || keep || weight) {
    Value* row = b_.add(rows.first_row, i);
    Value* q = ir.CreateUDiv(row, b_.i64(spec_.head_group));
    Value* h = b_.add(rows.h, b_.sub(row, b_.mul(q, b_.i64(spec_.head_group))));
    for (ExprEmitter* emitter : {score, keep, weight})
      if (emitter) {
        emitter->set_axis(Axis::h, h);
        emitter->set_axis(Axis::q, q);
        emitter->hoist();
      }
  }
  Value* scores = scratch(l_.scores_at, b_.mul(i, b_.i64(l_.block_kv)));
  Value* hidden = b_.constant(type, softmax() ? kMinusInfinity : 0, lanes);
  Value* maximum = b_.loop_nonempty(b_.i64(0), rows.keys, lanes, {b_.constant(type, kMinusInfinity, lanes)},
                                    [&](Value* column, const Values& carried) {
                                      Value* slot = b_.element_pointer(type, scores, column);
                                      Value* position = b_.add(rows.kv, column);
                                      Value* kept = b_.lane_mask(b_.sub(rows.keys, column), lanes);
                                      Value* inside = kept;
                                      Value* s = b_.load_vector(type, slot, lanes);
                                      if (score) s = score->emit(position, s, inside);
                                      if (scale_ != 1) s = ir.CreateFMul(s, b_.constant(type, scale_, lanes));
                                      if (keep) kept = ir.CreateAnd(inside, keep->emit(position, nullptr, inside));
                                      s = ir.CreateSelect(kept, s, hidden);
                                      b_.store_vector(type, s, slot);
                                      return Values{softmax() ? b_.max_ignoring_nan(s, carried[0]) : carried[0]};
                                    })[0];
  // Without a softmax all weights stand and factors stay the 1 that they start with.
  if (!softmax()) return;
  Value* max_slot = scratch(l_.max_at, i);
  Value* before = b_.load(type, max_slot);
  Value* after = b_.max_ignoring_nan(b_.reduce_max(maximum), before);
  // Rows that keep nothing so far stay at -inf; their reference is 0, so that nothing becomes -inf - -inf.
  Value* reference =
      ir.CreateSelect(ir.CreateFCmpOEQ(after, b_.constant(type, kMinusInfinity)), b_.constant(type, 0), after);
  b_.store(type, after, max_slot);
  Value* scale = math::exp2(b_, ir.CreateFSub(before, reference));
  b_.store(type, scale, scratch(l_.factor_at, i));
  Value* subtract = b_.splat(reference, lanes);
  Value* sum_slot = scratch(l_.sum_at, b_.mul(i, b_.i64(lanes)));
  Value* sum = ir.CreateFMul(b_.load_vector(type, sum_slot, lanes), b_.splat(scale, lanes));
  sum = b_.loop_nonempty(b_.i64(0), rows.keys, lanes, {sum}, [&](Value* column, const Values& carried) {
    Value* slot = b_.element_pointer(type, scores, column);
    Value* p = math::exp2(b_, ir.CreateFSub(b_.load_vector(type, slot, lanes), subtract));
    Value* used = p;
    if (weight) {
      Value* inside = b_.lane_mask(b_.sub(rows.keys, column), lanes);
      used = ir.CreateFMul(p, b_.splat(weight->emit(b_.add(rows.kv, column), nullptr, inside), lanes));
      used = ir.CreateSelect(inside, used, b_.constant(type, 0, lanes));
    }
    b_.store_vector(type, used, slot);
    return Values{ir.CreateFAdd(carried[0], p)};
  })[0];
  b_.store_vector(type, sum, sum_slot);
}

}  // namespace tilewright::cpu
