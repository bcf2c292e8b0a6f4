// random_bits: Philox4x32-10 (semantics 13) over lanes. With M0, M1 the multipliers and k the round's key, a round is
//
//   c' = [ hi(M1·c2) ^ c1 ^ k0,  lo(M1·c2),  hi(M0·c0) ^ c3 ^ k1,  lo(M0·c0) ]
//
// Where kv alone varies, a vector of `lanes` words holds the blocks of lanes / 4 counters side by side, and word i of
// block j is the number of position 4j + i: nothing is computed that no lane reads.
//
//   32-bit words   c0 c1 c2 c3 | c0 c1 c2 c3 | …
//   even words · (M0, M1), 64-bit        lo0 hi0 lo1 hi1
//   words reversed                       hi1 lo1 hi0 lo0
//   xor c shifted down one word in each half, and the key:  c1^k0 0 c3^k1 0
//
// That is five instructions for `lanes` numbers, the step to the next key included. It wants a first position that is a
// multiple of 4. Where that is not so at run time, or another operand varies, each lane computes its own block.
#include "codegen/cpu/expr_emitter_lanes.h"

namespace tilewright::cpu {
using llvm::Type;
using llvm::Value;

namespace {
constexpr int kRounds = 10;
constexpr uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kKeyStep0 = 0x9E3779B9, kKeyStep1 = 0xBB67AE85;

/// words[i mod words.size()] in lane i.
llvm::Constant* repeated(Type* scalar, std::initializer_list<uint64_t> words, int64_t lanes) {
  std::vector<llvm::Constant*> out;
  for (int64_t i = 0; i < lanes; ++i)
    out.push_back(llvm::ConstantInt::get(scalar, words.begin()[static_cast<size_t>(i) % words.size()]));
  return llvm::ConstantVector::get(out);
}
}  // namespace

bool LaneBuilder::one_block_per_four_lanes(ExprId id) const {
  for (size_t i = 0; i < 4; ++i)
    if (!uniform(arg_id(id, i))) return false;
  const ExprId kv = arg_id(id, 4);
  return lanes_ % 4 == 0 && form(kv) == LaneForm::affine && facts(kv).factor == 1;
}

/// [block in the vector, q, bh, offset | …] and the first key, once they are known.
LaneBuilder::RandomRow LaneBuilder::random_row(const std::vector<const LaneValue*>& args) {
  auto& ir = b_.ir;
  Type* i32 = ir.getInt32Ty();
  auto spread = [&](std::initializer_list<Value*> words) {
    Value* four = llvm::PoisonValue::get(llvm::FixedVectorType::get(i32, 4));
    uint64_t lane = 0;
    for (Value* word : words) four = ir.CreateInsertElement(four, word, lane++);
    std::vector<int> pick;
    for (int i = 0; i < static_cast<int>(lanes_); ++i) pick.push_back(i % 4);
    return ir.CreateShuffleVector(four, pick);
  };
  auto low = [&](Value* value) { return ir.CreateTrunc(value, i32); };
  Value *seed = args[0]->scalar, *zero = ir.getInt32(0);
  std::vector<llvm::Constant*> block;
  for (int64_t i = 0; i < lanes_; ++i) block.push_back(ir.getInt32(i % 4 ? 0 : static_cast<uint32_t>(i / 4)));
  Value* counter = spread({zero, low(args[3]->scalar), low(args[2]->scalar), low(args[1]->scalar)});
  return {ir.CreateOr(counter, llvm::ConstantVector::get(block)),
          spread({low(seed), zero, low(ir.CreateLShr(seed, 32)), zero})};
}

Value* LaneBuilder::random_blocks(const RandomRow& row, Value* kv) {
  auto& ir = b_.ir;
  Type *i32 = ir.getInt32Ty(), *i64 = ir.getInt64Ty();
  Type *words = lanes_type(i32), *pairs = llvm::FixedVectorType::get(i64, static_cast<unsigned>(lanes_ / 2));
  Value* first = splat(ir.CreateTrunc(ir.CreateAShr(kv, b_.i64(2)), i32));
  Value* counter = ir.CreateAdd(row.counter, ir.CreateAnd(first, repeated(i32, {UINT32_MAX, 0, 0, 0}, lanes_)));
  Value* multipliers = repeated(i64, {kMultiplier0, kMultiplier1}, lanes_ / 2);
  Value* low_half = repeated(i64, {UINT32_MAX}, lanes_ / 2);
  std::vector<int> reversed;
  for (int i = 0; i < static_cast<int>(lanes_); ++i) reversed.push_back(i / 4 * 4 + 3 - i % 4);
  Value* key = row.key;
  for (int round = 0; round < kRounds; ++round) {
    if (round) key = ir.CreateAdd(key, repeated(i32, {kKeyStep0, 0, kKeyStep1, 0}, lanes_));
    Value* wide = ir.CreateBitCast(counter, pairs);
    Value* product = ir.CreateBitCast(ir.CreateMul(ir.CreateAnd(wide, low_half), multipliers), words);
    Value* odd = ir.CreateBitCast(ir.CreateLShr(wide, repeated(i64, {32}, lanes_ / 2)), words);
    counter = ir.CreateXor(ir.CreateXor(ir.CreateShuffleVector(product, reversed), odd), key);
  }
  return counter;
}

/// Every lane its own block; scalars and vectors of 64-bit words alike.
Value* LaneBuilder::random_word(const std::vector<Value*>& args) {
  auto& ir = b_.ir;
  Type* type = args[0]->getType();
  auto number = [&](uint64_t value) { return llvm::ConstantInt::get(type, value); };
  auto low = [&](Value* value) { return ir.CreateAnd(value, number(UINT32_MAX)); };
  Value* c[4] = {low(ir.CreateAShr(args[4], number(2))), low(args[3]), low(args[2]), low(args[1])};
  Value *k0 = low(args[0]), *k1 = ir.CreateLShr(args[0], number(32));
  for (int round = 0; round < kRounds; ++round) {
    if (round) {
      k0 = low(ir.CreateAdd(k0, number(kKeyStep0)));
      k1 = low(ir.CreateAdd(k1, number(kKeyStep1)));
    }
    Value *p0 = ir.CreateMul(c[0], number(kMultiplier0)), *p1 = ir.CreateMul(c[2], number(kMultiplier1));
    Value* next[4] = {ir.CreateXor(ir.CreateXor(ir.CreateLShr(p1, number(32)), c[1]), k0), low(p1),
                      ir.CreateXor(ir.CreateXor(ir.CreateLShr(p0, number(32)), c[3]), k1), low(p0)};
    std::copy(std::begin(next), std::end(next), std::begin(c));
  }
  Value* which = ir.CreateAnd(args[4], number(3));
  auto pick = [&](Value* bit_set, Value* yes, Value* no) { return ir.CreateSelect(bit_set, yes, no); };
  Value* odd = ir.CreateICmpNE(ir.CreateAnd(which, number(1)), number(0));
  return pick(ir.CreateICmpUGE(which, number(2)), pick(odd, c[3], c[2]), pick(odd, c[1], c[0]));
}

LaneValue LaneBuilder::random_bits(ExprId id, const Operands& args) {
  auto& ir = b_.ir;
  if (uniform(id)) {
    std::vector<Value*> scalars;
    for (const LaneValue& arg : args) scalars.push_back(arg.scalar);
    return {.scalar = random_word(scalars)};
  }
  auto each = [&] {
    std::vector<Value*> vectors;
    for (size_t i = 0; i < args.size(); ++i) vectors.push_back(integers(arg_id(id, i), args[i], 64));
    return ir.CreateTrunc(random_word(vectors), lanes_type(ir.getInt32Ty()));
  };
  Value* words = nullptr;
  if (!one_block_per_four_lanes(id)) {
    words = each();
  } else {
    auto known = random_rows_.find(raw(id));
    const RandomRow row =
        known != random_rows_.end() ? known->second : random_row({&args[0], &args[1], &args[2], &args[3]});
    Value* kv = at_base(arg_id(id, 4), args[4]);
    if (aligned_ && node(arg_id(id, 4)).kind == ExprKind::index) {
      words = random_blocks(row, kv);
    } else {
      Value* aligned = ir.CreateICmpEQ(ir.CreateAnd(kv, b_.i64(3)), b_.i64(0));
      words = b_.branch(aligned, [&] { return Values{random_blocks(row, kv)}; }, [&] { return Values{each()}; })[0];
    }
  }
  return {.vector = ir.CreateZExt(words, lanes_type(ir.getInt64Ty()))};
}

/// Random words compared with a constant stay 32 bits wide; null when this is not such a comparison.
Value* LaneBuilder::compare_random(llvm::CmpInst::Predicate predicate, ExprId left, ExprId right,
                                   const LaneValue& value) {
  const ExprNode& limit = node(right);
  if (node(left).kind != ExprKind::op || node(left).op != Op::random_bits || limit.kind != ExprKind::constant)
    return nullptr;
  auto* wide = llvm::dyn_cast_or_null<llvm::ZExtInst>(value.vector);
  if (!wide || limit.literal.integer < 0 || limit.literal.integer > UINT32_MAX) return nullptr;
  Value* bound = b_.ir.getInt32(static_cast<uint32_t>(limit.literal.integer));
  return b_.ir.CreateICmp(llvm::ICmpInst::getUnsignedPredicate(predicate), wide->getOperand(0), splat(bound));
}

}  // namespace tilewright::cpu
