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

DecodeTiles::DecodeTiles(LlvmBuilder& builder, const DecodeLayout& layout) : b_(builder), l_(layout) {
  if (l_.tiles.columns == 0) emit_scores();
  outputs_ = begin("outputs");
  const DecodeBlock values = parameters();
  rescale(b_.argument(5));
  b_.loop_nonempty(b_.i64(0), values.count, kRun, {}, [&](Value* first, const Values&) {
    const KeyRun run{values, first, b_.min(b_.add(first, b_.i64(kRun)), values.count)};
    for_row_tiles(b_.argument(5), [&](Value* row, int64_t count) { output_rows(run, row, count); });
    return Values{};
  });
  b_.ret();
}

void DecodeTiles::emit_scores() {
  scores_ = begin("scores");
  const DecodeBlock keys = parameters();
  b_.loop_nonempty(b_.i64(0), keys.count, l_.lanes, {}, [&](Value* key, const Values&) {
    for_row_tiles(b_.argument(5), [&](Value* row, int64_t count) { score_rows(keys, key, row, count); });
    return Values{};
  });
  b_.ret();
}

llvm::Function* DecodeTiles::begin(const char* name) {
  Type *p = b_.pointer_type(), *i = b_.i64_type();
  return b_.begin_internal(name, b_.ir.getVoidTy(), {p, p, i, i, b_.ir.getInt1Ty(), i});
}
DecodeBlock DecodeTiles::parameters() { return {b_.argument(1), b_.argument(2), b_.argument(3), b_.argument(4)}; }

void DecodeTiles::call(llvm::Function* function, Value* scratch, const DecodeBlock& block, Value* rows) {
  b_.ir.CreateCall(function, {scratch, block.base, block.stride, block.count, block.from_memory, rows});
}
void DecodeTiles::scores(Value* scratch, const DecodeBlock& keys, Value* rows) { call(scores_, scratch, keys, rows); }
void DecodeTiles::outputs(Value* scratch, const DecodeBlock& values, Value* rows) {
  call(outputs_, scratch, values, rows);
}

void DecodeTiles::for_row_tiles(Value* rows, const std::function<void(Value*, int64_t)>& body) {
  auto tiles = [&](Value* from, Value* to, int64_t count) {
    b_.loop(from, to, count, [&](Value* row) { body(row, count); });
  };
  if (!l_.single_rows || l_.row_tile == 1) return tiles(b_.i64(0), rows, l_.row_tile);
  Value* whole = b_.ir.CreateAnd(rows, b_.i64(-l_.row_tile));
  tiles(b_.i64(0), whole, l_.row_tile);
  tiles(whole, rows, 1);
}

/// Memory stays busy while the lines asked for earlier are computed on.
void DecodeTiles::prefetch(Value* near, Value* far) {
  auto* function = llvm::Intrinsic::getDeclaration(&b_.module(), llvm::Intrinsic::prefetch, {b_.pointer_type()});
  b_.ir.CreateCall(function, {near, b_.ir.getInt32(0), b_.ir.getInt32(3), b_.ir.getInt32(1)});
  b_.ir.CreateCall(function, {far, b_.ir.getInt32(0), b_.ir.getInt32(2), b_.ir.getInt32(1)});
}

/// Keys from the one being read to the far ones. L3 answers in the time of the near ones, and asking for more takes
/// turns from the loads: then this is 0, a line that is there already.
Value* DecodeTiles::far_keys(const DecodeBlock& block, const DecodeOperand& operand) {
  return b_.ir.CreateSelect(block.from_memory, b_.i64(operand.far), b_.i64(0));
}

/// The vector at `pointer`, widened: two for pairs; the tail is masked.
Values DecodeTiles::read(const DecodeOperand& operand, Value* pointer, bool tail) {
  auto& ir = b_.ir;
  if (operand.pairs && !tail) {
    Type* words = llvm::FixedVectorType::get(ir.getInt32Ty(), static_cast<unsigned>(l_.lanes));
    Type* reals = llvm::FixedVectorType::get(ir.getFloatTy(), static_cast<unsigned>(l_.lanes));
    Value* both = ir.CreateAlignedLoad(words, pointer, llvm::Align(2));
    Value* even = ir.CreateShl(both, llvm::ConstantInt::get(words, 16));
    Value* odd = ir.CreateAnd(both, llvm::ConstantInt::get(words, 0xffff0000u));
    return {ir.CreateBitCast(even, reals), ir.CreateBitCast(odd, reals)};
  }
  Value* mask = tail ? b_.lane_mask(b_.i64(operand.tail), l_.lanes) : nullptr;
  Value* x = b_.load_vector(operand.dtype, pointer, l_.lanes, mask);
  return {ir.CreateFPCast(x, b_.vector_type(l_.dtype, l_.lanes))};
}

/// `lanes` keys against `rows` rows.
void DecodeTiles::score_rows(const DecodeBlock& keys, Value* first_key, Value* row, int64_t rows) {
  const int64_t tile_keys = rows == 1 ? 4 : l_.lanes / rows;
  TW_CHECK(l_.lanes % tile_keys == 0);
  Value* query = at(scratch(l_.q_at), b_.mul(row, b_.i64(l_.query_stride)));
  Value* partial = scratch(l_.partial_at);
  Value* leads = b_.ir.CreateICmpEQ(row, b_.i64(0));
  b_.loop_nonempty(b_.i64(0), b_.i64(l_.lanes), tile_keys, {}, [&](Value* key, const Values&) {
    dots(keys, b_.add(first_key, key), tile_keys, query, rows, at(partial, b_.mul(key, b_.i64(l_.lanes))), leads);
    return Values{};
  });
  Value* target = at(scratch(l_.scores_at), b_.add(b_.mul(row, b_.i64(l_.block_kv)), first_key));
  b_.loop_nonempty(b_.i64(0), b_.i64(rows), 1, {}, [&](Value* r, const Values&) {
    Value* s = fold(at(partial, b_.mul(r, b_.i64(l_.lanes * l_.lanes))));
    b_.store_vector(l_.dtype, s, at(target, b_.mul(r, b_.i64(l_.block_kv))));
    return Values{};
  });
}

/// partial[r][i][lane]: parts of the dot products of query row r and key first + i. The rows that lead fetch keys
/// ahead.
void DecodeTiles::dots(const DecodeBlock& keys, Value* first, int64_t count, Value* query, int64_t rows, Value* partial,
                       Value* leads) {
  const DecodeOperand& k = l_.key;
  Value* last = b_.sub(keys.count, b_.i64(1));
  Value* near = b_.mul(keys.stride, b_.i64(k.near));
  Value* further = b_.sub(b_.mul(keys.stride, far_keys(keys, k)), near);
  Values pointers, soon;
  for (int64_t i = 0; i < count; ++i) {
    Value* index = b_.min(i ? b_.add(first, b_.i64(i)) : first, last);
    pointers.push_back(b_.element_pointer(k.dtype, keys.base, b_.mul(index, keys.stride)));
    soon.push_back(b_.element_pointer(k.dtype, pointers.back(), near));
  }
  auto accumulate = [&](Values sums, Value* column, bool tail) {
    const int64_t parts = k.pairs && !tail ? 2 : 1;
    const auto fetch = [&](size_t i) {
      Value* line = b_.element_pointer(k.dtype, soon[i], column);
      prefetch(line, b_.element_pointer(k.dtype, line, further));
    };
    if (!tail && rows == 1)
      b_.when(leads, [&] {
        for (size_t i = 0; i < soon.size(); ++i) fetch(i);
      });
    std::vector<Values> queries(static_cast<size_t>(parts));
    Value* from = at(query, column);
    for (int64_t part = 0; part < parts; ++part)
      for (int64_t r = 0; r < rows; ++r)
        queries[static_cast<size_t>(part)].push_back(
            b_.load_vector(l_.dtype, at(from, b_.i64(r * l_.query_stride + part * l_.lanes)), l_.lanes));
    for (int64_t i = 0; i < count; ++i) {
      const Values x = read(k, b_.element_pointer(k.dtype, pointers[static_cast<size_t>(i)], column), tail);
      if (!tail && rows > 1) fetch(static_cast<size_t>(i));
      for (size_t part = 0; part < x.size(); ++part)
        for (int64_t r = 0; r < rows; ++r) {
          Value*& sum = sums[static_cast<size_t>(r * count + i)];
          sum = b_.fma(x[part], queries[part][static_cast<size_t>(r)], sum);
        }
    }
    return sums;
  };
  Values sums(static_cast<size_t>(rows * count), b_.constant(l_.dtype, 0, l_.lanes));
  Value* whole = b_.i64(k.vectors * l_.lanes);
  if (k.vectors > 0)
    sums = b_.loop_nonempty(b_.i64(0), whole, k.pairs ? 2 * l_.lanes : l_.lanes, sums,
                            [&](Value* column, const Values& carried) { return accumulate(carried, column, false); });
  if (k.tail) sums = accumulate(sums, whole, true);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < count; ++i)
      b_.store_vector(l_.dtype, sums[static_cast<size_t>(r * count + i)],
                      at(partial, b_.i64((r * l_.lanes + i) * l_.lanes)));
}

/// Lane i of the result is the sum of vector i of `lanes` vectors in memory, which are overwritten; in one fixed tree.
/// Every step folds one bit of the lane number: lanes without it come from vector i, lanes with it from i + half.
Value* DecodeTiles::fold(Value* partial) {
  auto& ir = b_.ir;
  const auto lanes = static_cast<size_t>(l_.lanes);
  // The first step swaps halves by loading them into both halves, which takes no shuffle.
  const int64_t half = l_.lanes / 2;
  std::vector<int> twice(lanes);
  std::vector<llvm::Constant*> upper;
  for (size_t i = 0; i < lanes; ++i) {
    twice[i] = static_cast<int>(i % (lanes / 2));
    upper.push_back(ir.getInt1(i >= lanes / 2));
  }
  b_.loop_nonempty(b_.i64(0), b_.i64(half * l_.lanes), l_.lanes, {}, [&](Value* offset, const Values&) {
    Value* a = at(partial, offset);
    Value* b = at(a, b_.i64(half * l_.lanes));
    auto plus = [&](Value* vector, Value* other_half) {
      Value* both = ir.CreateShuffleVector(b_.load_vector(l_.dtype, other_half, half), twice);
      return ir.CreateFAdd(b_.load_vector(l_.dtype, vector, l_.lanes), both);
    };
    Value* low = plus(a, at(a, b_.i64(half)));
    b_.store_vector(l_.dtype, ir.CreateSelect(llvm::ConstantVector::get(upper), plus(b, b), low), a);
    return Values{};
  });
  Values v;
  for (int64_t i = 0; i < half; ++i) v.push_back(b_.load_vector(l_.dtype, at(partial, b_.i64(i * l_.lanes)), l_.lanes));
  for (size_t bit = lanes / 4; bit >= 1; bit /= 2) {
    std::vector<int> own(lanes), other(lanes);
    for (size_t i = 0; i < lanes; ++i) {
      const size_t from = i & bit ? lanes : 0;
      own[i] = static_cast<int>(from + i);
      other[i] = static_cast<int>(from + (i ^ bit));
    }
    Values folded;
    for (size_t i = 0; i < bit; ++i) {
      Value *a = v[i], *b = v[i + bit];
      folded.push_back(ir.CreateFAdd(ir.CreateShuffleVector(a, b, own), ir.CreateShuffleVector(a, b, other)));
    }
    v = std::move(folded);
  }
  return v[0];
}

void DecodeTiles::rescale(Value* rows) {
  b_.loop_nonempty(b_.i64(0), rows, 1, {}, [&](Value* row, const Values&) {
    Value* factor = b_.splat(b_.load(l_.dtype, at(scratch(l_.factor_at), row)), l_.lanes);
    Value* sums = at(scratch(l_.sums_at), b_.mul(row, b_.i64(l_.value_stride)));
    b_.loop_nonempty(b_.i64(0), b_.i64(l_.value_stride), l_.lanes, {}, [&](Value* column, const Values&) {
      Value* slot = at(sums, column);
      b_.store_vector(l_.dtype, b_.ir.CreateFMul(b_.load_vector(l_.dtype, slot, l_.lanes), factor), slot);
      return Values{};
    });
    return Values{};
  });
}

void DecodeTiles::output_rows(const KeyRun& run, Value* row, int64_t rows) {
  const int64_t step = std::min(rows == 1 ? 2 * l_.output_vectors : l_.output_vectors, l_.value.vectors);
  const int64_t whole = step ? l_.value.vectors / step * step : 0, rest = l_.value.vectors - whole;
  if (whole > 0)
    b_.loop_nonempty(b_.i64(0), b_.i64(whole * l_.lanes), step * l_.lanes, {}, [&](Value* column, const Values&) {
      output_chunk(run, row, rows, column, step, false);
      return Values{};
    });
  if (rest > 0) output_chunk(run, row, rows, b_.i64(whole * l_.lanes), rest, false);
  if (l_.value.tail) output_chunk(run, row, rows, b_.i64(l_.value.vectors * l_.lanes), 1, true);
}

void DecodeTiles::output_chunk(const KeyRun& run, Value* row, int64_t rows, Value* first_column, int64_t vectors,
                               bool tail) {
  const DecodeOperand& v = l_.value;
  const int64_t parts = v.pairs && !tail ? 2 : 1;
  Value* stride = run.values.stride;
  Value* weights = at(scratch(l_.scores_at), b_.mul(row, b_.i64(l_.block_kv)));
  Value* sums = at(scratch(l_.sums_at), b_.add(b_.mul(row, b_.i64(l_.value_stride)), first_column));
  const auto slot = [&](int64_t r, int64_t i) { return at(sums, b_.i64(r * l_.value_stride + i * l_.lanes)); };
  Values carried;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < vectors; ++i) carried.push_back(b_.load_vector(l_.dtype, slot(r, i), l_.lanes));
  Value* leads = b_.ir.CreateICmpEQ(row, b_.i64(0));
  Value* near = b_.mul(stride, b_.i64(v.near));
  Value* far = b_.mul(stride, far_keys(run.values, v));
  carried.push_back(b_.element_pointer(v.dtype, run.values.base, b_.add(first_column, b_.mul(run.begin, stride))));
  carried = b_.loop_nonempty(run.begin, run.end, 1, carried, [&](Value* key, Values next) {
    Value* pointer = next.back();
    const auto fetch = [&](int64_t i) {
      Value* line = b_.element_pointer(v.dtype, pointer, b_.i64(i * l_.lanes));
      prefetch(b_.element_pointer(v.dtype, line, near), b_.element_pointer(v.dtype, line, far));
    };
    if (!tail && rows == 1)
      b_.when(leads, [&] {
        for (int64_t i = 0; i < vectors; i += parts) fetch(i);
      });
    Value* column = at(weights, key);
    Values weight;
    for (int64_t r = 0; r < rows; ++r)
      weight.push_back(b_.splat(b_.load(l_.dtype, at(column, b_.i64(r * l_.block_kv))), l_.lanes));
    for (int64_t i = 0; i < vectors; i += parts) {
      const Values x = read(v, b_.element_pointer(v.dtype, pointer, b_.i64(i * l_.lanes)), tail);
      if (!tail && rows > 1) fetch(i);
      for (int64_t part = 0; part < parts; ++part)
        for (int64_t r = 0; r < rows; ++r) {
          Value*& sum = next[static_cast<size_t>(r * vectors + i + part)];
          sum = b_.fma(x[static_cast<size_t>(part)], weight[static_cast<size_t>(r)], sum);
        }
    }
    next.back() = b_.element_pointer(v.dtype, pointer, stride);
    return next;
  });
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < vectors; ++i)
      b_.store_vector(l_.dtype, carried[static_cast<size_t>(r * vectors + i)], slot(r, i));
}

}  // namespace tilewright::cpu
