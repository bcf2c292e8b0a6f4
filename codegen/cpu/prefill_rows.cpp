#include "codegen/cpu/prefill_rows.h"

#include <limits>

#include "codegen/cpu/vector_math.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {
constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();
}

RowPass::RowPass(LlvmBuilder& builder, const TileProgram& program, const PrefillLayout& layout)
    : b_(builder), program_(program), layout_(layout) {
  full_ = emit("softmax_full", true);
  partial_ = emit("softmax_partial", false);
}

llvm::Function* RowPass::emit(const std::string& name, bool whole) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  llvm::Function* function = b_.begin_internal(name, b_.ir.getVoidTy(), {p, i, i, i, i, i, i, p, p, p, p});
  auto arg = [&](unsigned n) { return b_.argument(n); };
  const StripState strip{arg(1), arg(2), arg(3), arg(4), arg(5), arg(6), arg(7), arg(8), arg(9), arg(10)};
  b_.loop_nonempty(b_.i64(0), strip.rows, 1, {}, [&](Value* row, const Values&) {
    emit_row(strip, row, whole);
    return Values{};
  });
  b_.ret();
  return function;
}

void RowPass::emit_row(const StripState& strip, Value* row, bool whole) {
  const DType type = layout_.dtype;
  const int64_t lanes = layout_.lanes, unroll = layout_.row_step, step = lanes * unroll;
  const auto count = static_cast<size_t>(unroll);
  Value* scores = b_.element_pointer(type, strip.scores, b_.mul(row, b_.i64(layout_.score_stride)));
  auto at = [&](Value* column, size_t u) {
    Value* offset = u ? b_.add(column, b_.i64(static_cast<int64_t>(u) * lanes)) : column;
    return b_.element_pointer(type, scores, offset);
  };
  Value* hidden = b_.constant(type, kMinusInfinity, lanes);
  Value* end = whole ? strip.columns : b_.mul(b_.ceil_div(strip.columns, step), b_.i64(step));
  if (!whole) {
    Value* first = b_.ir.CreateAnd(strip.columns, b_.i64(-lanes));
    b_.loop(first, end, lanes, [&](Value* column) {
      Value* kept = b_.lane_mask(b_.sub(strip.columns, column), lanes);
      Value* s = b_.load_vector(type, at(column, 0), lanes);
      b_.store_vector(type, b_.ir.CreateSelect(kept, s, hidden), at(column, 0));
    });
  }

  Values maxima = b_.loop_nonempty(b_.i64(0), end, step, Values(count, hidden), [&](Value* column, Values next) {
    for (size_t u = 0; u < count; ++u)
      next[u] = b_.max_ignoring_nan(b_.load_vector(type, at(column, u), lanes), next[u]);
    return next;
  });
  for (size_t u = 1; u < count; ++u) maxima[0] = b_.max_ignoring_nan(maxima[0], maxima[u]);

  Value* max_slot = b_.element_pointer(type, strip.max, row);
  Value* before = b_.load(type, max_slot);
  Value* after = b_.max_ignoring_nan(b_.reduce_max(maxima[0]), before);
  // Rows that keep nothing so far stay at -inf; their reference is 0, so that nothing becomes -inf - -inf.
  Value* reference =
      b_.ir.CreateSelect(b_.ir.CreateFCmpOEQ(after, b_.constant(type, kMinusInfinity)), b_.constant(type, 0), after);
  b_.store(type, after, max_slot);

  Value* subtract = b_.splat(reference, lanes);
  Values sums = b_.loop_nonempty(
      b_.i64(0), end, step, Values(count, b_.constant(type, 0, lanes)), [&](Value* column, Values next) {
        for (size_t u = 0; u < count; ++u) {
          Value* p = math::exp2(b_, b_.ir.CreateFSub(b_.load_vector(type, at(column, u), lanes), subtract));
          b_.store_vector(type, p, at(column, u));
          next[u] = b_.ir.CreateFAdd(next[u], p);
        }
        return next;
      });
  for (size_t u = 1; u < count; ++u) sums[0] = b_.ir.CreateFAdd(sums[0], sums[u]);

  Value* factor = math::exp2(b_, b_.ir.CreateFSub(before, reference));
  b_.store(type, factor, b_.element_pointer(type, strip.factor, row));
  Value* sum_slot = b_.element_pointer(type, strip.sum, b_.mul(row, b_.i64(lanes)));
  Value* sum = b_.fma(b_.load_vector(type, sum_slot, lanes), b_.splat(factor, lanes), sums[0]);
  b_.store_vector(type, sum, sum_slot);
}

void RowPass::call(llvm::Function* function, const StripState& s) {
  b_.ir.CreateCall(function, {b_.argument(0), s.b, s.h, s.q, s.rows, s.kv, s.columns, s.scores, s.max, s.sum, s.factor});
}
void RowPass::full(const StripState& strip) { call(full_, strip); }
void RowPass::partial(const StripState& strip) { call(partial_, strip); }

}  // namespace tilewright::cpu
