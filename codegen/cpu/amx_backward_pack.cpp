#include "codegen/cpu/amx_backward_pack.h"

#include "codegen/cpu/split_terms.h"

namespace tilewright::cpu {
using llvm::Value;
using Form = TilePacker::Form;

AmxBackwardPacker::AmxBackwardPacker(LlvmBuilder& builder, const BackwardSpec& spec, const ArgsLayout& args,
                                     const BackwardLayout& layout)
    : b_(builder), layout_(layout), amx_(*layout.amx), source_(builder, spec, args, layout), tiles_(builder) {
  for (const auto& q : amx_.queries) {
    if (q.rows.used()) tiles_.declare(shape(Form::a, q.padded, q.parts));
    if (q.transposed.used()) tiles_.declare(shape(Form::a_transposed, q.padded, q.parts));
  }
  for (const auto& keys : amx_.score_keys) tiles_.declare(shape(Form::b, keys.padded, keys.parts));
  for (const auto& keys : amx_.row_keys) tiles_.declare(shape(Form::b_transposed, keys.padded, keys.parts));
  emit_zero();
  emit_queries();
  emit_chunk();
  emit_weights();
  if (!amx_.column_sums.empty()) emit_turn();
  if (!amx_.checked) return;
  emit_widen_queries();
  emit_widen_keys();
}

TilePacker::Shape AmxBackwardPacker::shape(Form form, int64_t columns, int64_t parts) const {
  return {form, columns, amx_.stage_stride, parts};
}

void AmxBackwardPacker::start_flag(int64_t at, Value* scratch) {
  if (amx_.checked) b_.store(DType::i64, b_.i64(0), place(scratch, at));
}

void AmxBackwardPacker::join_flag(int64_t at, Value* scratch, Value* flag) {
  if (!amx_.checked) return;
  Value* slot = place(scratch, at);
  b_.store(DType::i64, b_.ir.CreateOr(b_.load(DType::i64, slot), flag), slot);
}

/// void zero(ptr, bytes): whole cache lines.
void AmxBackwardPacker::emit_zero() {
  zero_ = b_.begin_internal("zero", b_.ir.getVoidTy(), {b_.pointer_type(), b_.i64_type()});
  b_.loop(b_.i64(0), b_.argument(1), 64, [&](Value* at) {
    b_.store_vector(DType::f32, b_.constant(DType::f32, 0, kGroup), b_.byte_pointer(b_.argument(0), at));
  });
  b_.ret();
}

void AmxBackwardPacker::emit_queries() {
  queries_ = source_.begin("load_queries");
  BackwardSource::Reader reader(source_, BackwardSource::Reader::Of::queries);
  Value *count = b_.argument(4), *scratch = b_.argument(5);
  Value *stage = place(scratch, amx_.stage_at), *temporary = place(scratch, amx_.tile_at);
  start_flag(amx_.query_flag_at, scratch);
  for (size_t n = 0; n < amx_.queries.size(); ++n) {
    const auto& q = amx_.queries[n];
    const auto& rows = layout_.q_rows[n];
    const RowAccess from = reader.resolve(rows.access);
    const auto load = [&](Value* first) {
      b_.loop(b_.i64(0), b_.i64(kStep), 1, [&](Value* row) {
        Value* target = b_.byte_pointer(stage, b_.mul(row, b_.i64(amx_.stage_stride * 4)));
        reader.query(rows, from, b_.add(first, row), target, q.padded);
      });
    };
    b_.loop(b_.i64(0), count, kStep, [&](Value* first) {
      load(first);
      if (q.rows.used()) {
        for (int64_t group = 0; group < kStep / kGroup; ++group) {
          Value* number = b_.add(b_.ir.CreateUDiv(first, b_.i64(kGroup)), b_.i64(group));
          join_flag(
              amx_.query_flag_at, scratch,
              tiles_.call(shape(Form::a, q.padded, q.parts), place(stage, group * kGroup * amx_.stage_stride * 4),
                          temporary, b_.byte_pointer(place(scratch, q.rows.at), b_.mul(number, b_.i64(q.rows.next)))));
        }
        if (q.parts > 1 && q.transposed.used()) load(first);  // splitting leaves the last remainders in the stage
      }
      if (q.transposed.used()) {
        Value* number = b_.ir.CreateUDiv(first, b_.i64(kStep));
        join_flag(
            amx_.query_flag_at, scratch,
            tiles_.call(shape(Form::a_transposed, q.padded, q.parts), stage, temporary,
                        b_.byte_pointer(place(scratch, q.transposed.at), b_.mul(number, b_.i64(q.transposed.k)))));
      }
    });
  }
  for (const auto& p : layout_.rows)
    b_.ir.CreateCall(zero_, {place(scratch, p.at * 4), b_.i64(layout_.block_q * p.stride * 4)});
  b_.ret();
}

void AmxBackwardPacker::emit_chunk() {
  chunk_ = source_.begin("load_chunk");
  BackwardSource::Reader reader(source_, BackwardSource::Reader::Of::keys);
  Value *count = b_.argument(4), *scratch = b_.argument(5);
  Value *stage = place(scratch, amx_.stage_at), *temporary = place(scratch, amx_.tile_at);
  Value* padded = b_.mul(b_.ceil_div(count, kStep), b_.i64(kStep));
  start_flag(amx_.chunk_flag_at, scratch);
  const auto pack = [&](DType type, const Access& access, int64_t width, const AmxBackwardLayout::Keys& keys, Form form,
                        int64_t unit, int64_t step) {
    const RowAccess from = reader.resolve(access);
    b_.loop(b_.i64(0), padded, unit, [&](Value* first) {
      b_.loop(b_.i64(0), b_.i64(unit), 1, [&](Value* row) {
        Value* target = b_.byte_pointer(stage, b_.mul(row, b_.i64(amx_.stage_stride * 4)));
        reader.key(type, from, b_.add(first, row), width, target, keys.padded);
      });
      Value* number = b_.ir.CreateUDiv(first, b_.i64(unit));
      join_flag(amx_.chunk_flag_at, scratch,
                tiles_.call(shape(form, keys.padded, keys.parts), stage, temporary,
                            b_.byte_pointer(place(scratch, keys.tiles.at), b_.mul(number, b_.i64(step)))));
    });
  };
  for (size_t n = 0; n < layout_.terms.size(); ++n) {
    const auto& term = layout_.terms[n];
    const auto& keys = amx_.score_keys[n];
    pack(term.key_type, term.key, term.head_dim, keys, Form::b, kGroup, keys.tiles.next);
  }
  for (size_t n = 0; n < layout_.kv_rows.size(); ++n) {
    const auto& rows = layout_.kv_rows[n];
    const auto& keys = amx_.row_keys[n];
    pack(rows.type, rows.access, rows.width, keys, Form::b_transposed, kStep, keys.tiles.k);
  }
  for (const auto& sums : amx_.column_sums)
    b_.ir.CreateCall(zero_, {place(scratch, sums.at), b_.i64(sums.padded * sums.stride)});
  b_.ret();
}

/// i64 store_weights(strip, columns, scratch)
void AmxBackwardPacker::emit_weights() {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  weights_ = b_.begin_internal("store_weights", i, {i, i, p});
  Value* bad = b_.i64(0);
  for (size_t w = 0; w < amx_.weights.size(); ++w) {
    if (!amx_.weights[w].columns.used() && !amx_.weights[w].rows.used()) continue;
    Values none;
    if (amx_.weights[w].parts > 1) none.push_back(llvm::Constant::getNullValue(b_.vector_type(DType::i32, kGroup)));
    const Values largest = b_.loop_nonempty(b_.i64(0), b_.i64(kGroup), 1, none, [&](Value* pair, const Values& outer) {
      return b_.loop_nonempty(b_.i64(0), b_.argument(1), kStep, outer, [&](Value* column, const Values& before) {
        return store_pair(w, b_.argument(0), pair, column, b_.argument(2), before);
      });
    });
    for (Value* magnitudes : largest) bad = b_.ir.CreateOr(bad, largest_is_out_of_range(magnitudes));
  }
  b_.ir.CreateRet(bad);
}

/// i64: not 0 when it is neither zero nor in the range that split_terms.h gives it.
Value* AmxBackwardPacker::largest_is_out_of_range(Value* magnitudes) {
  auto& ir = b_.ir;
  Value* largest = ir.CreateIntMaxReduce(magnitudes, false);
  Value* far =
      ir.CreateICmpUGE(ir.CreateSub(largest, ir.getInt32(kSmallestLargest)), ir.getInt32(kSplitEnd - kSmallestLargest));
  return ir.CreateZExt(ir.CreateAnd(far, ir.CreateICmpNE(largest, ir.getInt32(0))), b_.i64_type());
}

Values AmxBackwardPacker::store_pair(size_t weight, Value* strip, Value* pair, Value* column, Value* scratch,
                                     Values largest) {
  const AmxBackwardLayout::Weights& w = amx_.weights[weight];
  Value* rest[2][2];  // by row and half of the columns
  for (int64_t row = 0; row < 2; ++row)
    for (int64_t half = 0; half < 2; ++half) {
      Value* tile_row = b_.add(b_.mul(pair, b_.i64(2)), b_.i64(row));
      Value* element = b_.add(b_.add(b_.mul(tile_row, b_.i64(layout_.tile_stride)), column),
                              b_.i64(layout_.tile(weight) + half * kGroup));
      rest[row][half] = b_.load_vector(DType::f32, b_.element_pointer(DType::f32, scratch, element), kGroup);
      if (largest.empty()) continue;
      Value* bits = b_.ir.CreateBitCast(rest[row][half], b_.vector_type(DType::i32, kGroup));
      Value* magnitude = b_.ir.CreateAnd(bits, b_.splat(b_.ir.getInt32(0x7fffffff), kGroup));
      largest[0] = b_.ir.CreateBinaryIntrinsic(llvm::Intrinsic::umax, largest[0], magnitude);
    }
  const auto store = [&](Value* line, const AmxBackwardLayout::Tiles& tiles, Value* offset, int64_t more) {
    line = b_.ir.CreateBitCast(line, b_.vector_type(DType::i32, kGroup));
    b_.store_vector(DType::i32, line, b_.byte_pointer(place(scratch, tiles.at + more), offset));
  };
  Value *column_tile = nullptr, *row_tile = nullptr;
  if (w.columns.used())  // tile (strip, column / 16), line `pair`
    column_tile =
        b_.add(b_.mul(strip, b_.i64(w.columns.k)),
               b_.add(b_.mul(b_.ir.CreateLShr(column, b_.i64(4)), b_.i64(w.columns.next)), b_.mul(pair, b_.i64(64))));
  if (w.rows.used()) {  // tile (2 · strip + pair / 8, column / 32), lines 2 · (pair % 8) and one more
    Value* group = b_.add(b_.mul(strip, b_.i64(2)), b_.ir.CreateLShr(pair, b_.i64(3)));
    row_tile =
        b_.add(b_.mul(group, b_.i64(w.rows.next)), b_.add(b_.mul(b_.ir.CreateLShr(column, b_.i64(5)), b_.i64(w.rows.k)),
                                                          b_.mul(b_.ir.CreateAnd(pair, b_.i64(7)), b_.i64(128))));
  }
  for (int64_t part = 0; part < w.parts; ++part) {
    const bool last = part + 1 == w.parts;
    Value* high[2][2];
    for (int64_t row = 0; row < 2; ++row)
      for (int64_t half = 0; half < 2; ++half)
        high[row][half] = last
                              ? rest[row][half]
                              : b_.ir.CreateBitCast(peel_bf16(b_, rest[row][half]), b_.vector_type(DType::f32, kGroup));
    for (int64_t half = 0; column_tile && half < 2; ++half)
      store(nearest_pairs(b_, high[0][half], high[1][half]), w.columns, column_tile,
            half * w.columns.next + part * kTile);
    for (int64_t row = 0; row_tile && row < 2; ++row)
      store(nearest_row(b_, high[row][0], high[row][1]), w.rows, row_tile, row * 64 + part * kTile);
  }
  return largest;
}

/// void turn_columns(sums, group, row of padded / 16 …): 16 keys of [padded][stride] sums to dense rows in the stage.
void AmxBackwardPacker::emit_turn() {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  turn_ = b_.begin_internal("turn_columns", b_.ir.getVoidTy(), {p, i, p});
  Value *sums = b_.argument(0), *padded = b_.argument(1), *stage = b_.argument(2);
  const int64_t stride = amx_.column_sums[0].stride / 4, step = transpose_step(DType::f32);
  b_.loop_nonempty(b_.i64(0), padded, kGroup, {}, [&](Value* d, const Values&) {
    Value* rows = b_.element_pointer(DType::f32, sums, b_.mul(d, b_.i64(stride)));
    for (int64_t key = 0; key < kGroup; key += step)
      transpose_to_panel(b_, DType::f32, kGroup, b_.element_pointer(DType::f32, rows, b_.i64(key)), stride,
                         b_.element_pointer(DType::f32, stage, b_.add(d, b_.i64(key * amx_.stage_stride))),
                         amx_.stage_stride);
    return Values{};
  });
  b_.ret();
}

void AmxBackwardPacker::emit_widen_queries() {
  widen_queries_ = source_.begin("widen_queries");
  BackwardSource::Reader reader(source_, BackwardSource::Reader::Of::queries);
  for (size_t n = 0; n < amx_.queries.size(); ++n) {
    const int64_t padded = amx_.queries[n].padded;
    const RowAccess from = reader.resolve(layout_.q_rows[n].access);
    b_.loop(b_.i64(0), b_.i64(kStep), 1, [&](Value* number) {
      reader.query(layout_.q_rows[n], from, number, row(b_.argument(5), amx_.wide_queries_at[n], number, padded),
                   padded);
    });
  }
  b_.ret();
}

void AmxBackwardPacker::emit_widen_keys() {
  widen_keys_ = source_.begin("widen_keys");
  BackwardSource::Reader reader(source_, BackwardSource::Reader::Of::keys);
  Value* scratch = b_.argument(5);
  Value* covered = b_.mul(b_.ceil_div(b_.argument(4), kStep), b_.i64(kStep));
  for (size_t n = 0; n < layout_.kv_rows.size(); ++n) {
    const auto& rows = layout_.kv_rows[n];
    const int64_t padded = amx_.row_keys[n].padded;
    const RowAccess from = reader.resolve(rows.access);
    b_.loop(b_.i64(0), covered, 1, [&](Value* number) {
      reader.key(rows.type, from, number, rows.width, row(scratch, amx_.wide_keys_at[n], number, padded), padded);
    });
  }
  for (size_t n = 0; n < layout_.terms.size(); ++n) {
    const auto& term = layout_.terms[n];
    const int64_t padded = amx_.score_keys[n].padded;
    const RowAccess from = reader.resolve(term.key);
    b_.loop(b_.i64(0), covered, kGroup, [&](Value* group) {
      b_.loop(b_.i64(0), b_.i64(kGroup), 1, [&](Value* number) {
        reader.key(term.key_type, from, b_.add(group, number), term.head_dim,
                   row(scratch, amx_.stage_at, number, amx_.stage_stride), padded);
      });
      b_.loop(b_.i64(0), b_.i64(padded), transpose_step(DType::f32), [&](Value* d) {
        Value* panel = row(scratch, amx_.wide_panels_at[n], d, layout_.block_kv);
        transpose_to_panel(b_, DType::f32, kGroup, b_.element_pointer(DType::f32, place(scratch, amx_.stage_at), d),
                           amx_.stage_stride, b_.element_pointer(DType::f32, panel, group), layout_.block_kv);
      });
    });
  }
  b_.ret();
}

void AmxBackwardPacker::load_queries(Value* b, Value* h, Value* begin, Value* count, Value* scratch) {
  source_.call(queries_, b, h, begin, count, scratch);
}

void AmxBackwardPacker::load_chunk(Value* b, Value* h, Value* first, Value* count, Value* scratch) {
  source_.call(chunk_, b, h, first, count, scratch);
}

Value* AmxBackwardPacker::store_weights(Value* number, Value* columns, Value* scratch) {
  return b_.ir.CreateCall(weights_, {number, columns, scratch});
}

void AmxBackwardPacker::clear_weights(Value* number, Value* scratch) {
  for (const auto& w : amx_.weights) {
    const int64_t row_step = kStep / kGroup * w.rows.next;
    for (const auto& [tiles, step] : {std::pair{&w.columns, w.columns.k}, {&w.rows, row_step}})
      if (tiles->used())
        b_.ir.CreateCall(zero_,
                         {b_.byte_pointer(place(scratch, tiles->at), b_.mul(number, b_.i64(step))), b_.i64(step)});
  }
}

void AmxBackwardPacker::widen_queries(Value* b, Value* h, Value* begin, Value* count, Value* scratch) {
  source_.call(widen_queries_, b, h, begin, count, scratch);
}

void AmxBackwardPacker::widen_keys(Value* b, Value* h, Value* first, Value* count, Value* scratch) {
  source_.call(widen_keys_, b, h, first, count, scratch);
}

void AmxBackwardPacker::turn_columns(size_t product, Value* group, Value* scratch) {
  const auto& sums = amx_.column_sums[product];
  Value* from = b_.byte_pointer(place(scratch, sums.at), b_.mul(group, b_.i64(kGroup * 4)));
  b_.ir.CreateCall(turn_, {from, b_.i64(sums.padded), place(scratch, amx_.stage_at)});
}

}  // namespace tilewright::cpu
