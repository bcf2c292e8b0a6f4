#include "codegen/cpu/amx_decode_tiles.h"

#include <algorithm>
#include <bit>

#include "ir/result.h"

namespace tilewright::cpu {
using llvm::Type;
using llvm::Value;

AmxDecodeTiles::AmxDecodeTiles(LlvmBuilder& builder, const DecodeLayout& layout, DecodeTiles& vectors)
    : b_(builder), l_(layout), tiles_(builder) {
  TW_CHECK(l_.rows <= l_.tiles.columns && l_.lanes == kKeys);
  TW_CHECK(l_.key.dim % 2 == 0 && l_.value.dim % 2 == 0 && l_.block_kv % kKeys == 0);
  emit_pack();
  emit_scores();
  emit_outputs(vectors);
}

/// void name(scratch, base, stride, count, from_memory, rows)
llvm::Function* AmxDecodeTiles::begin(const char* name) {
  Type *p = b_.pointer_type(), *i = b_.i64_type();
  llvm::Function* function = b_.begin_internal(name, b_.ir.getVoidTy(), {p, p, i, i, b_.ir.getInt1Ty(), i});
  tiles_.enter(words(l_.tiles.file_at, b_.i64(0)));
  return function;
}

/// Words of 4 bytes from a place in scratch on.
Value* AmxDecodeTiles::words(int64_t at, Value* offset) {
  Value* place = b_.element_pointer(DType::i32, b_.argument(0), b_.i64(at));
  return b_.element_pointer(DType::i32, place, offset);
}

/// void pack_query(scratch, row): word p of the query is its columns 2p and 2p + 1, as row p of B's tiles wants them.
void AmxDecodeTiles::emit_pack() {
  pack_ = b_.begin_internal("pack_query", b_.ir.getVoidTy(), {b_.pointer_type(), b_.i64_type()});
  b_.loop_nonempty(b_.i64(0), b_.i64(l_.key.dim / 2), 1, {}, [&](Value* pair, const Values&) {
    Value* to = b_.add(b_.mul(pair, b_.i64(l_.tiles.columns)), b_.argument(1));
    b_.store(DType::i32, b_.load(DType::i32, words(l_.tiles.query_at, pair)), words(l_.tiles.queries_at, to));
    return Values{};
  });
  b_.ret();
}

void AmxDecodeTiles::pack_query(Value* scratch, Value* row) { b_.ir.CreateCall(pack_, {scratch, row}); }
void AmxDecodeTiles::scores(Value* scratch, const DecodeBlock& keys, Value* rows) {
  b_.ir.CreateCall(scores_, {scratch, keys.base, keys.stride, keys.count, keys.from_memory, rows});
}
void AmxDecodeTiles::outputs(Value* scratch, const DecodeBlock& values, Value* rows) {
  b_.ir.CreateCall(outputs_, {scratch, values.base, values.stride, values.count, values.from_memory, rows});
}

AmxDecodeTiles::Group AmxDecodeTiles::group(const DecodeBlock& block, const DecodeOperand& operand, Value* first) {
  Value* whole = b_.ir.CreateICmpSLE(b_.add(first, b_.i64(kKeys)), block.count);
  Value* pointer = b_.element_pointer(operand.dtype, block.base, b_.mul(first, block.stride));
  Value* stride = b_.mul(block.stride, b_.i64(size_of(operand.dtype)));
  return {b_.ir.CreateSelect(whole, pointer, words(l_.tiles.tail_at, b_.i64(0))),
          b_.ir.CreateSelect(whole, stride, b_.i64(round_up(operand.dim, kDepth) * size_of(operand.dtype)))};
}

void AmxDecodeTiles::copy_tail(const DecodeBlock& block, const DecodeOperand& operand) {
  auto* line = llvm::FixedVectorType::get(b_.ir.getInt16Ty(), kDepth);
  const llvm::Align align(2);
  Value* whole = b_.ir.CreateAnd(block.count, b_.i64(-kKeys));
  b_.when(b_.ir.CreateICmpNE(whole, block.count), [&] {
    b_.loop_nonempty(b_.i64(0), b_.i64(kKeys), 1, {}, [&](Value* k, const Values&) {
      Value* key = b_.add(whole, k);
      Value* inside = b_.ir.CreateICmpSLT(key, block.count);
      Value* from = b_.element_pointer(operand.dtype, block.base, b_.mul(key, block.stride));
      Value* to = words(l_.tiles.tail_at, b_.mul(k, b_.i64(round_up(operand.dim, kDepth) / 2)));
      Value* zero = llvm::Constant::getNullValue(line);
      b_.loop(b_.i64(0), b_.i64(operand.dim), kDepth, [&](Value* d) {
        Value* left = b_.ir.CreateSelect(inside, b_.sub(b_.i64(operand.dim), d), b_.i64(0));
        Value* x = b_.ir.CreateMaskedLoad(line, b_.element_pointer(operand.dtype, from, d), align,
                                          b_.lane_mask(left, kDepth), zero);
        b_.ir.CreateAlignedStore(x, b_.element_pointer(operand.dtype, to, d), align);
      });
      return Values{};
    });
  });
}

/// L3 needs none of this: the loads of tiles reach further ahead than it takes to answer.
void AmxDecodeTiles::prefetch(const DecodeBlock& block, const Group& group, Value* first_byte, int64_t lines) {
  auto* function = llvm::Intrinsic::getDeclaration(&b_.module(), llvm::Intrinsic::prefetch, {b_.pointer_type()});
  const auto ask = [&](Value* line, int locality) {
    b_.ir.CreateCall(function, {line, b_.ir.getInt32(0), b_.ir.getInt32(locality), b_.ir.getInt32(1)});
  };
  b_.when(block.from_memory, [&] {
    Value* start = b_.byte_pointer(group.pointer, b_.add(first_byte, b_.mul(group.stride, b_.i64(kNear))));
    Value* further = b_.mul(group.stride, b_.i64(kFar - kNear));
    b_.loop_nonempty(b_.i64(0), b_.i64(kKeys), 1, {start}, [&](Value*, const Values& row) {
      for (int64_t i = 0; i < lines; ++i) {
        Value* line = b_.byte_pointer(row[0], b_.i64(i * kLine));
        ask(line, 3);                            // into L1
        ask(b_.byte_pointer(line, further), 2);  // into L2
      }
      return Values{b_.byte_pointer(row[0], group.stride)};
    });
  });
}

void AmxDecodeTiles::emit_scores() {
  scores_ = begin("tile_scores");
  const DecodeBlock keys{b_.argument(1), b_.argument(2), b_.argument(3), b_.argument(4)};
  copy_tail(keys, l_.key);
  const int by_rows = static_cast<int>(4 * l_.tiles.columns), last = static_cast<int>(rest(l_.key));
  std::array<TileShape, AmxTiles::kTiles> shapes;
  for (const size_t tile : {0, 1, 4}) shapes[tile].row_bytes = by_rows;
  if (last > 0) {
    shapes[5].row_bytes = shapes[6].row_bytes = 2 * last;
    shapes[7] = {last / 2, by_rows};
  }
  tiles_.configure(shapes);
  Value* twice = b_.ir.CreateAnd(keys.count, b_.i64(-2 * kKeys));
  b_.loop(b_.i64(0), twice, 2 * kKeys, [&](Value* first) { score_groups(keys, first, 2); });
  b_.loop(twice, keys.count, kKeys, [&](Value* first) { score_groups(keys, first, 1); });
  tiles_.release();
  transpose(keys.count);
  b_.ret();
}

/// Sᵀ of `count` groups, rows of `columns` words.
void AmxDecodeTiles::score_groups(const DecodeBlock& keys, Value* first, int count) {
  const int64_t columns = l_.tiles.columns;
  std::vector<Group> groups;
  for (int i = 0; i < count; ++i) {
    groups.push_back(group(keys, l_.key, b_.add(first, b_.i64(i * kKeys))));
    tiles_.zero(i);
  }
  const auto step = [&](int64_t number, int a, int b) {
    tiles_.load(b, words(l_.tiles.queries_at, b_.i64(number * kDepth / 2 * columns)), b_.i64(4 * columns));
    for (int i = 0; i < count; ++i) {
      const Group& from = groups[static_cast<size_t>(i)];
      tiles_.load(a + i, b_.byte_pointer(from.pointer, b_.i64(number * kLine)), from.stride);
      tiles_.dp_bf16(i, a + i, b);
    }
  };
  const int64_t whole = l_.key.dim / kDepth;
  for (int64_t number = 0; number < whole; ++number) step(number, 2, 4);
  if (rest(l_.key) > 0) step(whole, 5, 7);
  for (int i = 0; i < count; ++i) {
    Value* to = b_.mul(b_.add(first, b_.i64(i * kKeys)), b_.i64(columns));
    tiles_.store(i, words(l_.tiles.scores_at, to), b_.i64(4 * columns));
    prefetch(keys, groups[static_cast<size_t>(i)], b_.i64(0), round_up(l_.key.dim, kDepth) / kDepth);
  }
}

/// S[row][key] of Sᵀ[key][row], 16 keys at a time: `columns` vectors hold 16 / columns keys each. Every step brings
/// together, from two vectors, what agrees in one more bit of the row; the last one leaves the keys in order.
void AmxDecodeTiles::transpose(Value* count) {
  struct Place {
    int key, row;
    auto operator<=>(const Place&) const = default;
  };
  const auto columns = static_cast<size_t>(l_.tiles.columns), lanes = static_cast<size_t>(kKeys);
  b_.loop_nonempty(b_.i64(0), count, kKeys, {}, [&](Value* first, const Values&) {
    Values vectors(columns);
    std::vector<std::vector<Place>> holds(columns);
    Value* from = words(l_.tiles.scores_at, b_.mul(first, b_.i64(l_.tiles.columns)));
    for (size_t v = 0; v < columns; ++v) {
      const auto word = v * lanes;
      vectors[v] =
          b_.load_vector(DType::f32, b_.element_pointer(DType::f32, from, b_.i64(static_cast<int64_t>(word))), kKeys);
      for (size_t i = word; i < word + lanes; ++i)
        holds[v].push_back({static_cast<int>(i / columns), static_cast<int>(i % columns)});
    }
    for (size_t bit = 1; bit < columns; bit *= 2) {
      Values next(columns);
      std::vector<std::vector<Place>> held(columns);
      for (size_t v = 0; v < columns; ++v) {
        const size_t low = v & ~bit, high = v | bit;
        std::vector<std::pair<Place, int>> picked;
        for (size_t i = 0; i < 2 * lanes; ++i) {
          const Place place = holds[i < lanes ? low : high][i % lanes];
          if ((static_cast<size_t>(place.row) & bit) == (v & bit)) picked.emplace_back(place, static_cast<int>(i));
        }
        std::sort(picked.begin(), picked.end());
        std::vector<int> lanes_of;
        for (const auto& [place, lane] : picked) {
          held[v].push_back(place);
          lanes_of.push_back(lane);
        }
        next[v] = b_.ir.CreateShuffleVector(vectors[low], vectors[high], lanes_of);
      }
      vectors = std::move(next);
      holds = std::move(held);
    }
    for (int64_t row = 0; row < l_.rows; ++row) {
      Value* to = b_.add(first, b_.i64(row * l_.block_kv));
      b_.store_vector(DType::f32, vectors[static_cast<size_t>(row)], words(l_.scores_at, to));
    }
    return Values{};
  });
}

void AmxDecodeTiles::emit_outputs(DecodeTiles& vectors) {
  outputs_ = begin("tile_outputs");
  const DecodeBlock values{b_.argument(1), b_.argument(2), b_.argument(3), b_.argument(4)};
  vectors.rescale(b_.argument(5));
  copy_tail(values, l_.value);
  pack_weights(values.count, b_.argument(5));
  const int last = static_cast<int>(rest(l_.value));
  std::array<TileShape, AmxTiles::kTiles> shapes;
  for (const size_t tile : {0, 1, 4, 5, 6, 7}) shapes[tile].rows = static_cast<int>(l_.rows);
  for (const size_t tile : {3, 6, 7})
    if (last > 0) shapes[tile].row_bytes = 2 * last;
  tiles_.configure(shapes);
  each_output(values);
  tiles_.release();
  if (!l_.value.pairs) zip_sums(b_.argument(5));
  b_.ret();
}

void AmxDecodeTiles::each_output(const DecodeBlock& values) {
  const int64_t units = l_.value.dim / kDepth;
  if (rest(l_.value) > 0) {
    b_.loop(b_.i64(0), b_.i64(units - 1), 1, [&](Value* unit) { output_units(values, {{unit, 2, 4}}); });
    std::vector<Unit> end;
    if (units > 0) end.push_back({b_.i64(units - 1), 2, 4});
    end.push_back({b_.i64(units), 3, 6});
    return output_units(values, end);
  }
  const int64_t twice = units / 2 * 2;
  b_.loop(b_.i64(0), b_.i64(twice), 2,
          [&](Value* unit) { output_units(values, {{unit, 2, 4}, {b_.add(unit, b_.i64(1)), 3, 6}}); });
  if (twice < units) output_units(values, {{b_.i64(twice), 2, 4}});
}

/// Sums of the block, even and odd columns apart, join those of the row, in order.
void AmxDecodeTiles::zip_sums(Value* rows) {
  const int64_t width = round_up(l_.value.dim, kDepth);
  b_.loop_nonempty(b_.i64(0), rows, 1, {}, [&](Value* row, const Values&) {
    for (int64_t unit = 0; unit < width; unit += kDepth) {
      Value* halves[2];
      for (int64_t odd = 0; odd < 2; ++odd) {
        Value* at = b_.add(b_.mul(row, b_.i64(width)), b_.i64(unit + odd * l_.lanes));
        halves[odd] = b_.load_vector(DType::f32, words(l_.tiles.sums_at, at), l_.lanes);
      }
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t column = unit + half * l_.lanes, left = std::min(l_.lanes, l_.value.dim - column);
        if (left <= 0) continue;
        std::vector<int> zip;
        for (int64_t i = 0; i < l_.lanes; ++i)
          zip.push_back(static_cast<int>(half * l_.lanes / 2 + i / 2 + i % 2 * l_.lanes));
        Value* mask = left < l_.lanes ? b_.lane_mask(b_.i64(left), l_.lanes) : nullptr;
        Value* slot = words(l_.sums_at, b_.add(b_.mul(row, b_.i64(l_.value_stride)), b_.i64(column)));
        Value* sum = b_.ir.CreateFAdd(b_.load_vector(DType::f32, slot, l_.lanes),
                                      b_.ir.CreateShuffleVector(halves[0], halves[1], zip));
        b_.store_vector(DType::f32, sum, slot, mask);
      }
    }
    return Values{};
  });
}

/// The tiles A even and A odd of every group of keys, l.rows rows of 16 words each.
void AmxDecodeTiles::pack_weights(Value* count, Value* rows) {
  auto& ir = b_.ir;
  const auto c = [&](uint32_t word) { return b_.splat(ir.getInt32(word), kKeys); };
  b_.loop_nonempty(b_.i64(0), count, kKeys, {}, [&](Value* first, const Values&) {
    b_.loop_nonempty(b_.i64(0), rows, 1, {}, [&](Value* row, const Values&) {
      Value* p =
          b_.load_vector(DType::f32, words(l_.scores_at, b_.add(first, b_.mul(row, b_.i64(l_.block_kv)))), kKeys);
      Value* bits = ir.CreateBitCast(p, c(0)->getType());
      // To nearest even; a NaN stays one.
      Value* last = ir.CreateAnd(ir.CreateLShr(bits, c(16)), c(1));
      Value* rounded = ir.CreateAdd(bits, ir.CreateAdd(last, c(0x7fff)));
      rounded = ir.CreateSelect(ir.CreateFCmpUNO(p, p), c(0x7fc00000), rounded);
      Value* to = b_.add(b_.mul(first, b_.i64(2 * l_.rows)), b_.mul(row, b_.i64(kKeys)));
      b_.store_vector(DType::i32, ir.CreateLShr(rounded, c(16)), words(l_.tiles.weights_at, to));
      to = b_.add(to, b_.i64(l_.rows * kKeys));
      b_.store_vector(DType::i32, ir.CreateAnd(rounded, c(0xffff0000)), words(l_.tiles.weights_at, to));
      return Values{};
    });
    return Values{};
  });
}

/// All keys into the sums of some units: added to those of the row, or of the block alone.
void AmxDecodeTiles::output_units(const DecodeBlock& values, const std::vector<Unit>& units) {
  const bool pairs = l_.value.pairs;
  const int64_t sums_at = pairs ? l_.sums_at : l_.tiles.sums_at;
  const int64_t stride = pairs ? l_.value_stride : round_up(l_.value.dim, kDepth);
  const auto each_sum = [&](const auto& use) {
    for (const Unit& unit : units)
      for (int odd = 0; odd < 2; ++odd) {
        Value* column = b_.add(b_.mul(unit.number, b_.i64(kDepth)), b_.i64(odd * l_.lanes));
        use(unit.c + odd, words(sums_at, column));
      }
  };
  each_sum([&](int tile, Value* at) {
    if (pairs)
      tiles_.load(tile, at, b_.i64(4 * stride));
    else
      tiles_.zero(tile);
  });
  b_.loop_nonempty(b_.i64(0), values.count, kKeys, {}, [&](Value* first, const Values&) {
    const Group from = group(values, l_.value, first);
    Value* weights = b_.mul(first, b_.i64(2 * l_.rows));
    for (int odd = 0; odd < 2; ++odd)
      tiles_.load(odd, words(l_.tiles.weights_at, b_.add(weights, b_.i64(odd * l_.rows * kKeys))), b_.i64(kLine));
    for (const Unit& unit : units) {
      tiles_.load(unit.b, b_.byte_pointer(from.pointer, b_.mul(unit.number, b_.i64(kLine))), from.stride);
      for (int odd = 0; odd < 2; ++odd) tiles_.dp_bf16(unit.c + odd, odd, unit.b);
    }
    prefetch(values, from, b_.mul(units[0].number, b_.i64(kLine)), static_cast<int64_t>(units.size()));
    return Values{};
  });
  each_sum([&](int tile, Value* at) { tiles_.store(tile, at, b_.i64(4 * stride)); });
}

}  // namespace tilewright::cpu
