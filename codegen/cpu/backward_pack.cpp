#include "codegen/cpu/backward_pack.h"

namespace tilewright::cpu {
using llvm::Value;

BackwardPacker::BackwardPacker(LlvmBuilder& builder, const BackwardSpec& spec, const ArgsLayout& args,
                               const BackwardLayout& layout)
    : b_(builder), layout_(layout), source_(builder, spec, args, layout) {
  emit_queries();
  emit_chunk();
}

void BackwardPacker::emit_queries() {
  queries_ = source_.begin("load_queries");
  BackwardSource::Reader reader(source_, BackwardSource::Reader::Of::queries);
  Value* padded = b_.mul(b_.ceil_div(b_.argument(4), layout_.k_unroll), b_.i64(layout_.k_unroll));
  for (const BackwardLayout::Rows& rows : layout_.q_rows) {
    const RowAccess from = reader.resolve(rows.access);
    b_.loop(b_.i64(0), padded, 1, [&](Value* row) {
      reader.query(rows, from, row,
                   b_.element_pointer(layout_.dtype, at(b_.argument(5), rows.at), b_.mul(row, b_.i64(rows.stride))),
                   rows.stride);
    });
  }
  b_.ret();
}

void BackwardPacker::emit_chunk() {
  chunk_ = source_.begin("load_chunk");
  BackwardSource::Reader reader(source_, BackwardSource::Reader::Of::keys);
  Value *count = b_.argument(4), *scratch = b_.argument(5);
  const DType type = layout_.dtype;
  const int64_t lanes = layout_.lanes, panel = layout_.panel;
  std::vector<RowAccess> row_sources, key_sources;
  for (const BackwardLayout::Rows& rows : layout_.kv_rows) row_sources.push_back(reader.resolve(rows.access));
  for (const BackwardLayout::Term& term : layout_.terms) key_sources.push_back(reader.resolve(term.key));
  Value* padded = b_.mul(b_.ceil_div(count, panel), b_.i64(panel));
  for (size_t n = 0; n < layout_.kv_rows.size(); ++n) {
    const BackwardLayout::Rows& rows = layout_.kv_rows[n];
    b_.loop(b_.i64(0), padded, 1, [&](Value* row) {
      Value* target = b_.element_pointer(type, at(scratch, rows.at), b_.mul(row, b_.i64(rows.stride)));
      reader.key(rows.type, row_sources[n], row, rows.width, target, rows.stride);
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
          reader.key(term.key_type, key_sources[n], b_.add(group, lane), term.head_dim,
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
  source_.call(queries_, b, h, begin, count, scratch);
}

void BackwardPacker::load_chunk(Value* b, Value* h, Value* first, Value* count, Value* scratch) {
  source_.call(chunk_, b, h, first, count, scratch);
}

}  // namespace tilewright::cpu
