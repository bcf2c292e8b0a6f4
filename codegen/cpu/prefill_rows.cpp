#include "codegen/cpu/prefill_rows.h"

#include <algorithm>
#include <limits>

#include "codegen/cpu/vector_math.h"

namespace tilewright::cpu {
using llvm::Value;

struct RowPass::Row {
  Value* scores;
  Value* kv;  ///< position of column 0
  Value* columns;
  Value* end;  ///< columns rounded up to a multiple of row_step · lanes
  Value* whole;
  ExprEmitter *score, *keep;  ///< null where there is nothing to do
  ExprEmitter* ahead;         ///< the score of the next strip's row, when it streams a tensor from memory
  ExprEmitter* weight;        ///< null when weights are used as they are
  Value *max, *sum, *factor;  ///< this row's own
};

RowPass::RowPass(LlvmBuilder& builder, const TileProgram& program, const Expr& score, const PrefillLayout& layout)
    : b_(builder),
      spec_(program.spec),
      layout_(layout),
      scale_(program.score_scale),
      plain_score_(score.root_node().kind == ExprKind::score && program.score_scale == 1) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  function_ = b_.begin_internal("row_pass", b_.ir.getVoidTy(), {p, i, i, i, i, i, i, b_.ir.getInt1Ty(), p, p, p, p});
  auto arg = [&](unsigned n) { return b_.argument(n); };
  const StripState strip{arg(1), arg(2), arg(3), arg(4), arg(5), arg(6), arg(7), arg(8), arg(9), arg(10), arg(11)};

  const ArgsLayout args_layout = tilewright::args_layout(spec_);
  std::optional<ArgsReader> args;
  std::optional<ExprEmitter> score_emitter, keep_emitter, ahead_emitter, weight_emitter;
  auto start = [&](std::optional<ExprEmitter>& emitter, const Expr& expr, int64_t lanes) {
    if (!args) args.emplace(b_, args_layout);
    emitter.emplace(b_, *args, spec_.tensors, expr, lanes, Axis::kv);
    emitter->set_axis(Axis::b, strip.b);
    emitter->set_axis(Axis::h, strip.h);
    emitter->hoist();
  };
  if (!plain_score_) start(score_emitter, score, layout_.lanes);
  if (score_emitter && score_emitter->streams(Axis::q)) start(ahead_emitter, score, layout_.lanes);
  if (!spec_.keep.is_constant_true()) start(keep_emitter, spec_.keep, layout_.lanes);
  if (spec_.weight_factor) {
    start(weight_emitter, *spec_.weight_factor, layout_.row_step * layout_.lanes);
    weight_emitter->promise_aligned();  // strips start at panels
  }
  b_.loop_nonempty(b_.i64(0), strip.rows, 1, {}, [&](Value* row, const Values&) {
    auto used = [](std::optional<ExprEmitter>& emitter) { return emitter ? &*emitter : nullptr; };
    emit_row(strip, row, used(score_emitter), used(keep_emitter), used(ahead_emitter), used(weight_emitter));
    return Values{};
  });
  b_.ret();
}

void RowPass::emit_row(const StripState& strip, Value* row, ExprEmitter* score, ExprEmitter* keep, ExprEmitter* ahead,
                       ExprEmitter* weight) {
  Value* q = b_.add(strip.q, row);
  for (ExprEmitter* emitter : {score, keep, ahead, weight}) {
    if (!emitter) continue;
    emitter->set_axis(Axis::q, emitter == ahead ? b_.add(q, b_.i64(layout_.strip_rows)) : q);
    emitter->hoist();
  }
  const int64_t step = layout_.row_step * layout_.lanes;
  auto own = [&](Value* region, int64_t width) {
    return b_.element_pointer(layout_.dtype, region, b_.mul(row, b_.i64(width)));
  };
  const Row state{own(strip.scores, layout_.score_stride),
                  strip.kv,
                  strip.columns,
                  b_.mul(b_.ceil_div(strip.columns, step), b_.i64(step)),
                  strip.whole,
                  score,
                  keep,
                  ahead,
                  weight,
                  own(strip.max, 1),
                  own(strip.sum, layout_.lanes),
                  own(strip.factor, 1)};
  Value* top = maxima(state);
  if (spec_.normaliser == Normaliser::softmax) softmax(state, top);
}

Values RowPass::visit(const Row& row, Value* column, int64_t count, bool whole) {
  const DType type = layout_.dtype;
  const int64_t lanes = layout_.lanes;
  const bool softmax = spec_.normaliser == Normaliser::softmax;
  Value* hidden = b_.constant(type, softmax ? kMinusInfinity : 0, lanes);
  Values result;
  for (int64_t u = 0; u < count; ++u) {
    Value* at = b_.add(column, b_.i64(u * lanes));
    Value* slot = b_.element_pointer(type, row.scores, at);
    Value* s = b_.load_vector(type, slot, lanes);
    Value* inside = whole ? nullptr : b_.lane_mask(b_.sub(row.columns, at), lanes);
    Value* kv = b_.add(row.kv, at);
    if (row.ahead) row.ahead->prefetch(Axis::q, kv);
    if (row.score) s = row.score->emit(kv, s, inside);
    if (scale_ != 1) s = b_.ir.CreateFMul(s, b_.constant(type, scale_, lanes));
    if (!whole) {
      Value* kept = row.keep ? b_.ir.CreateAnd(inside, row.keep->emit(kv, nullptr, inside)) : inside;
      s = b_.ir.CreateSelect(kept, s, hidden);
    }
    if (!whole || !plain_score_) b_.store_vector(type, s, slot);
    result.push_back(s);
  }
  return result;
}

/// The max pass: per-lane maxima of the row.
Value* RowPass::maxima(const Row& row) {
  const int64_t lanes = layout_.lanes;
  const Values none = {b_.constant(layout_.dtype, kMinusInfinity, lanes)};
  auto pass = [&](int64_t count, bool whole) {
    const Values start(static_cast<size_t>(count), none[0]);
    Values tops = b_.loop_nonempty(b_.i64(0), row.end, count * lanes, start, [&](Value* column, const Values& before) {
      Values next = visit(row, column, count, whole);
      for (size_t u = 0; u < next.size(); ++u) next[u] = b_.max_ignoring_nan(next[u], before[u]);
      return next;
    });
    for (size_t u = 1; u < tops.size(); ++u) tops[0] = b_.max_ignoring_nan(tops[0], tops[u]);
    return Values{tops[0]};
  };
  if (!plain())
    return b_.branch(row.whole, [&] { return pass(layout_.row_step, true); }, [&] { return pass(1, false); })[0];
  b_.loop(b_.ir.CreateAnd(row.columns, b_.i64(-lanes)), row.end, lanes,
          [&](Value* column) { visit(row, column, 1, false); });
  return pass(layout_.row_step, true)[0];
}

/// The exponential pass; `top` holds the row's maxima.
void RowPass::softmax(const Row& row, Value* top) {
  const DType type = layout_.dtype;
  const int64_t lanes = layout_.lanes;
  const auto count = static_cast<size_t>(layout_.row_step);
  Value* before = b_.load(type, row.max);
  Value* after = b_.max_ignoring_nan(b_.reduce_max(top), before);
  // Rows that keep nothing so far stay at -inf; their reference is 0, so that nothing becomes -inf - -inf.
  Value* reference =
      b_.ir.CreateSelect(b_.ir.CreateFCmpOEQ(after, b_.constant(type, kMinusInfinity)), b_.constant(type, 0), after);
  b_.store(type, after, row.max);

  Value* subtract = b_.splat(reference, lanes);
  const Values zeros(count, b_.constant(type, 0, lanes));
  const int64_t step = layout_.row_step * lanes;
  Values sums = b_.loop_nonempty(b_.i64(0), row.end, step, zeros, [&](Value* column, Values next) {
    const Values factors = row.weight ? factors_at(row, column) : Values{};
    for (size_t u = 0; u < count; ++u) {
      Value* at = b_.add(column, b_.i64(static_cast<int64_t>(u) * lanes));
      Value* slot = b_.element_pointer(type, row.scores, at);
      Value* p = math::exp2(b_, b_.ir.CreateFSub(b_.load_vector(type, slot, lanes), subtract));
      next[u] = b_.ir.CreateFAdd(next[u], p);
      if (row.weight) p = b_.ir.CreateFMul(p, factors[u]);
      b_.store_vector(type, p, slot);
    }
    return next;
  });
  for (size_t u = 1; u < count; ++u) sums[0] = b_.ir.CreateFAdd(sums[0], sums[u]);

  Value* factor = math::exp2(b_, b_.ir.CreateFSub(before, reference));
  b_.store(type, factor, row.factor);
  b_.store_vector(type, b_.fma(b_.load_vector(type, row.sum, lanes), b_.splat(factor, lanes), sums[0]), row.sum);
}

/// What row_step vectors of weights from `column` on are multiplied by, 0 where there is no column: in one piece, so
/// that the chains of random numbers, ten rounds of seven cycles, run side by side.
Values RowPass::factors_at(const Row& row, Value* column) {
  const int64_t lanes = layout_.lanes, all = layout_.row_step * lanes;
  const bool reads = std::ranges::any_of(spec_.weight_factor->nodes(), [](const ExprNode& node) {
    return node.kind == ExprKind::load && !node.args.empty();
  });
  Value* inside = reads ? b_.lane_mask(b_.sub(row.columns, column), all) : nullptr;
  Value* whole = b_.splat(row.weight->emit(b_.add(row.kv, column), nullptr, inside), all);
  if (reads) whole = b_.ir.CreateSelect(inside, whole, b_.constant(layout_.dtype, 0, all));
  Values factors;
  for (int64_t u = 0; u < layout_.row_step; ++u) factors.push_back(b_.lanes_from(whole, u * lanes, lanes));
  return factors;
}

void RowPass::call(const StripState& s) {
  b_.ir.CreateCall(function_,
                   {b_.argument(0), s.b, s.h, s.q, s.rows, s.kv, s.columns, s.whole, s.scores, s.max, s.sum, s.factor});
}

}  // namespace tilewright::cpu
