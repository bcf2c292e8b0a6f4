#include "codegen/cpu/amx_prefill_pack.h"

#include <optional>

#include "codegen/cpu/expr_emitter.h"

namespace tilewright::cpu {
using llvm::Value;

AmxPrefillPacker::AmxPrefillPacker(LlvmBuilder& builder, const AttentionSpec& spec, const ArgsLayout& args,
                                   const AmxPrefillLayout& layout)
    : b_(builder),
      spec_(spec),
      args_(args),
      layout_(layout),
      copy_(builder, DType::f32, Layout::kGroup),
      computed_(emit_rows(builder, spec, args, spec.dots[0], Layout::kGroup, "rows")),
      tiles_(builder),
      queries_{TilePacker::Form::b, layout.padded_head_dim, layout.stage_width, layout.parts},
      keys_{TilePacker::Form::a, layout.padded_head_dim, layout.stage_width, layout.parts},
      values_{TilePacker::Form::a_transposed, layout.padded_value_dim, layout.stage_width, layout.value_parts} {
  const DotTerm& dot = spec.dots[0];
  query_type_ = operand_dtype(spec, dot.query, dot.query_row);
  key_type_ = operand_dtype(spec, dot.key, dot.key_row);
  value_type_ = operand_dtype(spec, spec.value);
  for (DType type : {query_type_, key_type_, value_type_}) copy_.declare(type);
  for (const TilePacker::Shape& shape : {queries_, keys_, values_}) tiles_.declare(shape);
  emit_pack_queries();
  emit_pack_block();
  if (!layout.checked()) return;
  emit_widen_queries();
  emit_widen_block();
}

/// Rows [begin + group, …) of a function (args, base, seq, dim, b, h, begin, count, scale, scratch) to the stage, those
/// from `count` on zero.
void AmxPrefillPacker::stage_queries(Value* group) {
  Value *begin = b_.argument(6), *count = b_.argument(7), *scratch = b_.argument(9);
  const auto place = [&](int64_t at) { return b_.byte_pointer(scratch, b_.i64(at)); };
  Value* here = b_.min(b_.max(b_.sub(count, group), b_.i64(0)), b_.i64(Layout::kGroup));
  Value* first = b_.add(begin, group);
  if (computed_.query) computed_.query->call(b_.argument(4), b_.argument(5), first, here, place(layout_.rows_at));
  b_.loop_nonempty(b_.i64(0), b_.i64(Layout::kGroup), 1, {}, [&](Value* row, const Values&) {
    Value* source = computed_.query
                        ? b_.element_pointer(DType::f32, place(layout_.rows_at), b_.mul(row, b_.i64(layout_.head_dim)))
                        : b_.element_pointer(query_type_, b_.argument(1), b_.mul(b_.add(first, row), b_.argument(2)));
    Value* columns = b_.ir.CreateSelect(b_.ir.CreateICmpSLT(row, here), b_.i64(layout_.head_dim), b_.i64(0));
    copy_.call(query_type_,
               b_.element_pointer(DType::f32, place(layout_.stage_at), b_.mul(row, b_.i64(layout_.stage_width))),
               source, b_.argument(3), columns, layout_.padded_head_dim, b_.argument(8));
    return Values{};
  });
}

llvm::Function* AmxPrefillPacker::begin_query_function(const std::string& name) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  llvm::Function* function =
      b_.begin_internal(name, b_.ir.getVoidTy(), {p, p, i, i, i, i, i, i, b_.ir.getFloatTy(), p});
  b_.mark_cold();
  return function;
}

void AmxPrefillPacker::emit_pack_queries() {
  pack_queries_ = begin_query_function("pack_queries");
  const auto place = [&](int64_t at) { return b_.byte_pointer(b_.argument(9), b_.i64(at)); };
  Value* padded = b_.mul(b_.ceil_div(b_.argument(7), Layout::kUnit), b_.i64(Layout::kUnit));
  const Values flag =
      b_.loop_nonempty(b_.i64(0), padded, Layout::kGroup, {b_.i64(0)}, [&](Value* group, const Values& before) {
        stage_queries(group);
        Value* number = b_.ir.CreateUDiv(group, b_.i64(Layout::kGroup));
        Value* to = b_.byte_pointer(place(layout_.queries_at), b_.mul(number, b_.i64(layout_.unit_queries() / 2)));
        return Values{
            b_.ir.CreateOr(before[0], tiles_.call(queries_, place(layout_.stage_at), place(layout_.tile_at), to))};
      });
  b_.store(DType::i64, flag[0], place(layout_.flag_at));
  b_.ret();
}

/// Panels [group][d][16 queries].
void AmxPrefillPacker::emit_widen_queries() {
  widen_queries_ = begin_query_function("widen_queries");
  const auto place = [&](int64_t at) { return b_.byte_pointer(b_.argument(9), b_.i64(at)); };
  b_.loop_nonempty(b_.i64(0), b_.i64(Layout::kUnit), Layout::kGroup, {}, [&](Value* group, const Values&) {
    stage_queries(group);
    Value* panel =
        b_.element_pointer(DType::f32, place(layout_.wide_queries_at), b_.mul(group, b_.i64(layout_.padded_head_dim)));
    b_.loop_nonempty(b_.i64(0), b_.i64(layout_.padded_head_dim), Layout::kGroup, {}, [&](Value* d, const Values&) {
      tiles_.transpose(b_.element_pointer(DType::f32, place(layout_.stage_at), d), layout_.stage_width,
                       b_.element_pointer(DType::f32, panel, b_.mul(d, b_.i64(Layout::kGroup))), Layout::kGroup);
      return Values{};
    });
    return Values{};
  });
  b_.ret();
}

/// Rows of K and V on their way to f32 rows in scratch, within a function (args, key base, seq, dim, value base, seq,
/// dim, first, count, b, kv head, scratch, dst): zero padded, those of hidden keys and of keys from `count` on zero.
class AmxPrefillPacker::KeyStage {
 public:
  explicit KeyStage(AmxPrefillPacker& packer) : p_(packer), b_(packer.b_) {
    if (p_.spec_.keep_kv.is_constant_true()) return;
    reader_.emplace(b_, p_.args_);
    visible_.emplace(b_, *reader_, p_.spec_.tensors, p_.spec_.keep_kv, 1, Axis::kv);
    visible_->set_axis(Axis::b, b_.argument(9));
    visible_->set_axis(Axis::h, b_.argument(10));
    visible_->hoist();
  }

  /// Keys [at, at + kGroup) of the block, `stride` elements apart.
  void keys(Value* at, Value* to, int64_t stride) {
    Value* computed = nullptr;
    if (p_.computed_.key) {
      computed = b_.byte_pointer(b_.argument(11), b_.i64(p_.layout_.rows_at));
      Value* here = b_.min(b_.max(b_.sub(b_.argument(8), at), b_.i64(0)), b_.i64(Layout::kGroup));
      p_.computed_.key->call(b_.argument(9), b_.argument(10), b_.add(b_.argument(7), at), here, computed);
    }
    const RowAccess key{b_.argument(1), b_.argument(2), b_.argument(3)};
    rows(p_.key_type_, key, computed, at, Layout::kGroup, p_.layout_.head_dim, p_.layout_.padded_head_dim, to, stride);
  }
  /// Values of keys [at, at + kStep).
  void values(Value* at, Value* to, int64_t stride) {
    const RowAccess value{b_.argument(4), b_.argument(5), b_.argument(6)};
    rows(p_.value_type_, value, nullptr, at, Layout::kStep, p_.layout_.value_dim, p_.layout_.padded_value_dim, to,
         stride);
  }

 private:
  void rows(DType type, const RowAccess& from, Value* computed, Value* at, int64_t count, int64_t dim, int64_t padded,
            Value* to, int64_t stride) {
    b_.loop_nonempty(b_.i64(0), b_.i64(count), 1, {}, [&](Value* row, const Values&) {
      Value* key = b_.add(at, row);
      Value* source = computed
                          ? b_.element_pointer(DType::f32, computed, b_.mul(row, b_.i64(dim)))
                          : b_.element_pointer(type, from.base, b_.mul(b_.add(b_.argument(7), key), from.stride_seq));
      p_.copy_.call(type, b_.element_pointer(DType::f32, to, b_.mul(row, b_.i64(stride))), source, from.stride_dim,
                    b_.ir.CreateSelect(shown(key), b_.i64(dim), b_.i64(0)), padded);
      return Values{};
    });
  }
  Value* shown(Value* key) {
    Value *first = b_.argument(7), *count = b_.argument(8);
    Value* there = b_.ir.CreateICmpSLT(key, count);
    if (!visible_) return there;
    visible_->set_axis(Axis::kv, b_.add(first, b_.min(key, b_.sub(count, b_.i64(1)))));
    return b_.ir.CreateAnd(there, visible_->emit());
  }

  AmxPrefillPacker& p_;
  LlvmBuilder& b_;
  std::optional<ArgsReader> reader_;
  std::optional<ExprEmitter> visible_;
};

llvm::Function* AmxPrefillPacker::begin_block_function(const std::string& name) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  llvm::Function* function = b_.begin_internal(name, b_.ir.getVoidTy(), {p, p, i, i, p, i, i, i, i, i, i, p, p});
  b_.mark_cold();
  return function;
}

void AmxPrefillPacker::emit_pack_block() {
  pack_block_ = begin_block_function("pack_block");
  KeyStage stage(*this);
  Value *scratch = b_.argument(11), *dst = b_.argument(12);
  const auto place = [&](int64_t at) { return b_.byte_pointer(scratch, b_.i64(at)); };
  const auto pack = [&](const TilePacker::Shape& shape, Value* to) {
    return tiles_.call(shape, place(layout_.stage_at), place(layout_.tile_at), to);
  };
  Value* flag = b_.loop_nonempty(
      b_.i64(0), b_.i64(layout_.block_kv), Layout::kGroup, {b_.i64(0)}, [&](Value* at, const Values& before) {
        stage.keys(at, place(layout_.stage_at), layout_.stage_width);
        Value* number = b_.ir.CreateUDiv(at, b_.i64(Layout::kGroup));
        Value* to = b_.byte_pointer(dst, b_.mul(number, b_.i64(layout_.key_step_bytes() / 2)));
        return Values{b_.ir.CreateOr(before[0], pack(keys_, to))};
      })[0];
  Value* values = b_.byte_pointer(dst, b_.i64(layout_.packed_values()));
  flag = b_.loop_nonempty(b_.i64(0), b_.i64(layout_.block_kv), Layout::kStep, {flag},
                          [&](Value* at, const Values& before) {
                            stage.values(at, place(layout_.stage_at), layout_.stage_width);
                            Value* number = b_.ir.CreateUDiv(at, b_.i64(Layout::kStep));
                            Value* to = b_.byte_pointer(values, b_.mul(number, b_.i64(layout_.value_step_bytes())));
                            return Values{b_.ir.CreateOr(before[0], pack(values_, to))};
                          })[0];
  b_.store(DType::i64, flag, b_.byte_pointer(dst, b_.i64(layout_.packed_flag())));
  b_.ret();
}

/// Rows of K, columns of V.
void AmxPrefillPacker::emit_widen_block() {
  widen_block_ = begin_block_function("widen_block");
  KeyStage stage(*this);
  const auto wide = [&](int64_t at, Value* element) {
    return b_.element_pointer(DType::f32, b_.byte_pointer(b_.argument(11), b_.i64(at)), element);
  };
  b_.loop_nonempty(b_.i64(0), b_.i64(layout_.block_kv), Layout::kGroup, {}, [&](Value* at, const Values&) {
    Value* first = b_.mul(at, b_.i64(layout_.padded_head_dim));
    stage.keys(at, wide(layout_.wide_keys_at, first), layout_.padded_head_dim);
    return Values{};
  });
  b_.loop_nonempty(b_.i64(0), b_.i64(layout_.block_kv), Layout::kStep, {}, [&](Value* at, const Values&) {
    stage.values(at, wide(layout_.stage_at, b_.i64(0)), layout_.stage_width);
    b_.loop_nonempty(b_.i64(0), b_.i64(layout_.padded_value_dim), Layout::kGroup, {}, [&](Value* d, const Values&) {
      for (int64_t group = 0; group < Layout::kStep; group += Layout::kGroup)
        tiles_.transpose(
            wide(layout_.stage_at, b_.add(d, b_.i64(group * layout_.stage_width))), layout_.stage_width,
            wide(layout_.wide_values_at, b_.add(b_.mul(d, b_.i64(layout_.block_kv)), b_.add(at, b_.i64(group)))),
            layout_.block_kv);
      return Values{};
    });
    return Values{};
  });
  b_.ret();
}

void AmxPrefillPacker::call_queries(llvm::Function* function, const RowAccess& query, Value* b, Value* h, Value* begin,
                                    Value* count, double scale, Value* scratch) {
  b_.ir.CreateCall(function, {b_.argument(0), query.base, query.stride_seq, query.stride_dim, b, h, begin, count,
                              b_.constant(DType::f32, layout_.scales_queries ? scale : 1), scratch});
}

void AmxPrefillPacker::call_block(llvm::Function* function, const RowAccess& key, const RowAccess& value, Value* first,
                                  Value* count, Value* b, Value* h, Value* scratch, Value* dst) {
  b_.ir.CreateCall(function, {b_.argument(0), key.base, key.stride_seq, key.stride_dim, value.base, value.stride_seq,
                              value.stride_dim, first, count, b, h, scratch, dst});
}

void AmxPrefillPacker::pack_queries(const RowAccess& query, Value* b, Value* h, Value* begin, Value* count,
                                    double scale, Value* scratch) {
  call_queries(pack_queries_, query, b, h, begin, count, scale, scratch);
}

void AmxPrefillPacker::widen_queries(const RowAccess& query, Value* b, Value* h, Value* begin, Value* count,
                                     double scale, Value* scratch) {
  call_queries(widen_queries_, query, b, h, begin, count, scale, scratch);
}

void AmxPrefillPacker::pack_block(const RowAccess& key, const RowAccess& value, Value* first, Value* count, Value* b,
                                  Value* h, Value* scratch, Value* dst) {
  call_block(pack_block_, key, value, first, count, b, h, scratch, dst);
}

void AmxPrefillPacker::widen_block(const RowAccess& key, const RowAccess& value, Value* first, Value* count, Value* b,
                                   Value* h, Value* scratch) {
  call_block(widen_block_, key, value, first, count, b, h, scratch, scratch);
}

}  // namespace tilewright::cpu
