#include "codegen/cpu/backward_pack.h"

#include <optional>

#include "codegen/cpu/expr_emitter.h"

namespace tilewright::cpu {
using llvm::Value;

BackwardPacker::BackwardPacker(LlvmBuilder& builder, const BackwardSpec& spec, const ArgsLayout& args,
                               const BackwardLayout& layout)
    : b_(builder), spec_(spec), args_(args), layout_(layout), copy_(builder, layout.dtype, layout.lanes) {
  for (const auto* list : {&layout.q_rows, &layout.kv_rows})
    for (const BackwardLayout::Rows& rows : *list) copy_.declare(rows.type);
  for (const BackwardLayout::Term& term : layout.terms) copy_.declare(term.key_type);
  emit_queries();
  emit_chunk();
}

/// void load_queries(args, b, h, begin, count, scratch)
void BackwardPacker::emit_queries() {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  queries_ = b_.begin_internal("load_queries", b_.ir.getVoidTy(), {p, i, i, i, i, p});
  b_.mark_cold();
  ArgsReader args(b_, args_);
  Value *begin = b_.argument(3), *count = b_.argument(4);
  Value* padded = b_.mul(b_.ceil_div(count, layout_.k_unroll), b_.i64(layout_.k_unroll));
  for (const BackwardLayout::Rows& rows : layout_.q_rows) {
    const RowAccess source = resolve_access(b_, args, spec_, rows.access, b_.argument(1), b_.argument(2));
    b_.loop(b_.i64(0), padded, 1, [&](Value* row) {
      Value* exists = b_.ir.CreateICmpSLT(row, count);
      Value* position = b_.add(begin, b_.ir.CreateSelect(exists, row, b_.i64(0)));
      copy_.call(rows.type,
                 b_.element_pointer(layout_.dtype, at(b_.argument(5), rows.at), b_.mul(row, b_.i64(rows.stride))),
                 b_.element_pointer(rows.type, source.base, b_.mul(position, source.stride_seq)), source.stride_dim,
                 b_.ir.CreateSelect(exists, b_.i64(rows.width), b_.i64(0)), rows.stride, rows.scale);
    });
  }
  b_.ret();
}

/// void load_chunk(args, b, h, first, count, scratch)
void BackwardPacker::emit_chunk() {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  chunk_ = b_.begin_internal("load_chunk", b_.ir.getVoidTy(), {p, i, i, i, i, p});
  b_.mark_cold();
  ArgsReader args(b_, args_);
  Value *first = b_.argument(3), *count = b_.argument(4), *scratch = b_.argument(5);
  const DType type = layout_.dtype;
  const int64_t lanes = layout_.lanes, panel = layout_.panel;
  auto source = [&](const Access& access) {
    return resolve_access(b_, args, spec_, access, b_.argument(1), b_.argument(2));
  };
  std::vector<RowAccess> row_sources, key_sources;
  for (const BackwardLayout::Rows& rows : layout_.kv_rows) row_sources.push_back(source(rows.access));
  for (const BackwardLayout::Term& term : layout_.terms) key_sources.push_back(source(term.key));
  std::optional<ExprEmitter> visible;
  if (!spec_.keep_kv.is_constant_true()) {
    visible.emplace(b_, args, spec_.tensors, spec_.keep_kv, 1, Axis::kv);
    visible->set_axis(Axis::b, b_.argument(1));
    visible->set_axis(Axis::h, b_.argument(2));
    visible->hoist();
  }
  // One row of an operand; hidden keys and those beyond the chunk read no memory.
  auto copy = [&](DType from, const RowAccess& rows, Value* number, int64_t width, Value* target, int64_t padded) {
    Value* shown = b_.ir.CreateICmpSLT(number, count);
    Value* position = b_.add(first, b_.min(number, b_.sub(count, b_.i64(1))));
    if (visible) {
      visible->set_axis(Axis::kv, position);
      shown = b_.ir.CreateAnd(shown, visible->emit());
    }
    copy_.call(from, target, b_.element_pointer(from, rows.base, b_.mul(position, rows.stride_seq)), rows.stride_dim,
               b_.ir.CreateSelect(shown, b_.i64(width), b_.i64(0)), padded);
  };
  Value* padded = b_.mul(b_.ceil_div(count, panel), b_.i64(panel));
  for (size_t n = 0; n < layout_.kv_rows.size(); ++n) {
    const BackwardLayout::Rows& rows = layout_.kv_rows[n];
    b_.loop(b_.i64(0), padded, 1, [&](Value* row) {
      Value* target = b_.element_pointer(type, at(scratch, rows.at), b_.mul(row, b_.i64(rows.stride)));
      copy(rows.type, row_sources[n], row, rows.width, target, rows.stride);
    });
  }
  for (size_t n = 0; n < layout_.terms.size(); ++n) {
    const BackwardLayout::Term& term = layout_.terms[n];
    b_.loop(b_.i64(0), padded, lanes, [&](Value* group) {
      Value* stage = at(scratch, layout_.stage_at);
      int64_t stride = layout_.stage_stride;
      if (term.kv_rows >= 0) {
        const BackwardLayout::Rows& rows = layout_.kv_rows[static_cast<size_t>(term.kv_rows)];
        stride = rows.stride;
        stage = b_.element_pointer(type, at(scratch, rows.at), b_.mul(group, b_.i64(stride)));
      } else {
        b_.loop(b_.i64(0), b_.i64(lanes), 1, [&](Value* lane) {
          copy(term.key_type, key_sources[n], b_.add(group, lane), term.head_dim,
               b_.element_pointer(type, stage, b_.mul(lane, b_.i64(stride))), term.padded_dim);
        });
      }
      // Column `group` of the chunk is column group % panel of panel group / panel.
      Value* in_panel = b_.ir.CreateURem(group, b_.i64(panel));
      Value* columns = b_.element_pointer(type, at(scratch, term.panels_at),
                                          b_.add(b_.mul(b_.sub(group, in_panel), b_.i64(term.padded_dim)), in_panel));
      b_.loop(b_.i64(0), b_.i64(term.padded_dim), 16 / layout_.element, [&](Value* d) {
        transpose_to_panel(b_, type, lanes, b_.element_pointer(type, stage, d), stride,
                           b_.element_pointer(type, columns, b_.mul(d, b_.i64(panel))), panel);
      });
    });
  }
  b_.ret();
}

void BackwardPacker::load_queries(Value* b, Value* h, Value* begin, Value* count, Value* scratch) {
  b_.ir.CreateCall(queries_, {b_.argument(0), b, h, begin, count, scratch});
}

void BackwardPacker::load_chunk(Value* b, Value* h, Value* first, Value* count, Value* scratch) {
  b_.ir.CreateCall(chunk_, {b_.argument(0), b, h, first, count, scratch});
}

}  // namespace tilewright::cpu
