// Around the main phase of the backward template: zeros, and what it left in the workspace after it.
#include "codegen/cpu/backward_emitter.h"
#include "codegen/cpu/backward_tables.h"

namespace tilewright::cpu {
using llvm::Value;

StridedRows BackwardEmitter::output_rows(ArgsReader& args, const BackwardLayout::Product& p, Value* b, Value* h,
                                         Value* first, Value* count) {
  const RowAccess out = resolve_access(b_, args, spec_, p.output, b, h);
  Value* base = b_.element_pointer(p.type, out.base, b_.mul(first, out.stride_seq));
  return {base, out.stride_seq, out.stride_dim, count, b_.i64(p.width)};
}

StridedRows BackwardEmitter::staged_rows(ArgsReader& args, size_t product, Value* b, Value* h, Value* first,
                                         Value* count) {
  const auto& p = layout_.rows[product];
  Value* base = b_.byte_pointer(args.workspace(), size(args, layout_.staged_at[product]));
  Value* row = b_.add(b_.mul(b_.add(b_.mul(b, heads_), h), q_len_), first);
  return {at(base, b_.mul(row, b_.i64(p.width))), b_.i64(p.width), b_.i64(1), count, b_.i64(p.width)};
}

BackwardEmitter::Block BackwardEmitter::decode_rows(ArgsReader& args, Value* number) {
  q_len_ = args.dim(spec_.q_len);
  heads_ = extent_product(b_, args, spec_.heads);
  Value* blocks = b_.ceil_div(q_len_, layout_.block_q);
  Value* sequence = b_.ir.CreateUDiv(number, blocks);
  Value* block = b_.sub(number, b_.mul(sequence, blocks));
  Value* b = b_.ir.CreateUDiv(sequence, heads_);
  Value* h = b_.sub(sequence, b_.mul(b, heads_));
  Value* q = b_.mul(block, b_.i64(layout_.block_q));
  Value* end = b_.min(b_.add(q, b_.i64(layout_.block_q)), q_len_);
  return {{b, h, q, end}, b_.sub(end, q), block};
}

/// Items are query blocks of every (b, h), and one more; each also clears its share of the workspace, the last one the
/// outputs of captured sums.
void BackwardEmitter::clear_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  b_.mark_cold();
  ArgsReader args(b_, args_layout_);
  Value* blocks = size(args, layout_.row_blocks());
  Value* bytes = size(args, layout_.workspace_bytes);
  Value* workspace = args.workspace();
  Value* items = b_.add(blocks, b_.i64(1));
  Value* share = b_.mul(b_.ir.CreateUDiv(b_.add(b_.ceil_div(bytes, 64), blocks), items), b_.i64(64));
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* number) {
    Value* from = b_.min(b_.mul(number, share), bytes);
    const DType line = DType::i64;
    b_.loop(from, b_.min(b_.add(from, share), bytes), 64,
            [&](Value* byte) { b_.store_vector(line, b_.constant(line, 0, 8), b_.byte_pointer(workspace, byte)); });
    b_.branch(
        b_.ir.CreateICmpSLT(number, blocks),
        [&] {
          const Block block = decode_rows(args, number);
          for (const auto& p : layout_.rows)
            if (!p.staged)
              writer_.call(RowWriter::Mode::zero, p.type,
                           output_rows(args, p, block.rows.b, block.rows.h, block.rows.q_begin, block.count), workspace,
                           0);
          return Values{};
        },
        [&] {
          for (size_t i = 0; i < layout_.captured.size(); ++i) {
            const auto& sum = layout_.captured[i];
            if (!sum.direct) continue;
            // Without a (b, h) nobody stores.
            Value* left = sum.stored ? b_.ir.CreateICmpEQ(blocks, b_.i64(0)) : b_.ir.getTrue();
            b_.when(left, [&] { clear_output(args, i); });
          }
          return Values{};
        });
  });
  b_.ret();
}

/// Every element of a captured sum's output.
void BackwardEmitter::clear_output(ArgsReader& args, size_t captured) {
  const int tensor = spec_.captured[captured].tensor;
  const auto last = static_cast<int>(spec_.tensors[static_cast<size_t>(tensor)].type.rank()) - 1;
  std::function<void(int, Value*)> axes = [&](int axis, Value* base) {
    if (axis == last) {
      const StridedRows row{base, b_.i64(0), args.stride(tensor, axis), b_.i64(1), args.shape(tensor, axis)};
      return writer_.call(RowWriter::Mode::zero, layout_.dtype, row, null(), 0);
    }
    b_.loop(b_.i64(0), args.shape(tensor, axis), 1,
            [&](Value* i) { axes(axis + 1, at(base, b_.mul(i, args.stride(tensor, axis)))); });
  };
  axes(0, args.tensor(tensor));
}

void BackwardEmitter::clear_scores(ArgsReader& args, const RowBlock& rows, const BlockTests::Keys& keys) {
  for (size_t i = 0; i < layout_.captured.size(); ++i) {
    const auto& sum = layout_.captured[i];
    if (!sum.stored) continue;
    Value* some = b_.ir.CreateICmpSLT(keys.begin, keys.end);
    b_.when(b_.ir.CreateAnd(some, reaches_first(b_, spec_, sum, rows.b, rows.h)), [&] {
      const int tensor = spec_.captured[i].tensor;
      Value* offset = b_.i64(0);
      auto add = [&](int axis, Value* index) {
        if (axis >= 0) offset = b_.add(offset, b_.mul(index, args.stride(tensor, axis)));
      };
      add(sum.b_axis, rows.b);
      add(sum.h_axis, sum.by_group ? b_.ir.CreateUDiv(rows.h, b_.i64(spec_.head_group)) : rows.h);
      add(sum.q_axis, rows.q_begin);
      add(sum.kv_axis, keys.begin);
      writer_.call(RowWriter::Mode::zero, layout_.dtype,
                   {at(args.tensor(tensor), offset), args.stride(tensor, sum.q_axis), args.stride(tensor, sum.kv_axis),
                    b_.sub(rows.q_end, rows.q_begin), b_.sub(keys.end, keys.begin)},
                   null(), 0);
    });
  }
}

/// Rows of outputs narrower than the accumulation type. Items are query blocks of every (b, h).
void BackwardEmitter::staged_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  b_.mark_cold();
  ArgsReader args(b_, args_layout_);
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* number) {
    const Block block = decode_rows(args, number);
    for (size_t i = 0; i < layout_.rows.size(); ++i) {
      const auto& p = layout_.rows[i];
      if (!p.staged) continue;
      const StridedRows from = staged_rows(args, i, block.rows.b, block.rows.h, block.rows.q_begin, block.count);
      writer_.call(RowWriter::Mode::store, p.type,
                   output_rows(args, p, block.rows.b, block.rows.h, block.rows.q_begin, block.count), from.base,
                   p.width);
    }
  });
  b_.ret();
}

void BackwardEmitter::table_kernel(const std::string& symbol, size_t captured) {
  emit_table_sum(b_, spec_, symbol, captured, layout_.table_at[captured], layout_.captured[captured].tables());
}

}  // namespace tilewright::cpu
