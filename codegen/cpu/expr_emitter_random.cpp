// random_bits: Philox4x32-10 (semantics 13) over lanes. With M0, M1 the multipliers and k the round's key, a round is
//
//   c' = [ hi(M1·c2) ^ c1 ^ k0,  lo(M1·c2),  hi(M0·c0) ^ c3 ^ k1,  lo(M0·c0) ]
//
// Where kv alone varies, `lanes` numbers are the blocks of lanes / 4 counters, and word i of counter j is the number of
// position 4j + i: nothing is computed that no lane reads. A vector holds one word of every counter in the low halves
// of its 64-bit lanes, whose high halves mean nothing, so that a round of 8 counters, 32 numbers, is
//
//   vpmuludq p0 = M0·c0, p1 = M1·c2;   c0 = p1 >> 32 ^ c1 ^ k0;   c2 = p0 >> 32 ^ c3 ^ k1;   c1 = p1, c3 = p0
//
// six instructions. In the first round c2, in the second c0 is the same for all counters of a row, which saves five;
// six more put the words in order. A round takes seven cycles from one to the next: emit several vectors of lanes at
// once. It wants a first position that is a multiple of 4. Where that is not so at run time, or another operand varies,
// each lane computes its own block.
#include <algorithm>

#include "codegen/cpu/expr_emitter_lanes.h"
#include "codegen/philox.h"

namespace tilewright::cpu {
using llvm::Type;
using llvm::Value;

namespace {
constexpr int kRounds = kPhiloxRounds;
constexpr uint32_t kMultiplier0 = kPhiloxMultiplier0, kMultiplier1 = kPhiloxMultiplier1;
constexpr uint32_t kKeyStep0 = kPhiloxKeyStep0, kKeyStep1 = kPhiloxKeyStep1;
}  // namespace

bool draws_random(const Expr& expr) {
  return std::ranges::any_of(expr.nodes(), [&](const ExprNode& node) {
    return node.kind == ExprKind::op && node.op == Op::random_bits && expr[node.args[4]].kind == ExprKind::index;
  });
}

bool LaneBuilder::one_block_per_four_lanes(ExprId id) const {
  for (size_t i = 0; i < 4; ++i)
    if (!uniform(arg_id(id, i))) return false;
  const ExprId kv = arg_id(id, 4);
  return lanes_ % 8 == 0 && form(kv) == LaneForm::affine && facts(kv).factor == 1;
}

/// The uniform part of the first two rounds, and the keys of the others.
LaneBuilder::RandomRow LaneBuilder::random_row(const std::vector<const LaneValue*>& args) {
  auto& ir = b_.ir;
  auto low = [&](Value* value) { return ir.CreateAnd(value, b_.i64(UINT32_MAX)); };
  auto high = [&](Value* value) { return ir.CreateLShr(value, b_.i64(32)); };
  auto all = [&](Value* value) { return b_.splat(value, lanes_ / 4); };
  Value *seed = args[0]->scalar, *c1 = low(args[3]->scalar), *c2 = low(args[2]->scalar), *c3 = low(args[1]->scalar);
  Value *k0 = low(seed), *k1 = high(seed);
  auto next_key = [&] {
    k0 = low(ir.CreateAdd(k0, b_.i64(kKeyStep0)));
    k1 = low(ir.CreateAdd(k1, b_.i64(kKeyStep1)));
  };
  RandomRow row;
  Value* p1 = ir.CreateMul(c2, b_.i64(kMultiplier1));
  Value* c0 = ir.CreateXor(ir.CreateXor(high(p1), c1), k0);
  row.first = all(ir.CreateXor(c3, k1));
  next_key();
  Value* p0 = ir.CreateMul(c0, b_.i64(kMultiplier0));
  row.second = {all(ir.CreateXor(low(p1), k0)), all(ir.CreateXor(high(p0), k1))};
  row.c3 = all(low(p0));
  for (int round = 2; round < kRounds; ++round) {
    next_key();
    row.keys.push_back({all(k0), all(k1)});
  }
  return row;
}

Value* LaneBuilder::random_blocks(const RandomRow& row, Value* kv) {
  auto& ir = b_.ir;
  const int64_t count = lanes_ / 4;
  auto all = [&](uint64_t value) { return b_.splat(b_.i64(static_cast<int64_t>(value)), count); };
  auto low = [&](Value* value) { return ir.CreateAnd(value, all(UINT32_MAX)); };
  auto high = [&](Value* value) { return ir.CreateLShr(value, all(32)); };
  auto times = [&](Value* value, uint32_t multiplier) { return ir.CreateMul(low(value), all(multiplier)); };
  Value* block = b_.splat(ir.CreateAShr(kv, b_.i64(2)), count);
  Value* p0 = times(ir.CreateAdd(block, b_.iota(b_.i64_type(), count)), kMultiplier0);
  Value* p1 = times(ir.CreateXor(high(p0), row.first), kMultiplier1);
  Value* c0 = ir.CreateXor(high(p1), row.second[0]);
  Value* c1 = p1;
  Value* c2 = ir.CreateXor(p0, row.second[1]);
  Value* c3 = row.c3;
  for (const auto& [k0, k1] : row.keys) {
    p0 = times(c0, kMultiplier0);
    p1 = times(c2, kMultiplier1);
    c0 = ir.CreateXor(ir.CreateXor(high(p1), c1), k0);
    c2 = ir.CreateXor(ir.CreateXor(high(p0), c3), k1);
    c1 = p1;
    c3 = p0;
  }
  // Pairs of words, then pairs of pairs.
  auto pair = [&](Value* even, Value* odd) { return ir.CreateOr(low(even), ir.CreateShl(odd, all(32))); };
  std::vector<int> order;
  for (int i = 0; i < static_cast<int>(count); ++i) order.insert(order.end(), {i, static_cast<int>(count) + i});
  return ir.CreateBitCast(ir.CreateShuffleVector(pair(c0, c1), pair(c2, c3), order), lanes_type(ir.getInt32Ty()));
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
