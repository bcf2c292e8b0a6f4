#include "codegen/cpu/prefill_pack.h"

#include <optional>

#include "codegen/cpu/expr_emitter.h"
#include "codegen/cpu/row_copy.h"

namespace tilewright::cpu {
using llvm::Value;

PrefillPacker::PrefillPacker(LlvmBuilder& builder, const AttentionSpec& spec, const ArgsLayout& args,
                             const PrefillLayout& layout)
    : b_(builder),
      spec_(spec),
      args_(args),
      layout_(layout),
      copy_(builder, layout.dtype, layout.lanes),
      computed_(emit_rows(builder, spec, args, spec.dots[0], layout.lanes, "rows")) {
  const DotTerm& dot = spec.dots[0];
  query_type_ = operand_dtype(spec, dot.query, dot.query_row);
  key_type_ = operand_dtype(spec, dot.key, dot.key_row);
  value_type_ = operand_dtype(spec, spec.value);
  for (DType type : {query_type_, key_type_, value_type_}) copy_.declare(type);
  emit_pack_block();
}

void PrefillPacker::pack_queries(const RowAccess& query, Value* b, Value* h, Value* begin, Value* count, double scale,
                                 Value* rows, Value* dst) {
  const DType to = layout_.dtype;
  auto copy = [&](Value* row, Value* src) {
    copy_.call(query_type_, b_.element_pointer(to, dst, b_.mul(row, b_.i64(layout_.padded_head_dim))), src,
               query.stride_dim, b_.i64(layout_.head_dim), layout_.padded_head_dim, scale);
  };
  if (!computed_.query) {
    b_.loop(b_.i64(0), count, 1, [&](Value* row) {
      copy(row, b_.element_pointer(query_type_, query.base, b_.mul(b_.add(begin, row), query.stride_seq)));
    });
    return;
  }
  b_.loop(b_.i64(0), count, layout_.lanes, [&](Value* group) {
    Value* here = b_.min(b_.sub(count, group), b_.i64(layout_.lanes));
    computed_.query->call(b, h, b_.add(begin, group), here, rows);
    b_.loop(b_.i64(0), here, 1, [&](Value* row) {
      copy(b_.add(group, row), b_.element_pointer(to, rows, b_.mul(row, b_.i64(layout_.head_dim))));
    });
  });
}

/// void pack(args, key base, seq, dim, value base, seq, dim, first, count, b, kv head, stage, dst)
void PrefillPacker::emit_pack_block() {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  pack_ = b_.begin_internal("pack_block", b_.ir.getVoidTy(), {p, p, i, i, p, i, i, i, i, i, i, p, p});
  b_.mark_cold();
  auto arg = [&](unsigned n) { return b_.argument(n); };
  const RowAccess key{arg(1), arg(2), arg(3)}, value{arg(4), arg(5), arg(6)};
  Value *first = arg(7), *count = arg(8), *stage = arg(11), *dst = arg(12);
  const DType to = layout_.dtype;
  const int64_t lanes = layout_.lanes, panel = layout_.panel;
  Value* values = b_.element_pointer(to, dst, b_.i64(layout_.packed_keys()));
  Value* padded = b_.mul(b_.ceil_div(count, panel), b_.i64(panel));
  std::optional<ArgsReader> reader;
  std::optional<ExprEmitter> visible;
  if (!spec_.keep_kv.is_constant_true()) {
    reader.emplace(b_, args_);
    visible.emplace(b_, *reader, spec_.tensors, spec_.keep_kv, 1, Axis::kv);
    visible->set_axis(Axis::b, arg(9));
    visible->set_axis(Axis::h, arg(10));
    visible->hoist();
  }
  Value* rows = b_.element_pointer(to, stage, b_.i64(layout_.rows_at - layout_.stage_at));
  b_.loop_nonempty(b_.i64(0), padded, lanes, {}, [&](Value* group, const Values&) {
    if (computed_.key)
      computed_.key->call(arg(9), arg(10), b_.add(first, group), b_.min(b_.sub(count, group), b_.i64(lanes)), rows);
    b_.loop_nonempty(b_.i64(0), b_.i64(lanes), 1, {}, [&](Value* lane, const Values&) {
      Value* at = b_.add(group, lane);
      Value* shown = b_.ir.CreateICmpSLT(at, count);
      Value* position = b_.add(first, at);
      if (visible) {
        visible->set_axis(Axis::kv, b_.min(position, b_.sub(b_.add(first, count), b_.i64(1))));
        shown = b_.ir.CreateAnd(shown, visible->emit());
      }
      auto take = [&](int64_t dim) { return b_.ir.CreateSelect(shown, b_.i64(dim), b_.i64(0)); };
      Value* source = computed_.key ? b_.element_pointer(to, rows, b_.mul(lane, b_.i64(layout_.head_dim)))
                                    : b_.element_pointer(key_type_, key.base, b_.mul(position, key.stride_seq));
      copy_.call(key_type_, b_.element_pointer(to, stage, b_.mul(lane, b_.i64(layout_.stage_width))), source,
                 key.stride_dim, take(layout_.head_dim), layout_.stage_width);
      copy_.call(value_type_, b_.element_pointer(to, values, b_.mul(at, b_.i64(layout_.padded_value_dim))),
                 b_.element_pointer(value_type_, value.base, b_.mul(position, value.stride_seq)), value.stride_dim,
                 take(layout_.value_dim), layout_.padded_value_dim);
      return Values{};
    });
    // Column `group` of the block is column group % panel of panel group / panel.
    Value* in_panel = b_.ir.CreateURem(group, b_.i64(panel));
    Value* columns =
        b_.element_pointer(to, dst, b_.add(b_.mul(b_.sub(group, in_panel), b_.i64(layout_.padded_head_dim)), in_panel));
    b_.loop_nonempty(b_.i64(0), b_.i64(layout_.padded_head_dim), 16 / layout_.element, {},
                     [&](Value* d, const Values&) {
                       transpose_to_panel(b_, to, lanes, b_.element_pointer(to, stage, d), layout_.stage_width,
                                          b_.element_pointer(to, columns, b_.mul(d, b_.i64(panel))), panel);
                       return Values{};
                     });
    return Values{};
  });
  b_.ret();
}

void PrefillPacker::pack_block(const RowAccess& key, const RowAccess& value, Value* first, Value* count, Value* b,
                               Value* h, Value* stage, Value* dst) {
  b_.ir.CreateCall(pack_, {b_.argument(0), key.base, key.stride_seq, key.stride_dim, value.base, value.stride_seq,
                           value.stride_dim, first, count, b, h, stage, dst});
}

}  // namespace tilewright::cpu
