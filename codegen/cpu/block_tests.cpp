#include "codegen/cpu/block_tests.h"

#include <algorithm>

namespace tilewright::cpu {
using llvm::Value;

namespace {

bool is_zero(const Expr& expr) {
  const ExprNode& root = expr.root_node();
  return root.kind == ExprKind::constant && root.literal.integer == 0;
}

bool reads_tables(const Expr& expr) {
  return std::any_of(expr.nodes().begin(), expr.nodes().end(), [](const ExprNode& node) {
    return node.kind == ExprKind::load_min || node.kind == ExprKind::load_max || node.kind == ExprKind::load;
  });
}

}  // namespace

BlockTests::BlockTests(LlvmBuilder& builder, const ScoreSpace& space, const ArgsLayout& layout)
    : b_(builder), space_(space), layout_(layout) {
  emit_function(kSkip, space.kv_range.skip);
  emit_function(kFull, space.kv_range.full);
}

void BlockTests::start(ArgsReader& args) {
  kv_len_ = args.dim(space_.kv_len);
  if (space_.keep.is_constant_true()) return;
  auto make = [&](std::optional<ExprEmitter>& emitter, const Expr& expr) {
    if (!is_zero(expr)) emitter.emplace(b_, args, space_.tensors, expr, 1, Axis::kv);
  };
  make(begin_, space_.kv_range.begin);
  make(end_, space_.kv_range.end);
  if (!functions_[kSkip]) make(tests_[kSkip], space_.kv_range.skip);
  if (!functions_[kFull]) make(tests_[kFull], space_.kv_range.full);
}

void BlockTests::set_rows(ExprEmitter& emitter, const RowBlock& rows) {
  emitter.set_axis(Axis::b, rows.b);
  emitter.set_axis(Axis::h, rows.h);
  emitter.set_axis(Axis::q_lo, rows.q_begin);
  emitter.set_axis(Axis::q_hi, b_.sub(rows.q_end, b_.i64(1)));
}

BlockTests::Keys BlockTests::keys(const RowBlock& rows) {
  auto evaluate = [&](std::optional<ExprEmitter>& emitter, Value* fallback) {
    if (!emitter) return fallback;
    set_rows(*emitter, rows);
    return b_.min(b_.max(emitter->emit(), b_.i64(0)), kv_len_);
  };
  return {evaluate(begin_, b_.i64(0)), evaluate(end_, kv_len_)};
}

Value* BlockTests::test(Which which, const RowBlock& rows, const Keys& keys) {
  if (space_.keep.is_constant_true()) return which == kFull ? b_.ir.getTrue() : b_.ir.getFalse();
  Value* last = b_.sub(keys.end, b_.i64(1));
  if (functions_[which])
    return b_.ir.CreateCall(functions_[which], {b_.argument(0), rows.b, rows.h, rows.q_begin,
                                                b_.sub(rows.q_end, b_.i64(1)), keys.begin, last});
  if (!tests_[which]) return b_.ir.getFalse();
  set_rows(*tests_[which], rows);
  tests_[which]->set_axis(Axis::kv_lo, keys.begin);
  tests_[which]->set_axis(Axis::kv_hi, last);
  return tests_[which]->emit();
}

BlockTests::Keys BlockTests::shown(const RowBlock& rows, Value* kv, Value* end, int64_t panel, Value* full) {
  const Keys own = keys(rows);
  // What lies before own.begin in its panel is hidden by the mask itself.
  Value* before = b_.max(b_.sub(own.begin, kv), b_.i64(0));
  Value* skipped = panel & (panel - 1) ? b_.mul(b_.ir.CreateUDiv(before, b_.i64(panel)), b_.i64(panel))
                                       : b_.ir.CreateAnd(before, b_.i64(-panel));
  Value *first = b_.add(kv, skipped), *last = b_.min(own.end, end);
  if (!skip_scans() || !full) return {first, last};
  // From the first to the last panel that is not skipped; an empty range stays empty.
  const Values trimmed = b_.branch(
      full, [&] { return Values{first, last}; },
      [&] {
        return b_.loop(first, last, panel, {last, b_.min(first, last)}, [&](Value* at, const Values& range) {
          Value* next = b_.min(b_.add(at, b_.i64(panel)), last);
          Value* hidden = skip(rows, {at, next});
          return Values{b_.ir.CreateSelect(hidden, range[0], b_.min(range[0], at)),
                        b_.ir.CreateSelect(hidden, range[1], next)};
        });
      });
  return {trimmed[0], trimmed[1]};
}

Value* BlockTests::all_kept(const RowBlock& rows, const Keys& keys, Value* full) {
  if (space_.keep.is_constant_true()) return b_.ir.getTrue();
  const auto own = [&] { return Values{this->full(rows, keys)}; };
  return full ? b_.branch(full, [&] { return Values{full}; }, own)[0] : own()[0];
}

/// i1 test(args, b, h, q_lo, q_hi, kv_lo, kv_hi)
void BlockTests::emit_function(Which which, const Expr& test) {
  if (space_.keep.is_constant_true() || !reads_tables(test)) return;
  llvm::Type* i = b_.i64_type();
  functions_[which] =
      b_.begin_internal(which == kSkip ? "skip" : "full", b_.ir.getInt1Ty(), {b_.pointer_type(), i, i, i, i, i, i});
  ArgsReader args(b_, layout_);
  ExprEmitter emitter(b_, args, space_.tensors, test, 1, Axis::kv);
  unsigned n = 0;
  for (Axis axis : {Axis::b, Axis::h, Axis::q_lo, Axis::q_hi, Axis::kv_lo, Axis::kv_hi})
    emitter.set_axis(axis, b_.argument(++n));
  b_.ir.CreateRet(emitter.emit());
}

}  // namespace tilewright::cpu
