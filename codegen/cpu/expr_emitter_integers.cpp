// Integer arithmetic: wrapping at the declared width, floor division, thresholds along the lanes.
#include <llvm/IR/Intrinsics.h>

#include <bit>

#include "codegen/cpu/expr_emitter_lanes.h"

namespace tilewright::cpu {
using llvm::CmpInst;
using llvm::Type;
using llvm::Value;
namespace Intrinsic = llvm::Intrinsic;

namespace {

/// The low bits of the result need only the low bits of the operands.
bool is_ring_op(Op op) {
  switch (op) {
    case Op::add:
    case Op::sub:
    case Op::mul:
    case Op::neg:
    case Op::shl:
    case Op::logical_and:
    case Op::logical_or:
    case Op::logical_xor:
    case Op::logical_not: return true;
    default: return false;
  }
}

Value* same(Value* like, int64_t value) { return llvm::ConstantInt::getSigned(like->getType(), value); }

CmpInst::Predicate predicate(Op op) {
  switch (op) {
    case Op::eq: return CmpInst::ICMP_EQ;
    case Op::ne: return CmpInst::ICMP_NE;
    case Op::lt: return CmpInst::ICMP_SLT;
    case Op::le: return CmpInst::ICMP_SLE;
    case Op::gt: return CmpInst::ICMP_SGT;
    case Op::ge: return CmpInst::ICMP_SGE;
    default: TW_CHECK(!"a comparison");
  }
  return {};
}

}  // namespace

LaneValue LaneBuilder::integer(ExprId id, Op op, const Operands& args) {
  auto& ir = b_.ir;
  if (op == Op::random_bits) return random_bits(id, args);
  if (form(id) == LaneForm::affine) {
    Value* a = as_i64(arg_id(id, 0), args[0]);
    Value* b = args.size() > 1 ? as_i64(arg_id(id, 1), args[1]) : nullptr;
    if (op == Op::neg) return {.scalar = b_.sub(b_.i64(0), a)};
    return {.scalar = op == Op::add ? b_.add(a, b) : op == Op::sub ? b_.sub(a, b) : b_.mul(a, b)};
  }
  if (uniform(id)) return {.scalar = integer_op(id, op, args[0].scalar, args.size() > 1 ? args[1].scalar : nullptr)};

  bool small = narrow(id);
  if (!is_ring_op(op)) {
    small = true;
    for (size_t i = 0; i < args.size(); ++i) small = small && narrow(arg_id(id, i));
  }
  const unsigned bits = small ? 32 : 64;
  Value* a = integers(arg_id(id, 0), args[0], bits);
  Value* b = args.size() > 1 ? integers(arg_id(id, 1), args[1], bits) : nullptr;
  Value* result = integer_op(id, op, a, b);
  result = ir.CreateSExtOrTrunc(result, lanes_type(narrow(id) ? ir.getInt32Ty() : ir.getInt64Ty()));
  return {.vector = wrap(id, result)};
}

/// Bytes live in 32-bit lanes and are cut back where an op may leave their range.
Value* LaneBuilder::wrap(ExprId id, Value* value) {
  if (node(id).dtype != DType::i8 || !facts(id).wraps || value->getType()->getScalarSizeInBits() == 8) return value;
  Value* shift = same(value, static_cast<int64_t>(value->getType()->getScalarSizeInBits()) - 8);
  return b_.ir.CreateAShr(b_.ir.CreateShl(value, shift), shift);
}

Value* LaneBuilder::integer_op(ExprId id, Op op, Value* a, Value* b) {
  auto& ir = b_.ir;
  const int64_t width = 8 * size_of(node(id).dtype);
  const int64_t bits = a->getType()->getScalarSizeInBits();
  switch (op) {
    case Op::add: return ir.CreateAdd(a, b);
    case Op::sub: return ir.CreateSub(a, b);
    case Op::mul: return ir.CreateMul(a, b);
    case Op::neg: return ir.CreateNeg(a);
    case Op::abs: return ir.CreateIntrinsic(Intrinsic::abs, {a->getType()}, {a, ir.getFalse()});
    case Op::min: return b_.min(a, b);
    case Op::max: return b_.max(a, b);
    case Op::shl: return ir.CreateShl(a, ir.CreateAnd(b, same(b, width - 1)));
    case Op::shr: return ir.CreateAShr(a, b_.min(ir.CreateAnd(b, same(b, width - 1)), same(b, bits - 1)));
    case Op::logical_and: return ir.CreateAnd(a, b);
    case Op::logical_or: return ir.CreateOr(a, b);
    case Op::logical_xor: return ir.CreateXor(a, b);
    case Op::logical_not: return ir.CreateNot(a);
    case Op::div:
    case Op::mod: return divide(id, op, a, b);
    default: TW_CHECK(!"an integer op");
  }
  return nullptr;
}

Value* LaneBuilder::divide(ExprId id, Op op, Value* a, Value* b) {
  auto& ir = b_.ir;
  const bool quotient = op == Op::div;
  const IntRange dividend = facts(arg_id(id, 0)).range, divisor = facts(arg_id(id, 1)).range;
  if (divisor.low == divisor.high && divisor.low >= 0) return divide_by_constant(id, op, a, divisor.low);
  Value *zero = same(a, 0), *one = same(a, 1);
  if (a->getType()->isVectorTy() && a->getType()->getScalarSizeInBits() == 32) return divide_narrow(id, op, a, b);
  Value* by_zero = ir.CreateICmpEQ(b, zero);
  if (dividend.low >= 0 && divisor.low >= 0) {
    Value* safe = ir.CreateSelect(by_zero, one, b);
    return ir.CreateSelect(by_zero, zero, quotient ? ir.CreateUDiv(a, safe) : ir.CreateURem(a, safe));
  }
  // Division by -1 traps for the smallest number; its remainder is 0, as that of 1.
  Value* by_minus_one = ir.CreateICmpEQ(b, same(a, -1));
  Value* safe = ir.CreateSelect(ir.CreateOr(by_zero, by_minus_one), one, b);
  Value* rest = ir.CreateSRem(a, safe);
  Value* below = ir.CreateAnd(ir.CreateICmpNE(rest, zero), ir.CreateICmpSLT(ir.CreateXor(rest, safe), zero));
  if (!quotient) return ir.CreateAdd(rest, ir.CreateSelect(below, safe, zero));
  Value* result = ir.CreateSub(ir.CreateSDiv(a, safe), ir.CreateZExt(below, a->getType()));
  return ir.CreateSelect(by_zero, zero, ir.CreateSelect(by_minus_one, ir.CreateNeg(a), result));
}

Value* LaneBuilder::divide_by_constant(ExprId id, Op op, Value* a, int64_t divisor) {
  auto& ir = b_.ir;
  const bool quotient = op == Op::div;
  if (divisor == 0) return same(a, 0);
  if (std::has_single_bit(static_cast<uint64_t>(divisor)))
    return quotient ? ir.CreateAShr(a, same(a, std::countr_zero(static_cast<uint64_t>(divisor))))
                    : ir.CreateAnd(a, same(a, divisor - 1));
  Value* by = same(a, divisor);
  if (facts(arg_id(id, 0)).range.low >= 0) return quotient ? ir.CreateUDiv(a, by) : ir.CreateURem(a, by);
  Value* rest = ir.CreateSRem(a, by);
  Value* below = ir.CreateAShr(rest, same(a, static_cast<int64_t>(a->getType()->getScalarSizeInBits()) - 1));
  return quotient ? ir.CreateAdd(ir.CreateSDiv(a, by), below) : ir.CreateAdd(rest, ir.CreateAnd(below, by));
}

/// 32-bit lanes through double: the quotient of two such numbers, rounded, has the right floor, and the remainder of it
/// is exact in one fused step.
Value* LaneBuilder::divide_narrow(ExprId id, Op op, Value* a, Value* b) {
  auto& ir = b_.ir;
  Type* real = lanes_type(ir.getDoubleTy());
  Value *x = ir.CreateSIToFP(a, real), *y = ir.CreateSIToFP(b, real);
  Value* whole = ir.CreateUnaryIntrinsic(Intrinsic::floor, ir.CreateFDiv(x, y));
  Value* by_zero = ir.CreateICmpEQ(b, same(b, 0));
  Value* result = op == Op::div ? whole : b_.fma(ir.CreateFNeg(whole), y, x);
  result = ir.CreateSelect(by_zero, llvm::ConstantFP::get(real, 0), result);
  // 2^31 may come out of -2^31 / -1.
  const bool wide = facts(id).wraps || !narrow(id);
  return ir.CreateFPToSI(result, lanes_type(wide ? ir.getInt64Ty() : ir.getInt32Ty()));
}

LaneValue LaneBuilder::compare_integer(ExprId id, Op op, const Operands& args) {
  auto& ir = b_.ir;
  const CmpInst::Predicate p = predicate(op);
  if (uniform(id)) return {.scalar = ir.CreateICmp(p, args[0].scalar, args[1].scalar)};
  const ExprId left = arg_id(id, 0), right = arg_id(id, 1);
  if (form(id) == LaneForm::vector) {
    if (Value* words = compare_random(p, left, right, args[0])) return {.vector = words};
    const unsigned bits = narrow(left) && narrow(right) ? 32 : 64;
    return {.vector = ir.CreateICmp(p, integers(left, args[0], bits), integers(right, args[1], bits))};
  }
  // rest + position P limit is position P limit - rest; rest - position P limit is position P' rest - limit, P' being P
  // with its sides swapped. Positions are 0 … 2^31 - 2, so that the difference may be cut to [-1, 2^31 - 1].
  const bool swapped = form(left) != LaneForm::affine;
  const ExprId affine = swapped ? right : left, other = swapped ? left : right;
  Value *rest = args[swapped ? 1 : 0].scalar, *limit = as_i64(other, args[swapped ? 0 : 1]);
  const bool rising = facts(affine).factor == 1;
  Value *from = rising ? limit : rest, *subtract = rising ? rest : limit;
  Value* distance = ir.CreateBinaryIntrinsic(Intrinsic::ssub_sat, from, subtract);
  distance = b_.max(b_.min(distance, b_.i64(kMaxExtent)), b_.i64(-1));
  return {.scalar = ir.CreateTrunc(distance, ir.getInt32Ty()),
          .predicate = swapped == rising ? CmpInst::getSwappedPredicate(p) : p};
}

}  // namespace tilewright::cpu
