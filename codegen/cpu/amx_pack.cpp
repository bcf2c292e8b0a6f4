#include "codegen/cpu/amx_pack.h"

#include <llvm/IR/IntrinsicsX86.h>

#include "codegen/cpu/row_copy.h"
#include "codegen/cpu/split_terms.h"

namespace tilewright::cpu {
using llvm::Type;
using llvm::Value;

namespace {

constexpr int64_t kPackLanes = 16;

Value* packed_words(LlvmBuilder& b, uint32_t value) { return b.splat(b.ir.getInt32(value), kPackLanes); }
Value* bits_of(LlvmBuilder& b, Value* reals) {
  return b.ir.CreateBitCast(reals, b.vector_type(DType::i32, kPackLanes));
}
Value* reals_of(LlvmBuilder& b, Value* bits) { return b.ir.CreateBitCast(bits, b.vector_type(DType::f32, kPackLanes)); }
Value* tile_at(LlvmBuilder& b, Value* base, Value* number) { return b.byte_pointer(base, b.mul(number, b.i64(1024))); }

llvm::Type* halves(LlvmBuilder& b) { return llvm::FixedVectorType::get(b.ir.getInt16Ty(), 2 * kPackLanes); }

/// VCVTNE2PS2BF16: `low`, then `high`.
Value* convert_two(LlvmBuilder& b, Value* low, Value* high) {
  return b.ir.CreateBitCast(b.ir.CreateIntrinsic(llvm::Intrinsic::x86_avx512bf16_cvtne2ps2bf16_512, {}, {high, low}),
                            halves(b));
}

}  // namespace

Value* peel_bf16(LlvmBuilder& b, Value*& rest) {
  Value* high = b.ir.CreateAnd(b.ir.CreateAdd(bits_of(b, rest), packed_words(b, 0x8000)), packed_words(b, 0xffff0000));
  rest = b.ir.CreateFSub(rest, reals_of(b, high));
  return high;
}

Value* round_bf16(LlvmBuilder& b, Value* lanes, bool keep_nan) {
  Value* word = bits_of(b, lanes);
  Value* rounded = b.ir.CreateAdd(word, packed_words(b, 0x8000));
  if (!keep_nan) return rounded;
  return b.ir.CreateSelect(b.ir.CreateFCmpUNO(lanes, lanes), b.ir.CreateOr(word, packed_words(b, 0x00400000)), rounded);
}

Value* pair_bf16(LlvmBuilder& b, Value* even, Value* odd) {
  Value* low = b.ir.CreateBitCast(b.ir.CreateLShr(even, packed_words(b, 16)), halves(b));
  std::vector<int> blend;
  for (int i = 0; i < 2 * kPackLanes; ++i) blend.push_back(i % 2 == 0 ? i : i + 2 * static_cast<int>(kPackLanes));
  return b.ir.CreateShuffleVector(low, b.ir.CreateBitCast(odd, halves(b)), blend);
}

Value* nearest_pairs(LlvmBuilder& b, Value* even, Value* odd) {
  if (!b.target().avx512_bf16) return pair_bf16(b, round_bf16(b, even, true), round_bf16(b, odd, true));
  std::vector<int> interleaved;
  for (int i = 0; i < 2 * kPackLanes; ++i) interleaved.push_back(i / 2 + i % 2 * static_cast<int>(kPackLanes));
  return b.ir.CreateShuffleVector(convert_two(b, even, odd), interleaved);
}

Value* nearest_row(LlvmBuilder& b, Value* low, Value* high) {
  if (b.target().avx512_bf16) return convert_two(b, low, high);
  std::vector<int> upper;
  for (int i = 0; i < 2 * kPackLanes; ++i) upper.push_back(2 * i + 1);
  const auto rounded = [&](Value* lanes) { return b.ir.CreateBitCast(round_bf16(b, lanes, true), halves(b)); };
  return b.ir.CreateShuffleVector(rounded(low), rounded(high), upper);
}

void TilePacker::declare(const Shape& shape) {
  if (functions_.contains(shape)) return;
  if (shape.form != Form::a) emit_transpose();
  Type* p = b_.pointer_type();
  static constexpr const char* kNames[] = {"a", "b", "a_transposed", "b_transposed"};
  const std::string name = std::string("pack_tiles_") + kNames[static_cast<size_t>(shape.form)];
  functions_[shape] = b_.begin_internal(name, b_.i64_type(), {p, p, p});
  if (shape.form == Form::a_transposed || shape.form == Form::b_transposed)
    emit_columns(shape);
  else
    emit_rows(shape);
}

Value* TilePacker::call(const Shape& shape, Value* stage, Value* temporary, Value* dst) {
  return b_.ir.CreateCall(functions_.at(shape), {stage, temporary, dst});
}

/// Lanes that may not be split, joined with those before; none are zero, and a subnormal counts as one.
Value* TilePacker::out_of_range(Value* lanes, Value* before) {
  auto& ir = b_.ir;
  Value* magnitude = ir.CreateAnd(bits_of(b_, lanes), packed_words(b_, 0x7fffffff));
  Value* far = ir.CreateICmpUGE(ir.CreateSub(magnitude, packed_words(b_, kSmallestSplit)),
                                packed_words(b_, kSplitEnd - kSmallestSplit));
  Value* zero = ir.CreateICmpULT(magnitude, packed_words(b_, 0x00800000));
  return ir.CreateOr(before, ir.CreateAnd(far, ir.CreateNot(zero)));
}

/// void transpose(from, to): 16 × 16 words.
void TilePacker::emit_transpose() {
  if (transpose_) return;
  transpose_ = b_.begin_internal("transpose_tile", b_.ir.getVoidTy(), {b_.pointer_type(), b_.pointer_type()});
  const int64_t step = transpose_step(DType::f32);
  b_.loop_nonempty(b_.i64(0), b_.i64(kPackLanes), step, {}, [&](Value* column, const Values&) {
    transpose_to_panel(b_, DType::f32, kPackLanes, b_.element_pointer(DType::f32, b_.argument(0), column), kPackLanes,
                       b_.element_pointer(DType::f32, b_.argument(1), b_.mul(column, b_.i64(kPackLanes))), kPackLanes);
    return Values{};
  });
  b_.ret();
}

/// i64 pack(stage, temporary, dst): forms a and b.
void TilePacker::emit_rows(const Shape& shape) {
  Value *stage = b_.argument(0), *temporary = b_.argument(1), *dst = b_.argument(2);
  const int64_t blocks = shape.columns / 32;
  Value* none = llvm::Constant::getNullValue(llvm::FixedVectorType::get(b_.ir.getInt1Ty(), kPackLanes));
  std::vector<int> upper;
  for (int i = 0; i < 2 * kPackLanes; ++i) upper.push_back(2 * i + 1);
  const Values bad = b_.loop_nonempty(b_.i64(0), b_.i64(blocks), 1, {none}, [&](Value* block, const Values& outer) {
    Values flagged = outer;
    // Part by part over the rows, since form b transposes whole tiles; what a part leaves stays in the stage.
    for (int64_t part = 0; part < shape.parts; ++part) {
      Value* to = tile_at(b_, dst, b_.add(block, b_.i64(part * blocks)));
      Value* plain = shape.form == Form::a ? to : temporary;
      flagged = b_.loop_nonempty(b_.i64(0), b_.i64(kPackLanes), 1, flagged, [&](Value* row, const Values& before) {
        Values next = before;
        Value* at = b_.element_pointer(
            DType::f32, stage, b_.add(b_.mul(row, b_.i64(shape.stride)), b_.mul(block, b_.i64(2 * kPackLanes))));
        Value* halves_of[2];
        for (int64_t half = 0; half < 2; ++half) {
          Value* slot = b_.element_pointer(DType::f32, at, b_.i64(half * kPackLanes));
          Value* rest = b_.load_vector(DType::f32, slot, kPackLanes);
          if (shape.checked && part == 0) next[0] = out_of_range(rest, next[0]);
          const bool last = part + 1 == shape.parts;
          Value* high = last ? round_bf16(b_, rest, true) : peel_bf16(b_, rest);
          if (!last) b_.store_vector(DType::f32, rest, slot);
          halves_of[half] = b_.ir.CreateBitCast(high, halves(b_));
        }
        Value* line = b_.ir.CreateShuffleVector(halves_of[0], halves_of[1], upper);
        b_.store_vector(DType::i32, b_.ir.CreateBitCast(line, b_.vector_type(DType::i32, kPackLanes)),
                        b_.element_pointer(DType::i32, plain, b_.mul(row, b_.i64(kPackLanes))));
        return next;
      });
      if (shape.form == Form::b) b_.ir.CreateCall(transpose_, {temporary, to});
    }
    return flagged;
  });
  b_.ir.CreateRet(b_.ir.CreateZExt(b_.ir.CreateOrReduce(bad[0]), b_.i64_type()));
}

/// i64 pack(stage, temporary, dst): forms a_transposed and b_transposed, whose word is a pair of rows of one column.
void TilePacker::emit_columns(const Shape& shape) {
  Value *stage = b_.argument(0), *temporary = b_.argument(1), *dst = b_.argument(2);
  Value* none = llvm::Constant::getNullValue(llvm::FixedVectorType::get(b_.ir.getInt1Ty(), kPackLanes));
  const Values bad = b_.loop_nonempty(
      b_.i64(0), b_.i64(shape.columns / kPackLanes), 1, {none}, [&](Value* block, const Values& outer) {
        Values flagged = outer;
        for (int64_t part = 0; part < shape.parts; ++part) {
          Value* to = tile_at(b_, dst, b_.add(b_.mul(block, b_.i64(shape.parts)), b_.i64(part)));
          Value* pairs = shape.form == Form::b_transposed ? to : temporary;
          flagged = b_.loop_nonempty(b_.i64(0), b_.i64(kPackLanes), 1, flagged, [&](Value* pair, const Values& before) {
            Values next = before;
            Value* high[2];
            for (int64_t odd = 0; odd < 2; ++odd) {
              Value* row = b_.add(b_.mul(pair, b_.i64(2)), b_.i64(odd));
              Value* slot = b_.element_pointer(
                  DType::f32, stage, b_.add(b_.mul(row, b_.i64(shape.stride)), b_.mul(block, b_.i64(kPackLanes))));
              Value* rest = b_.load_vector(DType::f32, slot, kPackLanes);
              if (shape.checked && part == 0) next[0] = out_of_range(rest, next[0]);
              const bool last = part + 1 == shape.parts;
              high[odd] = last ? round_bf16(b_, rest, true) : peel_bf16(b_, rest);
              if (!last) b_.store_vector(DType::f32, rest, slot);
            }
            Value* word = b_.ir.CreateBitCast(pair_bf16(b_, high[0], high[1]), b_.vector_type(DType::i32, kPackLanes));
            b_.store_vector(DType::i32, word, b_.element_pointer(DType::i32, pairs, b_.mul(pair, b_.i64(kPackLanes))));
            return next;
          });
          if (pairs != to) b_.ir.CreateCall(transpose_, {temporary, to});
        }
        return flagged;
      });
  b_.ir.CreateRet(b_.ir.CreateZExt(b_.ir.CreateOrReduce(bad[0]), b_.i64_type()));
}

}  // namespace tilewright::cpu
