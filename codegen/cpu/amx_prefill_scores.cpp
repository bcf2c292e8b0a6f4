#include "codegen/cpu/amx_prefill_scores.h"

#include <optional>

#include "codegen/cpu/vector_math.h"

namespace tilewright::cpu {
using llvm::Value;

AmxScorePass::AmxScorePass(LlvmBuilder& builder, const TileProgram& program, const AmxPrefillLayout& layout)
    : b_(builder),
      spec_(program.spec),
      layout_(layout),
      leading_(leading_scale(program.score)),
      score_(layout.scales_queries ? leading_.expr : program.score),
      score_scale_(program.score_scale) {
  const bool bare = leading_.expr.root_node().kind == ExprKind::score && score_scale_ == 1;
  plain_scale_ = layout.scales_queries ? 1 : leading_.scale;
  // The largest product is the largest score where the factor is not negative.
  plain_ = bare && plain_scale_ >= 0;
  emit();
}

/// i64 scores(args, b, h, q, rows, kv, columns, whole, scores, max, sum, factor)
void AmxScorePass::emit() {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  function_ = b_.begin_internal("scores", i, {p, i, i, i, i, i, i, i, p, p, p, p});
  const auto arg = [&](unsigned n) { return b_.argument(n); };
  const Unit unit{arg(1), arg(2), arg(3), arg(4), arg(5), arg(6), arg(7), arg(8), arg(9), arg(10), arg(11)};
  const ArgsLayout args_layout = tilewright::args_layout(spec_);
  std::optional<ArgsReader> args;
  const auto start = [&](std::optional<ExprEmitter>& emitter, const Expr& expr) {
    if (!args) args.emplace(b_, args_layout);
    emitter.emplace(b_, *args, spec_.tensors, expr, kLanes, Axis::q);
    emitter->set_axis(Axis::b, unit.b);
    emitter->set_axis(Axis::h, unit.h);
    emitter->hoist();
  };
  if (!plain_) start(score_emitter_, score_);
  if (!spec_.keep.is_constant_true()) start(keep_emitter_, spec_.keep);
  const Values changed = b_.loop_nonempty(
      b_.i64(0), b_.i64(2 * kLanes), kLanes, {b_.i64(0)},
      [&](Value* lane, const Values& before) { return Values{b_.ir.CreateOr(before[0], emit_group(unit, lane))}; });
  b_.ir.CreateRet(changed[0]);
  score_emitter_.reset();
  keep_emitter_.reset();
}

Value* AmxScorePass::group_scores(const Unit& unit, Value* lane) {
  return b_.byte_pointer(unit.scores, b_.mul(lane, b_.i64(layout_.score_group() / kLanes)));
}

/// i64: not 0 when a reference changed.
Value* AmxScorePass::emit_group(const Unit& unit, Value* lane) {
  Value* hidden = b_.constant(DType::f32, spec_.normaliser == Normaliser::softmax ? kMinusInfinity : 0, kLanes);
  Value* scores = group_scores(unit, lane);
  b_.loop(unit.columns, b_.i64(layout_.block_kv), 1, [&](Value* key) {
    b_.store_vector(DType::f32, hidden, b_.element_pointer(DType::f32, scores, b_.mul(key, b_.i64(kLanes))));
  });
  Value* top = spec_.keep.is_constant_true()
                   ? visit(unit, lane, true)
                   : b_.branch(
                         b_.ir.CreateICmpNE(unit.whole, b_.i64(0)), [&] { return Values{visit(unit, lane, true)}; },
                         [&] { return Values{visit(unit, lane, false)}; })[0];
  return spec_.normaliser == Normaliser::softmax ? follow(unit, lane, top) : b_.i64(0);
}

/// The maxima of a group, NaN left out.
Value* AmxScorePass::visit(const Unit& unit, Value* lane, bool whole) {
  const bool softmax = spec_.normaliser == Normaliser::softmax;
  const DType type = DType::f32;
  Value* hidden = b_.constant(type, softmax ? kMinusInfinity : 0, kLanes);
  Value* none = b_.constant(type, kMinusInfinity, kLanes);
  Value* first = b_.add(unit.q, lane);
  Value* exists = b_.lane_mask(b_.sub(unit.rows, lane), kLanes);
  Value* base = group_scores(unit, lane);
  const auto at_key = [&](Value* key) {
    Value* slot = b_.element_pointer(type, base, b_.mul(key, b_.i64(kLanes)));
    Value* s = b_.load_vector(type, slot, kLanes);
    Value* kv = b_.add(unit.kv, key);
    const auto emit = [&](ExprEmitter& emitter, Value* score) {
      emitter.set_axis(Axis::kv, kv);
      return b_.splat(emitter.emit(first, score, exists), kLanes);
    };
    if (score_emitter_) s = emit(*score_emitter_, s);
    if (score_emitter_ && score_scale_ != 1) s = b_.ir.CreateFMul(s, b_.constant(type, score_scale_, kLanes));
    if (!whole) s = b_.ir.CreateSelect(emit(*keep_emitter_, nullptr), s, hidden);
    if (!whole || score_emitter_) b_.store_vector(type, s, slot);
    return s;
  };
  // Several maxima, so that one does not wait for the other; expressions have parallelism of their own.
  const int64_t unroll = whole && plain_ ? 4 : 2;
  // Plain scores may run past the columns, to what is hidden; blocks are whole steps of 32.
  const bool past = whole && plain_;
  Value* even = b_.ir.CreateAnd(past ? b_.add(unit.columns, b_.i64(unroll - 1)) : unit.columns, b_.i64(-unroll));
  Values tops = b_.loop(
      b_.i64(0), even, unroll, Values(static_cast<size_t>(unroll), none), [&](Value* key, const Values& before) {
        Values next;
        for (int64_t u = 0; u < unroll; ++u)
          next.push_back(b_.max_ignoring_nan(at_key(b_.add(key, b_.i64(u))), before[static_cast<size_t>(u)]));
        return next;
      });
  for (size_t u = 1; u < tops.size(); ++u) tops[0] = b_.max_ignoring_nan(tops[u], tops[0]);
  if (past) return tops[0];
  return b_.loop(even, unit.columns, 1, {tops[0]}, [&](Value* key, const Values& before) {
    return Values{b_.max_ignoring_nan(at_key(key), before[0])};
  })[0];
}

/// References that the block has outgrown; i64, not 0 when there are any.
Value* AmxScorePass::follow(const Unit& unit, Value* lane, Value* top) {
  auto& ir = b_.ir;
  const DType type = DType::f32;
  const auto own = [&](Value* region) { return b_.element_pointer(type, region, lane); };
  if (plain_ && plain_scale_ != 1) top = ir.CreateFMul(top, b_.constant(type, plain_scale_, kLanes));
  Value* before = b_.load_vector(type, own(unit.max), kLanes);
  Value* limit = ir.CreateFAdd(before, b_.constant(type, static_cast<double>(layout_.rescale_log2), kLanes));
  Value* outgrown = ir.CreateFCmpOGT(top, limit);
  Value* any = ir.CreateOrReduce(outgrown);
  b_.branch(
      any,
      [&] {
        Value* one = b_.constant(type, 1, kLanes);
        Value* after = ir.CreateSelect(outgrown, top, before);
        Value* factor = ir.CreateSelect(outgrown, math::exp2(b_, ir.CreateFSub(before, after)), one);
        b_.store_vector(type, after, own(unit.max));
        b_.store_vector(type, factor, own(unit.factor));
        b_.store_vector(type, ir.CreateFMul(b_.load_vector(type, own(unit.sum), kLanes), factor), own(unit.sum));
        return Values{};
      },
      [&] {
        b_.store_vector(type, b_.constant(type, 1, kLanes), own(unit.factor));
        return Values{};
      });
  return ir.CreateZExt(any, b_.i64_type());
}

Value* AmxScorePass::call(const Unit& u) {
  return b_.ir.CreateCall(
      function_, {b_.argument(0), u.b, u.h, u.q, u.rows, u.kv, u.columns, u.whole, u.scores, u.max, u.sum, u.factor});
}

}  // namespace tilewright::cpu
