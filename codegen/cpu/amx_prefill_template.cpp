// The AMX prefill template: flash attention on tiles in the transposed form, one work item = block_q query rows of one
// (b, h).
//
//   Sᵀ = K·Qᵀ   [keys × queries]       a query is a lane: maxima and sums run down the keys without shuffles, the
//   Pᵀ = exp2(Sᵀ - m)                  weights become the pairs that tiles want by a shift and a blend, and m, l and
//   Oᵀ += Vᵀ·Pᵀ [columns × queries]    the factors of a group are one vector each
//
// Phase 1, pack (left out when KernelArgs::packed is null; the main phase then packs each block into its own scratch):
// K and V of every (b, kv head) become blocks of block_kv keys as bf16 tiles (amx_pack.h), one set of tiles per part of
// split operands, shared by the query heads of a group.
//
// Phase 2, main. Per item: Q as tiles, O = 0, l = 0, m = -inf; then every unit of 32 rows meets every block of keys of
// the item's range, blocks ascending, in a pipeline of three (amx_prefill_step.h):
//
//     for each block:  skip it when no row keeps any of it
//       for each unit: the keys that its rows may keep, in steps of 32 -> next;  step: S(next) | softmax | O(previous)
//
// then O / l, LSE, transposed back, narrowed and strided stores. Packed on the fly, the pipeline drains between blocks.
// Where operands are split (split_terms.h) and a block or the item's Q holds something that may not be, its units go
// through FMA (amx_prefill_fma.h) with the pipeline drained.
//
// Memory: S and P of two units (8 bytes + 4 · parts per score) live in L1 up to 64 keys, in L2 beyond; Q, O, m, l of
// the item and a block of K and V in L2. Scratch does not depend on sequence lengths.
#include "codegen/cpu/amx_prefill_emitter.h"
#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/prefill_phases.h"
#include "codegen/cpu/templates.h"

namespace tilewright::cpu {
using llvm::Value;

AmxPrefillEmitter::AmxPrefillEmitter(LlvmBuilder& builder, const TileProgram& program, const AmxPrefillLayout& layout)
    : b_(builder),
      spec_(program.spec),
      layout_(layout),
      args_layout_(args_layout(program.spec)),
      tiles_(builder),
      packer_(builder, spec_, args_layout_, layout),
      scores_(builder, program, layout),
      step_(builder, tiles_, scores_, spec_, layout),
      tests_(builder, spec_, args_layout_) {
  if (layout.checked()) fma_.emplace(builder, scores_, spec_, layout);
  emit_advance();
}

void AmxPrefillEmitter::pack_kernel(const std::string& symbol) {
  emit_pack_kernel(b_, spec_, args_layout_, layout_.block_kv, layout_.packed_block(), symbol, [&](const PackItem& x) {
    packer_.pack_block(x.key, x.value, x.first, x.count, x.b, x.head, b_.argument(3), x.packed);
  });
}

void AmxPrefillEmitter::main_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  b_.mark_cold();
  ArgsReader args(b_, args_layout_);
  kv_len_ = args.dim(spec_.kv_len);
  tests_.start(args);
  tiles_.enter(place(layout_.file_at));
  tiles_.configure();
  for_query_blocks(b_, args, spec_, layout_.block_q,
                   [&](const Item& work, Value* kv_head) { item(args, work, kv_head); });
  tiles_.release();
  b_.ret();
}

/// void advance(args, b, h, scratch): one step, then next -> current -> previous; the buffers change.
void AmxPrefillEmitter::emit_advance() {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  advance_ = b_.begin_internal("advance", b_.ir.getVoidTy(), {p, i, i, p});
  step_.call(b_.argument(1), b_.argument(2), b_.argument(3));
  const auto move = [&](int64_t from, int64_t to) {
    for (int64_t word = 0; word < Field::count; word += 8)
      b_.store_vector(DType::i64, b_.load_vector(DType::i64, state_word(from + word), 8), state_word(to + word));
  };
  move(State::current, State::previous);
  move(State::next, State::current);
  b_.store(DType::i64, b_.i64(0), state_word(State::next + Field::steps));
  Value* turn = b_.load(DType::i64, state_word(State::turn));
  b_.store(DType::i64, b_.sub(b_.i64(1), turn), state_word(State::turn));
  b_.ret();
}

void AmxPrefillEmitter::advance(const Item& item) {
  b_.ir.CreateCall(advance_, {b_.argument(0), item.b, item.h, b_.argument(3)});
}

/// What is under way is finished, and the pipeline is empty.
void AmxPrefillEmitter::drain(const Item& item) {
  // The weights of one unit and the outputs of two; a last step without units stores what tiles hold.
  b_.loop_nonempty(b_.i64(0), b_.i64(3), 1, {}, [&](Value*, const Values&) {
    advance(item);
    return Values{};
  });
}

void AmxPrefillEmitter::fill(int64_t from, int64_t to, double with) {
  b_.loop_nonempty(b_.i64(from), b_.i64(to), 64, {}, [&](Value* at, const Values&) {
    b_.store_vector(DType::f32, b_.constant(DType::f32, with, 16), b_.byte_pointer(b_.argument(3), at));
    return Values{};
  });
}

void AmxPrefillEmitter::item(ArgsReader& args, const Item& item, Value* kv_head) {
  const Layout& l = layout_;
  Value* rows = b_.sub(item.q_end, item.q_begin);
  Value* first_head = b_.mul(b_.ir.CreateUDiv(item.h, b_.i64(spec_.head_group)), b_.i64(spec_.head_group));
  const DotTerm& dot = spec_.dots[0];
  const RowAccess query = resolve_stored(b_, args, spec_, dot.query, dot.query_row, item.b, item.h);
  const RowAccess key = resolve_stored(b_, args, spec_, dot.key, dot.key_row, item.b, first_head);
  const RowAccess value = resolve_access(b_, args, spec_, spec_.value, item.b, first_head);

  packer_.pack_queries(query, item.b, item.h, item.q_begin, rows, scores_.query_scale(), b_.argument(3));
  fill(l.max_at, l.sum_at, kMinusInfinity);
  fill(l.sum_at, l.factor_at, 0);
  fill(l.outputs_at, l.outputs_at + l.units() * l.unit_outputs(), 0);
  fill(l.state_at, l.state_at + State::count * 8, 0);
  Value* dummy = b_.ir.CreatePtrToInt(place(l.dummy_at), b_.i64_type());
  b_.store(DType::i64, dummy, state_word(State::pending));
  b_.store(DType::i64, b_.i64(2 * Layout::kTile), state_word(State::distance));

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
            drain(item);
            Value* here = place(l.block_at);
            packer_.pack_block(key, value, kv, b_.sub(end, kv), item.b, first_head, b_.argument(3), here);
            return Values{here};
          },
          [&] { return Values{b_.byte_pointer(packed, b_.mul(number, b_.i64(l.packed_block())))}; })[0];
      Value* full = tests_.full_scans() ? tests_.full(item, {kv, end}) : nullptr;
      Value* wide = nullptr;
      if (l.checked()) {
        Value* flag = b_.load(DType::i64, b_.byte_pointer(block, b_.i64(l.packed_flag())));
        wide = b_.ir.CreateICmpNE(b_.ir.CreateOr(flag, b_.load(DType::i64, place(l.flag_at))), b_.i64(0));
        b_.when(wide, [&] {
          drain(item);
          packer_.widen_block(key, value, kv, b_.sub(end, kv), item.b, first_head, b_.argument(3));
        });
      }
      b_.loop_nonempty(b_.i64(0), rows, Layout::kUnit, {}, [&](Value* row, const Values&) {
        unit(item, query, row, b_.min(b_.sub(rows, row), b_.i64(Layout::kUnit)), {kv, end, block, full, wide});
        return Values{};
      });
    });
  });
  drain(item);
  finish(args, item);
}

void AmxPrefillEmitter::unit(const Item& item, const RowAccess& query, Value* row, Value* rows, const KeyBlock& block) {
  Value* q = b_.add(item.q_begin, row);
  const RowBlock own_rows{item.b, item.h, q, b_.add(q, rows)};
  const BlockTests::Keys keys = tests_.shown(own_rows, block.kv, block.end, Layout::kStep, block.full);
  b_.when(b_.ir.CreateICmpSLT(keys.begin, keys.end), [&] {
    if (!fma_) return push(item, row, own_rows, keys, block);
    b_.branch(
        block.wide,
        [&] {
          packer_.widen_queries(query, item.b, item.h, q, rows, scores_.query_scale(), b_.argument(3));
          fma_->call({item.b, item.h, row, q, rows, keys.begin, b_.sub(keys.end, keys.begin),
                      b_.ir.CreateZExt(tests_.all_kept(own_rows, keys, block.full), b_.i64_type()),
                      b_.ir.CreateUDiv(b_.sub(keys.begin, block.kv), b_.i64(Layout::kStep)), b_.argument(3)});
          return Values{};
        },
        [&] {
          push(item, row, own_rows, keys, block);
          return Values{};
        });
  });
}

/// A unit joins the pipeline.
void AmxPrefillEmitter::push(const Item& item, Value* row, const RowBlock& rows, const BlockTests::Keys& keys,
                             const KeyBlock& block) {
  const Layout& l = layout_;
  Value* step = b_.ir.CreateUDiv(b_.sub(keys.begin, block.kv), b_.i64(Layout::kStep));
  Value* columns = b_.sub(keys.end, keys.begin);
  Value* turn = b_.load(DType::i64, state_word(State::turn));
  const auto own_buffer = [&](int64_t at, int64_t bytes) {
    return b_.byte_pointer(place(at), b_.mul(turn, b_.i64(bytes)));
  };
  const auto put = [&](int64_t field, Value* word) {
    if (word->getType()->isPointerTy()) word = b_.ir.CreatePtrToInt(word, b_.i64_type());
    b_.store(DType::i64, word, state_word(State::next + field));
  };
  put(Field::row, row);
  put(Field::q, rows.q_begin);
  put(Field::rows, b_.sub(rows.q_end, rows.q_begin));
  put(Field::kv, keys.begin);
  put(Field::columns, columns);
  put(Field::whole, b_.ir.CreateZExt(tests_.all_kept(rows, keys, block.full), b_.i64_type()));
  put(Field::steps, b_.ceil_div(columns, Layout::kStep));
  put(Field::keys, b_.byte_pointer(block.packed, b_.mul(step, b_.i64(l.key_step_bytes()))));
  put(Field::values,
      b_.byte_pointer(block.packed, b_.add(b_.i64(l.packed_values()), b_.mul(step, b_.i64(l.value_step_bytes())))));
  put(Field::scores, own_buffer(l.scores_at, 2 * l.score_group()));
  put(Field::weights, own_buffer(l.weights_at, 2 * l.weight_group()));
  advance(item);
}

CpuKernelSource generate_amx_prefill(const TileProgram& program, const CpuSchedule& schedule, const CpuTarget& target,
                                     const std::string& prefix) {
  CpuModule module = make_cpu_module(prefix + "_amx_prefill", InstructionOrder::emitted);
  LlvmBuilder builder(module.state(), target);
  const AmxPrefillLayout layout(program.spec, schedule, target);
  AmxPrefillEmitter emitter(builder, program, layout);
  LaunchInfo launch;
  launch.schedule = schedule;
  launch.native_tiles = target.isa == CpuIsa::amx;
  launch.phases.push_back({prefix + "_pack", packed_blocks(program.spec, layout.block_kv, 1), true});
  launch.phases.push_back({prefix + "_main", item_count(program.spec, layout.block_q), false});
  emitter.pack_kernel(launch.phases[0].symbol);
  emitter.main_kernel(launch.phases[1].symbol);
  launch.scratch_bytes = layout.scratch_bytes;
  launch.workspace_bytes = packed_blocks(program.spec, layout.block_kv, 0);
  launch.packed_bytes = packed_blocks(program.spec, layout.block_kv, layout.packed_block());
  return {std::move(module), std::move(launch)};
}

}  // namespace tilewright::cpu
