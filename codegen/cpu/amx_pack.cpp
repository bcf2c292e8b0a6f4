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
  declare_transpose();
  if (shape.parts > 1 ? split_ : whole_) return;
  emit(shape.parts > 1);
}

Value* TilePacker::call(const Shape& shape, Value* stage, Value* temporary, Value* dst) {
  const bool by_rows = shape.form == Form::a || shape.form == Form::b;
  const bool transposes = shape.form == Form::b || shape.form == Form::a_transposed;
  const int64_t blocks = shape.columns / (by_rows ? 32 : kPackLanes);
  // A line: the upper halves of two vectors, one after the other (rows) or in turn (columns).
  std::vector<llvm::Constant*> order;
  for (int i = 0; i < 2 * kPackLanes; ++i)
    order.push_back(b_.ir.getInt16(static_cast<uint16_t>(by_rows ? 2 * i + 1 : i / 2 * 2 + 1 + i % 2 * 32)));
  return b_.ir.CreateCall(
      shape.parts > 1 ? split_ : whole_,
      {stage, transposes ? temporary : llvm::ConstantPointerNull::get(b_.ir.getPtrTy()), dst,
       llvm::ConstantVector::get(order), b_.i64(blocks), b_.i64(by_rows ? 32 : kPackLanes),
       b_.i64(by_rows ? shape.stride : 2 * shape.stride), b_.i64(by_rows ? kPackLanes : shape.stride),
       b_.i64(shape.parts), b_.i64(by_rows ? 1 : shape.parts), b_.i64(by_rows ? blocks : 1)});
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

void TilePacker::declare_transpose() {
  if (transpose_) return;
  Type *p = b_.pointer_type(), *i = b_.i64_type();
  transpose_ = b_.begin_internal("transpose_tile", b_.ir.getVoidTy(), {p, i, p, i});
  const int64_t step = transpose_step(DType::f32);
  b_.loop_nonempty(b_.i64(0), b_.i64(kPackLanes), step, {}, [&](Value* column, const Values&) {
    Values rows{b_.element_pointer(DType::f32, b_.argument(0), column)};
    while (rows.size() < kPackLanes) rows.push_back(b_.element_pointer(DType::f32, rows.back(), b_.argument(1)));
    const auto row = [&](int64_t number) { return rows[static_cast<size_t>(number)]; };
    transpose_to_panel(b_, DType::f32, kPackLanes, row,
                       b_.element_pointer(DType::f32, b_.argument(2), b_.mul(column, b_.argument(3))), b_.argument(3));
    return Values{};
  });
  b_.ret();
}

void TilePacker::transpose(Value* from, int64_t from_stride, Value* to, int64_t to_stride) {
  b_.ir.CreateCall(transpose_, {from, b_.i64(from_stride), to, b_.i64(to_stride)});
}

/// i64 pack(stage, temporary, dst, order, blocks, block, row, second, parts, block tiles, part tiles): `blocks` times
/// 16 lines of `parts` tiles. Elements from block to block, from line to line and to a line's second vector; tiles from
/// block to block and from part to part. A temporary that is not null has its lines transposed to dst.
void TilePacker::emit(bool split) {
  enum Argument : unsigned {
    kStage,
    kTemporary,
    kDst,
    kOrder,
    kBlocks,
    kBlock,
    kRow,
    kSecond,
    kParts,
    kBlockTiles,
    kPartTiles
  };
  Type *p = b_.pointer_type(), *i = b_.i64_type();
  (split ? split_ : whole_) =
      b_.begin_internal(split ? "pack_parts" : "pack_tiles", i, {p, p, p, halves(b_), i, i, i, i, i, i, i});
  const auto arg = [&](Argument which) { return b_.argument(which); };
  Value* transposes = b_.ir.CreateIsNotNull(arg(kTemporary));
  Value* none = llvm::Constant::getNullValue(llvm::FixedVectorType::get(b_.ir.getInt1Ty(), kPackLanes));
  const Values bad = b_.loop_nonempty(b_.i64(0), arg(kBlocks), 1, {none}, [&](Value* block, const Values& outer) {
    Value* first = b_.element_pointer(DType::f32, arg(kStage), b_.mul(block, arg(kBlock)));
    Value* tile = tile_at(b_, arg(kDst), b_.mul(block, arg(kBlockTiles)));
    const auto each_line = [&](const Values& carried,
                               const std::function<Values(Value*, Value* const(&)[2], const Values&)>& body) {
      return b_.loop_nonempty(b_.i64(0), b_.i64(kPackLanes), 1, carried, [&](Value* line, const Values& before) {
        Value* slot = b_.element_pointer(DType::f32, first, b_.mul(line, arg(kRow)));
        return body(line, {slot, b_.element_pointer(DType::f32, slot, arg(kSecond))}, before);
      });
    };
    Values flagged = outer;
    if (split)
      flagged = each_line(outer, [&](Value*, Value* const(&slots)[2], const Values& before) {
        Values next = before;
        for (Value* slot : slots) next[0] = out_of_range(b_.load_vector(DType::f32, slot, kPackLanes), next[0]);
        return next;
      });
    // Part by part over the lines, since whole tiles are transposed; what a part leaves stays in the stage.
    const auto pack = [&](Value* part) {
      Value* to = tile_at(b_, tile, b_.mul(part, arg(kPartTiles)));
      Value* lines = b_.ir.CreateSelect(transposes, arg(kTemporary), to);
      each_line({}, [&](Value* line, Value* const(&slots)[2], const Values&) {
        Value* high[2];
        for (int64_t n = 0; n < 2; ++n) {
          Value* rest = b_.load_vector(DType::f32, slots[n], kPackLanes);
          high[n] = split ? peel_bf16(b_, rest) : round_bf16(b_, rest, true);
          if (split) b_.store_vector(DType::f32, rest, slots[n]);
        }
        Value* words = b_.ir.CreateIntrinsic(
            llvm::Intrinsic::x86_avx512_vpermi2var_hi_512, {},
            {b_.ir.CreateBitCast(high[0], halves(b_)), arg(kOrder), b_.ir.CreateBitCast(high[1], halves(b_))});
        b_.store_vector(DType::i32, b_.ir.CreateBitCast(words, b_.vector_type(DType::i32, kPackLanes)),
                        b_.element_pointer(DType::i32, lines, b_.mul(line, b_.i64(kPackLanes))));
        return Values{};
      });
      b_.when(transposes, [&] { transpose(lines, kPackLanes, to, kPackLanes); });
    };
    if (!split) {
      pack(b_.i64(0));
      return flagged;
    }
    b_.loop_nonempty(b_.i64(0), arg(kParts), 1, {}, [&](Value* part, const Values&) {
      pack(part);
      return Values{};
    });
    return flagged;
  });
  b_.ir.CreateRet(b_.ir.CreateZExt(b_.ir.CreateOrReduce(bad[0]), b_.i64_type()));
}

}  // namespace tilewright::cpu
