// The fast backward template: flash attention's gradients by five products per tile of scores, P recomputed from the
// LSE, nothing of the size of the scores in memory.
//
// Phases: clear (zeros in outputs that are added to, and in the workspace), main, then what the workspace gathered:
// staged (rows of narrow outputs) and one phase per captured sum with tables.
//
// Main. An item is a chunk of keys of one (b, kv head), chunks slowest. It packs K and V once, then for every query
// head of the group, every block of query rows in ascending order, every kv block of the chunk that the rows may keep:
//
//                  block_kv keys              S = Q·Kᵀ, T = dO·Vᵀ       lanes along kv, against packed panels
//             |<------------------->|         score pass                S, T become P, dS in place; captured sums
//       ______ _____________________          dV += Pᵀ·dO, dK += dSᵀ·Q   the tile read by columns, against rows
//      | Q,dO |S, T then P, dS tile |         dQ block += dS·K          the tile read by rows, against rows of K
//   bq |      |                     |
//      |______|_____________________|       then the dQ block is added to the output, in its turn.
//
// Captured sums: one element per (q, kv), as of a full bias, is stored past the caches by the first (b, h) that reaches
// it, its zero where a block is skipped, and added to by the others; sums over q are added up in the output or in
// tables.
//
// Memory, all in L2: the two tiles [block_q][block_kv], Q and dO rows of a block, and of the chunk K rows, K and V
// panels, dK and dV. A micro-kernel's own B panel and A rows are in L1 (microkernel.h has the registers).
//
// dQ rows are added up over chunks in ascending order whatever the number of workers: chunk c adds to block i when
// chunk c - 1 has published that it is done with block i (turns, one counter per chunk, b and h; acquire and release).
// An item waits only for items of smaller numbers. Items are claimed one at a time in ascending order
// (LaunchPhase::ordered) and run to their end, so the smallest unfinished item waits for nobody: no deadlock, also when
// an executor runs its workers one after another, as then every smaller item has ended before.
#include <llvm/IR/IntrinsicsX86.h>

#include <algorithm>

#include "codegen/cpu/amx_backward_products.h"
#include "codegen/cpu/backward_emitter.h"
#include "codegen/cpu/backward_fma.h"
#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/templates.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {

std::unique_ptr<BackwardProducts> make_products(LlvmBuilder& builder, const BackwardSpec& spec, const ArgsLayout& args,
                                                const BackwardLayout& layout) {
  if (layout.amx) return std::make_unique<AmxBackwardProducts>(builder, spec, args, layout);
  return std::make_unique<FmaBackwardProducts>(builder, spec, args, layout);
}

}  // namespace

BackwardEmitter::BackwardEmitter(LlvmBuilder& builder, const BackwardSpec& spec, const BackwardLayout& layout)
    : BackwardScratch(builder, layout),
      spec_(spec),
      args_layout_(args_layout(spec)),
      scores_(builder, spec, layout, args_layout_),
      products_(make_products(builder, spec, args_layout_, layout)),
      writer_(builder, layout.dtype, layout.lanes),
      tests_(builder, spec, args_layout_) {
  for (const auto& p : layout.rows) {
    writer_.declare(RowWriter::Mode::add, layout.dtype);
    if (p.staged)
      writer_.declare(RowWriter::Mode::store, p.type);
    else
      writer_.declare(RowWriter::Mode::zero, p.type);
  }
  for (const auto& p : layout.columns) writer_.declare(RowWriter::Mode::store, p.type);
  for (size_t i = 0; i < layout.captured.size(); ++i)
    if (layout.captured[i].direct) writer_.declare(RowWriter::Mode::zero, layout.dtype);
}

Value* BackwardEmitter::size(ArgsReader& args, const Expr& expr) {
  return ExprEmitter(b_, args, spec_.tensors, expr, 1, Axis::kv).emit();
}

void BackwardEmitter::main_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  b_.mark_cold();
  ArgsReader args(b_, args_layout_);
  kv_len_ = args.dim(spec_.kv_len);
  q_len_ = args.dim(spec_.q_len);
  batch_ = extent_product(b_, args, spec_.batch);
  heads_ = extent_product(b_, args, spec_.heads);
  tests_.start(args);
  products_->enter();
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* number) { item(args, number); });
  products_->leave();
  // Streaming stores are not ordered by what tells others that the items are done.
  if (std::ranges::any_of(layout_.captured, [](const auto& sum) { return sum.stored; }))
    b_.ir.CreateIntrinsic(llvm::Intrinsic::x86_sse_sfence, {}, {});
  b_.ret();
}

void BackwardEmitter::item(ArgsReader& args, Value* number) {
  Value* group = b_.i64(spec_.head_group);
  Value* kv_heads = b_.ir.CreateUDiv(heads_, group);
  Value *rest = number, *b = b_.i64(0), *kv_head = b_.i64(0);
  auto split = [&](Value* extent) {  // the fastest part of what is left
    Value* slower = b_.ir.CreateUDiv(rest, extent);
    Value* part = b_.sub(rest, b_.mul(slower, extent));
    rest = slower;
    return part;
  };
  if (layout_.split_heads) kv_head = split(kv_heads);
  if (layout_.split_batch) b = split(batch_);
  Value* first = b_.mul(rest, b_.i64(layout_.chunk_kv));
  Value* count = b_.min(b_.sub(kv_len_, first), b_.i64(layout_.chunk_kv));
  Value *list = b_.i64(0), *done = nullptr, *before = nullptr;
  if (layout_.partial_tables()) {
    list = b_.ir.CreateURem(number, b_.i64(kPartialTables));
    before = b_.ir.CreateUDiv(number, b_.i64(kPartialTables));
    done = b_.byte_pointer(args.workspace(), b_.add(size(args, layout_.done_at), b_.mul(list, b_.i64(64))));
    wait_for(done, before);
  }
  auto over = [&](bool is_split, Value* one, Value* all, const std::function<void(Value*)>& body) {
    if (is_split) return body(one);
    b_.loop(b_.i64(0), all, 1, body);
  };
  over(layout_.split_batch, b, batch_, [&](Value* each_b) {
    over(layout_.split_heads, kv_head, kv_heads,
         [&](Value* each_head) { chunk(args, {rest, first, count, each_b, b_.mul(each_head, group), list}); });
  });
  if (done) publish(done, b_.add(before, b_.i64(1)));
}

void BackwardEmitter::chunk(ArgsReader& args, const Chunk& c) {
  products_->load_chunk(c.b, c.head, c.first, c.count);
  b_.loop(c.head, b_.add(c.head, b_.i64(spec_.head_group)), 1, [&](Value* h) { head(args, c, h); });
  store_columns(args, c);
}

void BackwardEmitter::head(ArgsReader& args, const Chunk& c, Value* h) {
  Value* own = turn_counter(args, c.number, c.b, h);
  // The first chunk waits for nobody: it reads its own counter and asks for at least 0.
  Value* is_first = b_.ir.CreateICmpEQ(c.number, b_.i64(0));
  Value* previous = turn_counter(args, b_.ir.CreateSelect(is_first, c.number, b_.sub(c.number, b_.i64(1))), c.b, h);
  auto wait_past = [&](Value* blocks) { wait_for(previous, b_.ir.CreateSelect(is_first, b_.i64(0), blocks)); };
  Value* blocks = b_.ceil_div(q_len_, layout_.block_q);
  b_.loop(b_.i64(0), blocks, 1, [&](Value* number) {
    Value* q = b_.mul(number, b_.i64(layout_.block_q));
    Value* end = b_.min(b_.add(q, b_.i64(layout_.block_q)), q_len_);
    const Block block{{c.b, h, q, end}, b_.sub(end, q), number};
    Value* visited = visit_block(args, c, block);
    if (layout_.rows.empty()) return;
    b_.when(visited, [&] {
      Value* after = b_.add(number, b_.i64(1));
      wait_past(after);
      add_rows(args, block);
      publish(own, after);
    });
  });
  if (layout_.rows.empty()) return;
  wait_past(blocks);
  publish(own, blocks);
}

Value* BackwardEmitter::visit_block(ArgsReader& args, const Chunk& c, const Block& block) {
  Value* chunk_end = b_.add(c.first, c.count);
  const BlockTests::Keys range = tests_.keys(block.rows);
  Value* begin = b_.max(range.begin, c.first);
  Value* end = b_.min(range.end, chunk_end);
  auto none = [&] {
    clear_scores(args, block.rows, {c.first, chunk_end});
    return Values{b_.ir.getFalse()};
  };
  return b_.branch(
      b_.ir.CreateICmpSLT(begin, end),
      [&] {
        return b_.branch(tests_.skip(block.rows, {begin, end}), none, [&] {
          products_->load_queries(block.rows.b, block.rows.h, block.rows.q_begin, block.count);
          // Blocks start at whole panels of the chunk.
          Value* offset = b_.sub(begin, c.first);
          Value* start =
              b_.add(c.first, b_.mul(b_.ir.CreateUDiv(offset, b_.i64(layout_.panel)), b_.i64(layout_.panel)));
          clear_scores(args, block.rows, {c.first, start});
          clear_scores(args, block.rows, {end, chunk_end});
          return b_.loop(start, end, layout_.block_kv, {b_.ir.getFalse()}, [&](Value* kv, const Values& carried) {
            const BlockTests::Keys keys{kv, b_.min(b_.add(kv, b_.i64(layout_.block_kv)), end)};
            return b_.branch(
                tests_.skip(block.rows, keys),
                [&] {
                  clear_scores(args, block.rows, keys);
                  return carried;
                },
                [&] {
                  tile(c, block, keys, carried[0]);
                  return Values{b_.ir.getTrue()};
                });
          });
        });
      },
      none)[0];
}

/// The five products and the pass between them. `more`: i1, not the first tile of the block.
void BackwardEmitter::tile(const Chunk& c, const Block& block, const BlockTests::Keys& keys, Value* more) {
  const BackwardProducts::Tile tile{block.count, b_.sub(keys.end, keys.begin), b_.sub(keys.begin, c.first)};
  // A test that scans tables is asked once.
  const bool one_strip = layout_.strip_rows == layout_.block_q;
  Value* full = one_strip || tests_.full_scans() ? tests_.full(block.rows, keys) : nullptr;
  if (one_strip) {
    strip(c, block, keys, tile, {b_.i64(0), block.count}, full);
  } else {
    b_.loop(b_.i64(0), block.count, layout_.strip_rows, [&](Value* row) {
      Value* rows = b_.min(b_.sub(block.count, row), b_.i64(layout_.strip_rows));
      strip(c, block, keys, tile, {row, rows}, full);
    });
  }
  products_->outputs(tile, more);
}

/// `full`: i1, of the whole block; null when the strip is to be tested itself.
void BackwardEmitter::strip(const Chunk& c, const Block& block, const BlockTests::Keys& keys,
                            const BackwardProducts::Tile& tile, const BackwardProducts::Strip& strip, Value* full) {
  const BackwardLayout& l = layout_;
  products_->scores(tile, strip);
  Value* q = b_.add(block.rows.q_begin, strip.row);
  if (!full) full = tests_.full({block.rows.b, block.rows.h, q, b_.add(q, strip.rows)}, keys);
  Value* whole = b_.ir.CreateICmpEQ(b_.ir.CreateAnd(tile.columns, b_.i64(l.score_lanes - 1)), b_.i64(0));
  whole = b_.ir.CreateAnd(whole, full);
  scores_.call(
      {block.rows.b, block.rows.h, q, strip.rows, keys.begin, tile.columns, whole, scratch(l.tile(0)), c.list});
  // Rows that pad k of the column products.
  b_.loop(strip.rows, b_.mul(b_.ceil_div(strip.rows, l.row_unit), b_.i64(l.row_unit)), 1, [&](Value* row) {
    for (size_t i = 0; i < l.weights.size(); ++i)
      b_.loop(b_.i64(0), b_.i64(l.tile_stride), l.lanes, [&](Value* column) {
        b_.store_vector(l.dtype, b_.constant(l.dtype, 0, l.lanes), at(scratch(l.tile(i), row, l.tile_stride), column));
      });
  });
  products_->take_weights(tile, strip);
}

void BackwardEmitter::add_rows(ArgsReader& args, const Block& block) {
  for (size_t i = 0; i < layout_.rows.size(); ++i) {
    const auto& p = layout_.rows[i];
    const StridedRows rows = p.staged
                                 ? staged_rows(args, i, block.rows.b, block.rows.h, block.rows.q_begin, block.count)
                                 : output_rows(args, p, block.rows.b, block.rows.h, block.rows.q_begin, block.count);
    writer_.call(RowWriter::Mode::add, layout_.dtype, rows, scratch(p.at), p.stride);
  }
}

void BackwardEmitter::store_columns(ArgsReader& args, const Chunk& c) {
  for (size_t i = 0; i < layout_.columns.size(); ++i) {
    const auto& p = layout_.columns[i];
    products_->column_sums(i, c.count, [&](const BackwardProducts::ColumnSums& sums) {
      writer_.call(RowWriter::Mode::store, p.type,
                   output_rows(args, p, c.b, c.head, b_.add(c.first, sums.first), sums.rows), sums.source, sums.stride);
    });
  }
}

CpuKernelSource generate_fast_backward(const BackwardSpec& given, const CpuSchedule& schedule, const CpuTarget& target,
                                       const std::string& prefix) {
  CpuModule module = make_cpu_module(prefix + "_backward", InstructionOrder::emitted);
  LlvmBuilder builder(module.state(), target);
  // As the forward on the same templates does it: queries that are multiplied in their own type stay what they are.
  const bool tiled = schedule.kernel == CpuTemplate::amx_backward;
  const bool scale_queries =
      !tiled || (schedule.products > 1 && operand_dtype(given, given.dots[0].query) == DType::f32);
  const FoldedWeights folded = fold_weights(given, scale_queries);
  const BackwardSpec& spec = folded.spec;
  const BackwardLayout layout(folded, schedule, target);
  BackwardEmitter emitter(builder, spec, layout);
  LaunchInfo launch;
  launch.schedule = schedule;
  launch.native_tiles = layout.amx && target.isa == CpuIsa::amx;
  auto phase = [&](const std::string& name, Expr items, bool ordered = false) {
    launch.phases.push_back({prefix + name, std::move(items), false, ordered});
    return launch.phases.back().symbol;
  };
  Expr clears = layout.row_blocks();
  clears.set_root(clears.op(Op::add, DType::i64, {clears.root(), clears.constant_int(1, DType::i64)}));
  emitter.clear_kernel(phase("_clear", std::move(clears)));
  emitter.main_kernel(phase("_main", layout.items(), true));
  if (std::any_of(layout.rows.begin(), layout.rows.end(), [](const auto& p) { return p.staged; }))
    emitter.staged_kernel(phase("_rows", layout.row_blocks()));
  for (size_t i = 0; i < layout.captured.size(); ++i)
    if (!layout.captured[i].direct) emitter.table_kernel(phase(fmt::format("_table{}", i), table_rows(spec, i)), i);
  launch.scratch_bytes = layout.scratch_bytes;
  launch.workspace_bytes = layout.workspace_bytes;
  launch.packed_bytes.set_root(launch.packed_bytes.constant_int(0, DType::i64));
  return {std::move(module), std::move(launch)};
}

}  // namespace tilewright::cpu
