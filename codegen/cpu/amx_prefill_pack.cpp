#include "codegen/cpu/amx_prefill_pack.h"

#include <optional>

#include "codegen/cpu/expr_emitter.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {
using Layout = AmxPrefillLayout;
}  // namespace

AmxPrefillPacker::AmxPrefillPacker(LlvmBuilder& builder, const AttentionSpec& spec, const ArgsLayout& args,
                                   const AmxPrefillLayout& layout)
    : b_(builder),
      spec_(spec),
      args_(args),
      layout_(layout),
      copy_(builder, DType::f32, Layout::kGroup),
      computed_(emit_rows(builder, spec, args, spec.dots[0], Layout::kGroup, "rows")),
      tiles_(builder),
      queries_{TilePacker::Form::b, layout.padded_head_dim, layout.stage_width, layout.parts, layout.parts > 1},
      keys_{TilePacker::Form::a, layout.padded_head_dim, layout.stage_width, layout.parts, layout.parts > 1},
      values_{TilePacker::Form::a_transposed, layout.padded_value_dim, layout.stage_width, layout.value_parts,
              layout.value_parts > 1} {
  const DotTerm& dot = spec.dots[0];
  query_type_ = operand_dtype(spec, dot.query, dot.query_row);
  key_type_ = operand_dtype(spec, dot.key, dot.key_row);
  value_type_ = operand_dtype(spec, spec.value);
  for (DType type : {query_type_, key_type_, value_type_}) copy_.declare(type);
  for (const TilePacker::Shape& shape : {queries_, keys_, values_}) tiles_.declare(shape);
  emit_pack_queries();
  emit_pack_block();
}

/// void pack_queries(args, base, seq, dim, b, h, begin, count, scale, scratch)
void AmxPrefillPacker::emit_pack_queries() {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  pack_queries_ = b_.begin_internal("pack_queries", b_.ir.getVoidTy(), {p, p, i, i, i, i, i, i, b_.ir.getFloatTy(), p});
  b_.mark_cold();
  const auto arg = [&](unsigned n) { return b_.argument(n); };
  Value *base = arg(1), *seq = arg(2), *dim = arg(3), *begin = arg(6), *count = arg(7), *scratch = arg(9);
  const auto place = [&](int64_t at) { return b_.byte_pointer(scratch, b_.i64(at)); };
  Value* padded = b_.mul(b_.ceil_div(count, Layout::kUnit), b_.i64(Layout::kUnit));
  const Values flag =
      b_.loop_nonempty(b_.i64(0), padded, Layout::kGroup, {b_.i64(0)}, [&](Value* group, const Values& before) {
        Value* here = b_.min(b_.max(b_.sub(count, group), b_.i64(0)), b_.i64(Layout::kGroup));
        if (computed_.query) computed_.query->call(arg(4), arg(5), b_.add(begin, group), here, place(layout_.rows_at));
        b_.loop_nonempty(b_.i64(0), b_.i64(Layout::kGroup), 1, {}, [&](Value* row, const Values&) {
          Value* source =
              computed_.query
                  ? b_.element_pointer(DType::f32, place(layout_.rows_at), b_.mul(row, b_.i64(layout_.head_dim)))
                  : b_.element_pointer(query_type_, base, b_.mul(b_.add(b_.add(begin, group), row), seq));
          Value* columns = b_.ir.CreateSelect(b_.ir.CreateICmpSLT(row, here), b_.i64(layout_.head_dim), b_.i64(0));
          copy_.call(query_type_,
                     b_.element_pointer(DType::f32, place(layout_.stage_at), b_.mul(row, b_.i64(layout_.stage_width))),
                     source, dim, columns, layout_.padded_head_dim, arg(8));
          return Values{};
        });
        Value* to = b_.byte_pointer(place(layout_.queries_at), b_.mul(b_.ir.CreateUDiv(group, b_.i64(Layout::kGroup)),
                                                                      b_.i64(layout_.unit_queries() / 2)));
        return Values{
            b_.ir.CreateOr(before[0], tiles_.call(queries_, place(layout_.stage_at), place(layout_.tile_at), to))};
      });
  b_.store(DType::i64, flag[0], place(layout_.flag_at));
  b_.ret();
}

/// void pack_block(args, key base, seq, dim, value base, seq, dim, first, count, b, kv head, scratch, dst)
void AmxPrefillPacker::emit_pack_block() {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  pack_block_ = b_.begin_internal("pack_block", b_.ir.getVoidTy(), {p, p, i, i, p, i, i, i, i, i, i, p, p});
  b_.mark_cold();
  const auto arg = [&](unsigned n) { return b_.argument(n); };
  const RowAccess key{arg(1), arg(2), arg(3)}, value{arg(4), arg(5), arg(6)};
  Value *first = arg(7), *count = arg(8), *scratch = arg(11), *dst = arg(12);
  const auto place = [&](int64_t at) { return b_.byte_pointer(scratch, b_.i64(at)); };
  std::optional<ArgsReader> reader;
  std::optional<ExprEmitter> visible;
  if (!spec_.keep_kv.is_constant_true()) {
    reader.emplace(b_, args_);
    visible.emplace(b_, *reader, spec_.tensors, spec_.keep_kv, 1, Axis::kv);
    visible->set_axis(Axis::b, arg(9));
    visible->set_axis(Axis::h, arg(10));
    visible->hoist();
  }
  // Columns to copy of the key at `at`, none of a hidden one.
  const auto shown_columns = [&](Value* at, int64_t dim) {
    Value* shown = b_.ir.CreateICmpSLT(at, count);
    if (visible) {
      visible->set_axis(Axis::kv, b_.add(first, b_.min(at, b_.sub(count, b_.i64(1)))));
      shown = b_.ir.CreateAnd(shown, visible->emit());
    }
    return b_.ir.CreateSelect(shown, b_.i64(dim), b_.i64(0));
  };
  const auto stage = [&](DType type, const RowAccess& from, Value* rows, Value* at, Value* row, int64_t dim,
                         int64_t padded) {
    Value* source = rows ? b_.element_pointer(DType::f32, rows, b_.mul(row, b_.i64(dim)))
                         : b_.element_pointer(type, from.base, b_.mul(b_.add(first, at), from.stride_seq));
    copy_.call(type, b_.element_pointer(DType::f32, place(layout_.stage_at), b_.mul(row, b_.i64(layout_.stage_width))),
               source, from.stride_dim, shown_columns(at, dim), padded);
  };
  Value* values = b_.byte_pointer(dst, b_.i64(layout_.packed_values()));
  const auto pack = [&](const TilePacker::Shape& shape, Value* to) {
    return tiles_.call(shape, place(layout_.stage_at), place(layout_.tile_at), to);
  };
  Value* flag = b_.loop_nonempty(
      b_.i64(0), b_.i64(layout_.block_kv), Layout::kGroup, {b_.i64(0)}, [&](Value* group, const Values& before) {
        Value* rows = computed_.key ? place(layout_.rows_at) : nullptr;
        if (rows) {
          Value* here = b_.min(b_.max(b_.sub(count, group), b_.i64(0)), b_.i64(Layout::kGroup));
          computed_.key->call(arg(9), arg(10), b_.add(first, group), here, rows);
        }
        b_.loop_nonempty(b_.i64(0), b_.i64(Layout::kGroup), 1, {}, [&](Value* row, const Values&) {
          stage(key_type_, key, rows, b_.add(group, row), row, layout_.head_dim, layout_.padded_head_dim);
          return Values{};
        });
        Value* number = b_.ir.CreateUDiv(group, b_.i64(Layout::kGroup));
        Value* to = b_.byte_pointer(dst, b_.mul(number, b_.i64(layout_.key_step_bytes() / 2)));
        return Values{b_.ir.CreateOr(before[0], pack(keys_, to))};
      })[0];
  flag = b_.loop_nonempty(
      b_.i64(0), b_.i64(layout_.block_kv), Layout::kStep, {flag}, [&](Value* step, const Values& before) {
        b_.loop_nonempty(b_.i64(0), b_.i64(Layout::kStep), 1, {}, [&](Value* row, const Values&) {
          stage(value_type_, value, nullptr, b_.add(step, row), row, layout_.value_dim, layout_.padded_value_dim);
          return Values{};
        });
        Value* number = b_.ir.CreateUDiv(step, b_.i64(Layout::kStep));
        Value* to = b_.byte_pointer(values, b_.mul(number, b_.i64(layout_.value_step_bytes())));
        return Values{b_.ir.CreateOr(before[0], pack(values_, to))};
      })[0];
  b_.store(DType::i64, flag, b_.byte_pointer(dst, b_.i64(layout_.packed_flag())));
  b_.ret();
}

void AmxPrefillPacker::pack_queries(const RowAccess& query, Value* b, Value* h, Value* begin, Value* count,
                                    double scale, Value* scratch) {
  b_.ir.CreateCall(pack_queries_, {b_.argument(0), query.base, query.stride_seq, query.stride_dim, b, h, begin, count,
                                   b_.constant(DType::f32, layout_.scales_queries ? scale : 1), scratch});
}

void AmxPrefillPacker::pack_block(const RowAccess& key, const RowAccess& value, Value* first, Value* count, Value* b,
                                  Value* h, Value* scratch, Value* dst) {
  b_.ir.CreateCall(pack_block_, {b_.argument(0), key.base, key.stride_seq, key.stride_dim, value.base, value.stride_seq,
                                 value.stride_dim, first, count, b, h, scratch, dst});
}

}  // namespace tilewright::cpu
