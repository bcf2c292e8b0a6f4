// The fast prefill template: flash attention over packed K and V, one work item = block_q query rows of one (b, h).
//
// Phase 1, pack (left out when KernelArgs::packed is null, as it always is by share_packed 0; the main phase then packs
// each block into its own scratch):
// K and V of every (b, kv head) become blocks of block_kv keys: K panels [panel][d][keys of a panel], then V rows
// [key][dv], widened to the accumulation type, zero padded, hidden keys zero. Rows of Q and K that the spec computes
// (RoPE, norms) are made `lanes` at a time and packed from there (row_emitter.h).
//
// Phase 2, main. Per item: Q rows times the score's leading scale (log2 e included), O = 0, l = 0, m = -inf; then
//
//                      block_kv keys                     for each kv block of the item's range, ascending:
//               |<--------------------->|                  skip it when no row keeps any of it
//         ______ _______________________                   for each strip of strip_rows rows:
//        | Q    |S tile, strip_rows × bkv|  <- L1            columns = the strip's own kv range, whole panels of K
//   bq   |      |_______________________|                    S = Q·K^T            (TileProduct)
//   rows |      |                                             row pass: score, mask, m, P = exp2(S - m), l, α
//        |______|  O [bq][dv]              <- L2             O = α·O + P·V        (TileProduct)
//                                                         then O / l, LSE, narrowed and strided stores.
//
// Memory: the strip's S, one K panel and one column tile of V live in L1; Q, O, m, l of the item and the K/V block in
// L2. Registers: see microkernel.h. Scratch does not depend on sequence lengths.
// Only the products and the row pass are compiled for speed; everything else here runs once per strip or less.
#include <algorithm>
#include <functional>

#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/prefill_emitter.h"
#include "codegen/cpu/templates.h"

namespace tilewright::cpu {
using llvm::Value;

PrefillEmitter::PrefillEmitter(LlvmBuilder& builder, const TileProgram& program, const PrefillLayout& layout)
    : b_(builder),
      spec_(program.spec),
      layout_(layout),
      args_layout_(args_layout(program.spec)),
      leading_(leading_scale(program.score)),
      scores_(builder, layout.dtype, layout.lanes, layout.score_tile, layout.k_unroll, "product"),
      rows_(builder, program, leading_.expr, layout),
      packer_(builder, spec_, args_layout_, layout),
      tests_(builder, spec_, args_layout_) {
  if (layout.output_tile.mr != layout.score_tile.mr || layout.output_tile.nv != layout.score_tile.nv)
    outputs_.emplace(builder, layout.dtype, layout.lanes, layout.output_tile, layout.k_unroll, "product_o");
}

/// Items are (b, kv head, block of block_kv keys).
void PrefillEmitter::pack_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  b_.mark_cold();
  ArgsReader args(b_, args_layout_);
  Value* kv_len = args.dim(spec_.kv_len);
  Value* blocks = b_.ceil_div(kv_len, layout_.block_kv);
  Value* heads = b_.ir.CreateUDiv(extent_product(b_, args, spec_.heads), b_.i64(spec_.head_group));
  Value* packed = args.packed();
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* item) {
    Value* sequence = b_.ir.CreateUDiv(item, blocks);
    Value* first = b_.mul(b_.sub(item, b_.mul(sequence, blocks)), b_.i64(layout_.block_kv));
    Value* batch = b_.ir.CreateUDiv(sequence, heads);
    Value* head = b_.mul(b_.sub(sequence, b_.mul(batch, heads)), b_.i64(spec_.head_group));
    const DotTerm& dot = spec_.dots[0];
    const RowAccess key = resolve_stored(b_, args, spec_, dot.key, dot.key_row, batch, head);
    const RowAccess value = resolve_access(b_, args, spec_, spec_.value, batch, head);
    Value* count = b_.min(b_.sub(kv_len, first), b_.i64(layout_.block_kv));
    packer_.pack_block(key, value, first, count, batch, head, scratch(layout_.stage_at),
                       at(packed, b_.mul(item, b_.i64(layout_.packed_block()))));
  });
  b_.ret();
}

/// Items are (b, h, block of block_q rows), the last rows of a head first: under a causal mask they are the longest.
void PrefillEmitter::main_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  b_.mark_cold();
  ArgsReader args(b_, args_layout_);
  ItemDecoder decoder(b_, args, spec_, layout_.block_q);
  Value* kv_heads = b_.ir.CreateUDiv(decoder.heads(), b_.i64(spec_.head_group));
  kv_len_ = args.dim(spec_.kv_len);
  tests_.start(args);
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* index) {
    Value* head = b_.ir.CreateUDiv(index, decoder.q_blocks());
    Value* first = b_.mul(head, decoder.q_blocks());
    Value* reversed = b_.sub(b_.add(b_.add(first, first), b_.sub(decoder.q_blocks(), b_.i64(1))), index);
    const Item work = decoder.decode(reversed);
    item(args, work, b_.add(b_.mul(work.b, kv_heads), b_.ir.CreateUDiv(work.h, b_.i64(spec_.head_group))));
  });
  b_.ret();
}

void PrefillEmitter::item(ArgsReader& args, const Item& item, Value* kv_head) {
  const PrefillLayout& l = layout_;
  const DType type = l.dtype;
  Value* rows = b_.sub(item.q_end, item.q_begin);
  Value* first_head = b_.mul(b_.ir.CreateUDiv(item.h, b_.i64(spec_.head_group)), b_.i64(spec_.head_group));
  const DotTerm& dot = spec_.dots[0];
  const RowAccess query = resolve_stored(b_, args, spec_, dot.query, dot.query_row, item.b, item.h);
  const RowAccess key = resolve_stored(b_, args, spec_, dot.key, dot.key_row, item.b, first_head);
  const RowAccess value = resolve_access(b_, args, spec_, spec_.value, item.b, first_head);

  packer_.pack_queries(query, item.b, item.h, item.q_begin, rows, leading_.scale, scratch(l.rows_at), scratch(l.q_at));
  // Rows of whole strips: what lies between the last row and its strip's end takes part in the products.
  Value* filled = b_.mul(b_.ceil_div(rows, l.strip_rows), b_.i64(l.strip_rows));
  auto fill = [&](int64_t region, Value* count, double with) {
    b_.loop_nonempty(b_.i64(0), count, l.lanes, {}, [&](Value* i, const Values&) {
      b_.store_vector(type, b_.constant(type, with, l.lanes), at(scratch(region), i));
      return Values{};
    });
  };
  fill(l.o_at, b_.mul(filled, b_.i64(l.padded_value_dim)), 0);
  fill(l.sum_at, b_.mul(filled, b_.i64(l.lanes)), 0);
  fill(l.max_at, filled, kMinusInfinity);
  if (l.score_piece < l.padded_head_dim) fill(l.ones_at, b_.i64(l.strip_rows), 1);
  if (spec_.normaliser == Normaliser::none) fill(l.factor_at, filled, 1);

  Value* packed = args.packed();
  Value* blocks = b_.ceil_div(kv_len_, l.block_kv);
  const BlockTests::Keys all = tests_.keys(item);
  Value* from = b_.mul(b_.ir.CreateUDiv(all.begin, b_.i64(l.block_kv)), b_.i64(l.block_kv));
  b_.loop(from, all.end, l.block_kv, [&](Value* kv) {
    Value* end = b_.min(b_.add(kv, b_.i64(l.block_kv)), kv_len_);
    b_.when(b_.ir.CreateNot(tests_.skip(item, {kv, end})), [&] {
      Value* number = b_.add(b_.mul(kv_head, blocks), b_.ir.CreateUDiv(kv, b_.i64(l.block_kv)));
      Value* block = b_.branch(
          b_.ir.CreateIsNull(packed),
          [&] {
            Value* here = scratch(l.block_at);
            packer_.pack_block(key, value, kv, b_.sub(end, kv), item.b, first_head, scratch(l.stage_at), here);
            return Values{here};
          },
          [&] { return Values{at(packed, b_.mul(number, b_.i64(l.packed_block())))}; })[0];
      Value* full = tests_.full_scans() ? tests_.full(item, {kv, end}) : nullptr;
      b_.loop_nonempty(b_.i64(0), rows, l.strip_rows, {}, [&](Value* row, const Values&) {
        strip(item, row, b_.min(b_.sub(rows, row), b_.i64(l.strip_rows)), kv, end, block, full);
        return Values{};
      });
    });
  });
  finish(args, item);
}

void PrefillEmitter::strip(const Item& item, Value* row, Value* rows, Value* kv, Value* end, Value* block,
                           Value* full) {
  const PrefillLayout& l = layout_;
  Value* q = b_.add(item.q_begin, row);
  const RowBlock own_rows{item.b, item.h, q, b_.add(q, rows)};
  const auto [first, last] = tests_.shown(own_rows, kv, end, l.panel, full);
  Value* skipped = b_.sub(first, kv);
  Value* visited = b_.ir.CreateICmpSLT(first, last);
  b_.when(visited, [&, first = first, last = last] {
    auto row_pointer = [&](int64_t region, int64_t per_row) {
      return at(scratch(region), b_.mul(row, b_.i64(per_row)));
    };
    Value* columns = b_.sub(last, first);
    Value* scores = scratch(l.scores_at);
    Value* none = llvm::ConstantPointerNull::get(b_.ir.getPtrTy());
    for (int64_t d = 0; d < l.padded_head_dim; d += l.score_piece)
      scores_.call({at(row_pointer(l.q_at, l.padded_head_dim), d), b_.i64(l.padded_head_dim),
                    at(at(block, b_.mul(skipped, b_.i64(l.padded_head_dim))), d * l.panel), b_.i64(l.panel),
                    b_.i64(l.panel * l.padded_head_dim), scores, b_.i64(l.score_stride),
                    b_.i64(std::min(l.score_piece, l.padded_head_dim - d)), b_.ceil_div(columns, l.panel),
                    b_.ceil_div(rows, l.score_tile.mr), d ? scratch(l.ones_at) : none});
    const int64_t step = l.row_step * l.lanes;
    Value* whole = b_.ir.getFalse();
    if (!rows_.plain()) {
      whole = b_.ir.CreateICmpEQ(b_.ir.CreateAnd(columns, b_.i64(step - 1)), b_.i64(0));
      whole = b_.ir.CreateAnd(whole, tests_.all_kept(own_rows, {first, last}, full));
    }
    const StripState state{item.b,
                           item.h,
                           q,
                           rows,
                           first,
                           columns,
                           whole,
                           scores,
                           row_pointer(l.max_at, 1),
                           row_pointer(l.sum_at, l.lanes),
                           row_pointer(l.factor_at, 1)};
    rows_.call(state);
    const int64_t width = l.output_tile.nv * l.lanes;
    outputs().call({scores, b_.i64(l.score_stride),
                    at(block, b_.add(b_.i64(l.packed_keys()), b_.mul(skipped, b_.i64(l.padded_value_dim)))),
                    b_.i64(l.padded_value_dim), b_.i64(width), row_pointer(l.o_at, l.padded_value_dim),
                    b_.i64(l.padded_value_dim), b_.mul(b_.ceil_div(columns, step), b_.i64(step)),
                    b_.i64(l.padded_value_dim / width), b_.ceil_div(rows, l.output_tile.mr), state.factor});
  });
}

CpuKernelSource generate_prefill(const TileProgram& program, const CpuSchedule& schedule, const CpuTarget& target,
                                 const std::string& prefix) {
  CpuModule module = make_cpu_module(prefix + "_prefill", InstructionOrder::emitted);
  LlvmBuilder builder(module.state(), target);
  const PrefillLayout layout(program.spec, schedule, target);
  PrefillEmitter emitter(builder, program, layout);
  LaunchInfo launch;
  launch.schedule = schedule;
  const bool shares = schedule.share_packed != 0;
  if (shares) {
    launch.phases.push_back({prefix + "_pack", packed_blocks(program.spec, layout.block_kv, 1), true});
    emitter.pack_kernel(launch.phases.back().symbol);
  }
  launch.phases.push_back({prefix + "_main", item_count(program.spec, layout.block_q), false});
  emitter.main_kernel(launch.phases.back().symbol);
  launch.scratch_bytes = layout.scratch_elements * layout.element;
  launch.workspace_bytes = packed_blocks(program.spec, layout.block_kv, 0);
  launch.packed_bytes =
      packed_blocks(program.spec, layout.block_kv, shares ? layout.packed_block() * layout.element : 0);
  return {std::move(module), std::move(launch)};
}

}  // namespace tilewright::cpu
