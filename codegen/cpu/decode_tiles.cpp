#include "codegen/cpu/decode_tiles.h"

#include <algorithm>

#include "ir/result.h"

namespace tilewright::cpu {
using llvm::Type;
using llvm::Value;

namespace {
/// Values are taken in runs of this many keys, so that all columns of a run are read while it is in L1.
constexpr int64_t kRun = 16;
}  // namespace

Value* DecodeTiles::whole_rows(Value* rows) {
  return l_.row_tile == 1 ? b_.i64(0) : b_.ir.CreateAnd(rows, b_.i64(-l_.row_tile));
}

void DecodeTiles::for_row_tiles(Value* rows, const std::function<void(Value*, int64_t)>& body) {
  Value* whole = whole_rows(rows);
  if (l_.row_tile > 1) b_.loop(b_.i64(0), whole, l_.row_tile, [&](Value* row) { body(row, l_.row_tile); });
  if (l_.single_rows) b_.loop(whole, rows, 1, [&](Value* row) { body(row, 1); });
}

/// Line number step · count + i of the `count` rows that start at row `ahead`: along the rows where they divide into
/// such steps, so that memory sees one run; else the step's line of row i.
void DecodeTiles::prefetch_key_line(const DecodeBlock& keys, Value* ahead, Value* vector, int64_t i, int64_t count) {
  const int64_t line = 64 / size_of(l_.key.dtype), lines = l_.key.dim / line;
  Value* step = b_.ir.CreateUDiv(b_.mul(vector, b_.i64(l_.lanes)), b_.i64(line));
  Value* row = b_.add(ahead, b_.i64(i));
  Value* column = step;
  if (lines > 0 && lines % count == 0) {
    Value* first = b_.mul(step, b_.i64(count));
    Value* down = b_.ir.CreateUDiv(first, b_.i64(lines));
    row = b_.add(ahead, down);
    column = b_.add(b_.sub(first, b_.mul(down, b_.i64(lines))), b_.i64(i));
  }
  Value* line_at =
      b_.element_pointer(l_.key.dtype, keys.base, b_.add(b_.mul(row, keys.stride), b_.mul(column, b_.i64(line))));
  prefetch(line_at, b_.element_pointer(l_.key.dtype, line_at, b_.mul(keys.stride, b_.i64(l_.key_far - l_.key_near))));
}

/// Memory stays busy while the lines asked for earlier are computed on.
void DecodeTiles::prefetch(Value* near, Value* far) {
  auto* function = llvm::Intrinsic::getDeclaration(&b_.module(), llvm::Intrinsic::prefetch, {b_.pointer_type()});
  b_.ir.CreateCall(function, {near, b_.ir.getInt32(0), b_.ir.getInt32(3), b_.ir.getInt32(1)});
  b_.ir.CreateCall(function, {far, b_.ir.getInt32(0), b_.ir.getInt32(2), b_.ir.getInt32(1)});
}

Values DecodeTiles::read(const DecodeOperand& operand, Value* pointer, Value* first, bool tail) {
  auto& ir = b_.ir;
  Value* from = b_.element_pointer(operand.dtype, pointer, b_.mul(first, b_.i64(l_.lanes)));
  if (operand.pairs && !tail) {
    Type* words = llvm::FixedVectorType::get(ir.getInt32Ty(), static_cast<unsigned>(l_.lanes));
    Type* reals = llvm::FixedVectorType::get(ir.getFloatTy(), static_cast<unsigned>(l_.lanes));
    Value* both = ir.CreateAlignedLoad(words, from, llvm::Align(2));
    Value* even = ir.CreateShl(both, llvm::ConstantInt::get(words, 16));
    Value* odd = ir.CreateAnd(both, llvm::ConstantInt::get(words, 0xffff0000u));
    return {ir.CreateBitCast(even, reals), ir.CreateBitCast(odd, reals)};
  }
  Value* mask = tail ? b_.lane_mask(b_.i64(operand.tail), l_.lanes) : nullptr;
  Value* x = b_.load_vector(operand.dtype, from, l_.lanes, mask);
  return {ir.CreateFPCast(x, b_.vector_type(l_.dtype, l_.lanes))};
}

void DecodeTiles::scores(const DecodeBlock& keys, Value* rows) {
  b_.loop_nonempty(b_.i64(0), keys.count, l_.lanes, {}, [&](Value* key, const Values&) {
    for_row_tiles(rows, [&](Value* row, int64_t count) { score_rows(keys, key, row, count); });
    return Values{};
  });
}

/// `lanes` keys against `rows` rows. Each register tile covers lanes / rows keys, so that it reduces to one vector.
void DecodeTiles::score_rows(const DecodeBlock& keys, Value* first_key, Value* row, int64_t rows) {
  Value* query = at(scratch(l_.q_at), b_.mul(row, b_.i64(l_.query_stride)));
  Value* target = at(scratch(l_.scores_at), b_.add(b_.mul(row, b_.i64(l_.block_kv)), first_key));
  const int64_t tile_keys = l_.lanes / rows;
  if (rows == 1) {
    b_.store_vector(l_.dtype, dots(keys, first_key, tile_keys, query, 1), target);
    return;
  }
  Value* sums = scratch(l_.sums_at);
  b_.loop_nonempty(b_.i64(0), b_.i64(rows), 1, {}, [&](Value* tile, const Values&) {
    Value* key = b_.add(first_key, b_.mul(tile, b_.i64(tile_keys)));
    b_.store_vector(l_.dtype, dots(keys, key, tile_keys, query, rows), at(sums, b_.mul(tile, b_.i64(l_.lanes))));
    return Values{};
  });
  // Tile t holds [row][key]; row r of S is their r-th parts one after another.
  Values tiles;
  for (int64_t t = 0; t < rows; ++t)
    tiles.push_back(b_.load_vector(l_.dtype, at(sums, b_.i64(t * l_.lanes)), l_.lanes));
  for (int64_t r = 0; r < rows; ++r) {
    auto join = [&](Value* low, Value* high) {
      std::vector<int> mask(static_cast<size_t>(2 * tile_keys));
      for (int64_t i = 0; i < tile_keys; ++i) {
        mask[static_cast<size_t>(i)] = static_cast<int>(r * tile_keys + i);
        mask[static_cast<size_t>(tile_keys + i)] = static_cast<int>(l_.lanes + r * tile_keys + i);
      }
      return b_.ir.CreateShuffleVector(low, high, mask);
    };
    auto concat = [&](Value* low, Value* high) {
      std::vector<int> mask(static_cast<size_t>(4 * tile_keys));
      for (size_t i = 0; i < mask.size(); ++i) mask[i] = static_cast<int>(i);
      return b_.ir.CreateShuffleVector(low, high, mask);
    };
    TW_CHECK(rows == 4);
    Value* s = concat(join(tiles[0], tiles[1]), join(tiles[2], tiles[3]));
    b_.store_vector(l_.dtype, s, at(target, b_.i64(r * l_.block_kv)));
  }
}

/// Lane r · count + i is the dot product of query row r and key + i; count · rows == lanes.
Value* DecodeTiles::dots(const DecodeBlock& keys, Value* key, int64_t count, Value* query, int64_t rows) {
  const DecodeOperand& k = l_.key;
  Value* last = b_.sub(keys.count, b_.i64(1));
  Values pointers;
  for (int64_t i = 0; i < count; ++i) {
    Value* index = b_.min(i ? b_.add(key, b_.i64(i)) : key, last);
    pointers.push_back(b_.element_pointer(k.dtype, keys.base, b_.mul(index, keys.stride)));
  }
  Value* ahead = b_.add(key, b_.i64(l_.key_near));
  const auto tile = static_cast<size_t>(l_.lanes);
  auto accumulate = [&](Values sums, Value* vector, bool tail) {
    const size_t parts = k.pairs && !tail ? 2 : 1;
    std::vector<Values> queries(parts);
    for (size_t part = 0; part < parts; ++part)
      for (int64_t r = 0; r < rows; ++r) {
        Value* offset = b_.mul(b_.add(vector, b_.i64(static_cast<int64_t>(part))), b_.i64(l_.lanes));
        queries[part].push_back(
            b_.load_vector(l_.dtype, at(query, b_.add(offset, b_.i64(r * l_.query_stride))), l_.lanes));
      }
    for (int64_t i = 0; i < count; ++i) {
      const Values x = read(k, pointers[static_cast<size_t>(i)], vector, tail);
      if (!tail) prefetch_key_line(keys, ahead, vector, i, count);
      for (size_t part = 0; part < parts; ++part)
        for (int64_t r = 0; r < rows; ++r) {
          Value*& sum = sums[static_cast<size_t>(r * count + i)];
          sum = b_.fma(x[part], queries[part][static_cast<size_t>(r)], sum);
        }
    }
    return sums;
  };
  Values sums(tile, b_.constant(l_.dtype, 0, l_.lanes));
  if (k.vectors > 0)
    sums = b_.loop_nonempty(b_.i64(0), b_.i64(k.vectors), k.pairs ? 2 : 1, sums,
                            [&](Value* vector, const Values& carried) { return accumulate(carried, vector, false); });
  if (k.tail) sums = accumulate(sums, b_.i64(k.vectors), true);
  return fold(sums);
}

/// Sums within blocks of `width` lanes, as many vectors as that: lane i of each block of the result is the block's sum
/// of vector i, in one fixed tree. Every step folds one bit of the lane number.
Value* DecodeTiles::fold(Values v) {
  const auto lanes = static_cast<size_t>(l_.lanes);
  for (size_t half = lanes / 2; half >= 1; half /= 2) {
    std::vector<int> own(lanes), other(lanes);
    for (size_t i = 0; i < lanes; ++i) {
      const size_t from = i & half ? lanes : 0;
      own[i] = static_cast<int>(from + i);
      other[i] = static_cast<int>(from + (i ^ half));
    }
    Values folded;
    for (size_t i = 0; i < half; ++i) {
      Value *a = v[i], *b = v[i + half];
      folded.push_back(b_.ir.CreateFAdd(b_.ir.CreateShuffleVector(a, b, own), b_.ir.CreateShuffleVector(a, b, other)));
    }
    v = std::move(folded);
  }
  return v[0];
}

void DecodeTiles::outputs(const DecodeBlock& values, Value* rows, Value* sums) {
  b_.loop_nonempty(b_.i64(0), values.count, kRun, {}, [&](Value* begin, const Values&) {
    const KeyRun run{values, begin, b_.min(b_.add(begin, b_.i64(kRun)), values.count)};
    for_row_tiles(rows, [&](Value* row, int64_t count) {
      output_rows(run, row, count, at(sums, b_.mul(row, b_.i64(l_.record()))));
    });
    return Values{};
  });
}

void DecodeTiles::output_rows(const KeyRun& run, Value* row, int64_t rows, Value* sums) {
  const int64_t step = rows == 1 ? 2 * l_.output_vectors : l_.output_vectors;
  const int64_t whole = l_.value.vectors / step * step, rest = l_.value.vectors - whole;
  if (whole > 0)
    b_.loop_nonempty(b_.i64(0), b_.i64(whole), step, {}, [&](Value* first, const Values&) {
      output_chunk(run, row, rows, sums, first, step, false);
      return Values{};
    });
  if (rest > 0) output_chunk(run, row, rows, sums, b_.i64(whole), rest, false);
  if (l_.value.tail) output_chunk(run, row, rows, sums, b_.i64(l_.value.vectors), 1, true);
}

void DecodeTiles::output_chunk(const KeyRun& run, Value* row, int64_t rows, Value* sums, Value* first_vector,
                               int64_t vectors, bool tail) {
  const DecodeOperand& v = l_.value;
  const int64_t parts = v.pairs && !tail ? 2 : 1;
  Value* stride = run.values.stride;
  Value* weights = at(scratch(l_.scores_at), b_.mul(row, b_.i64(l_.block_kv)));
  auto slot = [&](int64_t r, int64_t i) {
    return at(sums, b_.add(b_.mul(b_.add(first_vector, b_.i64(i)), b_.i64(l_.lanes)), b_.i64(r * l_.record())));
  };
  Values carried;
  Value* is_first = b_.ir.CreateICmpEQ(run.begin, b_.i64(0));
  for (int64_t r = 0; r < rows; ++r) {
    Value* factor = b_.load(l_.dtype, at(scratch(l_.factor_at), b_.add(row, b_.i64(r))));
    factor = b_.splat(b_.ir.CreateSelect(is_first, factor, b_.constant(l_.dtype, 1)), l_.lanes);
    for (int64_t i = 0; i < vectors; ++i)
      carried.push_back(b_.ir.CreateFMul(b_.load_vector(l_.dtype, slot(r, i), l_.lanes), factor));
  }
  Value* base = b_.element_pointer(v.dtype, run.values.base, b_.mul(first_vector, b_.i64(l_.lanes)));
  Value* near = b_.mul(stride, b_.i64(l_.value_near));
  Value* far = b_.mul(stride, b_.i64(l_.value_far));
  carried = b_.loop_nonempty(run.begin, run.end, 1, carried, [&](Value* key, Values next) {
    Value* pointer = b_.element_pointer(v.dtype, base, b_.mul(key, stride));
    Value* soon = b_.element_pointer(v.dtype, pointer, near);
    Value* later = b_.element_pointer(v.dtype, pointer, far);
    Values weight;
    for (int64_t r = 0; r < rows; ++r)
      weight.push_back(b_.splat(b_.load(l_.dtype, at(weights, b_.add(key, b_.i64(r * l_.block_kv)))), l_.lanes));
    for (int64_t i = 0; i < vectors; i += parts) {
      const Values x = read(v, pointer, b_.i64(i), tail);
      if (!tail)
        prefetch(b_.element_pointer(v.dtype, soon, b_.i64(i * l_.lanes)),
                 b_.element_pointer(v.dtype, later, b_.i64(i * l_.lanes)));
      for (int64_t part = 0; part < parts; ++part)
        for (int64_t r = 0; r < rows; ++r) {
          Value*& sum = next[static_cast<size_t>(r * vectors + i + part)];
          sum = b_.fma(x[static_cast<size_t>(part)], weight[static_cast<size_t>(r)], sum);
        }
    }
    return next;
  });
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < vectors; ++i)
      b_.store_vector(l_.dtype, carried[static_cast<size_t>(r * vectors + i)], slot(r, i));
}

}  // namespace tilewright::cpu
