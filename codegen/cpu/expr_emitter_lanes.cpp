// Leaves, floats, bools and conversions; and how each kind of value becomes a vector.
#include "codegen/cpu/expr_emitter_lanes.h"

#include <llvm/IR/Intrinsics.h>

#include <cmath>

#include "codegen/cpu/vector_math.h"

namespace tilewright::cpu {
using llvm::CmpInst;
using llvm::Type;
using llvm::Value;
namespace Intrinsic = llvm::Intrinsic;

LaneBuilder::LaneBuilder(LlvmBuilder& b, ArgsReader& args, const std::vector<SpecTensor>& tensors, const Expr& expr,
                         int64_t lanes, Axis vary)
    : b_(b),
      tensors_(tensors),
      expr_(expr),
      lanes_(lanes),
      vary_(vary),
      facts_(analyze_nodes(expr, lanes, vary)),
      depends_(dependencies(expr)) {
  for (size_t i = 0; i < expr.nodes().size(); ++i) {
    const ExprNode& n = expr.nodes()[i];
    if (n.kind == ExprKind::dim) dims_[static_cast<int32_t>(i)] = args.dim(n.dim);
    if (n.tensor >= 0 && !tensor_info_.contains(n.tensor)) tensor_info_[n.tensor] = read_tensor(n.tensor, args);
  }
}

void LaneBuilder::set_axis(Axis axis, Value* value) {
  axes_[static_cast<size_t>(axis)] = value;
  const auto stale = [&](const auto& entry) {
    for (ExprId arg : expr_[ExprId{entry.first}].args)
      if (uniform(arg) && (depends_[static_cast<size_t>(raw(arg))] & bit(axis))) return true;
    return false;
  };
  std::erase_if(row_base_, stale);
  std::erase_if(random_rows_, stale);
}

void LaneBuilder::begin_emit(Value* vary_base, const ScoreLanes& scores, Value* mask) {
  base_ = vary_base;
  base32_ = vary_base && lanes_ > 1 ? b_.ir.CreateTrunc(vary_base, b_.ir.getInt32Ty()) : nullptr;
  scores_ = scores;
  mask_ = mask;
}

bool LaneBuilder::ready(ExprId id, uint32_t known) const {
  const uint32_t needs = depends_[static_cast<size_t>(raw(id))];
  if (form(id) == LaneForm::vector) return false;
  if (form(id) == LaneForm::uniform) return (needs & ~known) == 0;
  return (needs & ~known & ~bit(vary_)) == 0;
}

void LaneBuilder::stage(ExprId id, const std::vector<std::optional<LaneValue>>& values) {
  const bool random = node(id).kind == ExprKind::op && node(id).op == Op::random_bits;
  if (form(id) != LaneForm::vector || (!random && node(id).kind != ExprKind::load)) return;
  if (row_base_.contains(raw(id)) || random_rows_.contains(raw(id))) return;
  if (random && !one_block_per_four_lanes(id)) return;
  std::vector<const LaneValue*> args;
  for (ExprId arg : node(id).args) {
    const auto& value = values[static_cast<size_t>(raw(arg))];
    if (uniform(arg) && !value) return;
    args.push_back(uniform(arg) ? &*value : nullptr);
  }
  if (random)
    random_rows_[raw(id)] = random_row(args);
  else
    row_base_[raw(id)] = address(id, args);
}

LaneValue LaneBuilder::finish(ExprId id, const LaneValue& value) {
  if (form(id) == LaneForm::strided && !value.vector) return loaded(id, read_strided(id, value));
  if (form(id) == LaneForm::threshold && !value.vector) {
    Value* distance = b_.ir.CreateSub(value.scalar, base32_);
    return {.vector = b_.ir.CreateICmp(value.predicate, b_.iota(b_.ir.getInt32Ty(), lanes_), splat(distance))};
  }
  return value;
}

Type* LaneBuilder::lanes_type(Type* scalar) const {
  return lanes_ == 1 ? scalar : llvm::FixedVectorType::get(scalar, static_cast<unsigned>(lanes_));
}

Value* LaneBuilder::reals(const LaneValue& value) { return value.vector ? value.vector : splat(value.scalar); }
Value* LaneBuilder::bools(const LaneValue& value) { return value.vector ? value.vector : splat(value.scalar); }

Value* LaneBuilder::as_i64(ExprId id, const LaneValue& value) {
  TW_CHECK(value.scalar);
  return node(id).dtype == DType::boolean ? b_.ir.CreateZExt(value.scalar, b_.i64_type())
                                          : b_.ir.CreateSExtOrTrunc(value.scalar, b_.i64_type());
}

Value* LaneBuilder::at_base(ExprId id, const LaneValue& value) {
  return form(id) == LaneForm::affine ? b_.add(value.scalar, b_.mul(base_, b_.i64(facts(id).factor)))
                                      : as_i64(id, value);
}

Value* LaneBuilder::integers(ExprId id, const LaneValue& value, unsigned bits) {
  auto& ir = b_.ir;
  Type* scalar = ir.getIntNTy(bits);
  if (value.vector) return ir.CreateSExtOrTrunc(value.vector, lanes_type(scalar));
  if (form(id) != LaneForm::affine) return splat(ir.CreateSExtOrTrunc(value.scalar, scalar));
  Value* steps = ir.CreateMul(b_.iota(scalar, lanes_), splat(llvm::ConstantInt::getSigned(scalar, facts(id).factor)));
  return ir.CreateAdd(splat(ir.CreateSExtOrTrunc(at_base(id, value), scalar)), steps);
}

Value* LaneBuilder::result(ExprId id, const LaneValue& value) {
  const DType dtype = node(id).dtype;
  if (!is_integer(dtype) || lanes_ == 1) return reals(value);
  Value* wide = integers(id, value, dtype == DType::i64 ? 64 : 32);
  return dtype == DType::i8 ? b_.ir.CreateTrunc(wide, lanes_type(b_.ir.getInt8Ty())) : wide;
}

LaneValue LaneBuilder::constant(ExprId id) {
  const ExprNode& n = node(id);
  Type* type = b_.value_type(n.dtype);
  if (is_float(n.dtype)) return {.scalar = llvm::ConstantFP::get(type, n.literal.real)};
  const int64_t value = n.dtype == DType::boolean ? n.literal.integer != 0 : n.literal.integer;
  return {.scalar = llvm::ConstantInt::get(type, static_cast<uint64_t>(value))};
}

LaneValue LaneBuilder::index(ExprId id) {
  const ExprNode& n = node(id);
  if (form(id) == LaneForm::affine) return {.scalar = b_.i64(0)};
  Value* value = axes_[static_cast<size_t>(n.axis)];
  TW_CHECK(value && "an axis the expression needs was set");
  return {.scalar = b_.ir.CreateTrunc(value, b_.value_type(n.dtype))};
}

LaneValue LaneBuilder::dim(ExprId id) { return {.scalar = dims_.at(raw(id))}; }

LaneValue LaneBuilder::score(ExprId id) {
  Value* value = scores_[static_cast<size_t>(node(id).product)];
  TW_CHECK(value);
  return lanes_ == 1 ? LaneValue{.scalar = value} : LaneValue{.vector = value};
}

/// Lanes plus or minus a uniform product, in one rounding: the product's own would be hoisted with it. Null where
/// neither operand is one.
Value* LaneBuilder::sum_with_product(ExprId id, Op op, const Operands& args) {
  if (uniform(id) || (op != Op::add && op != Op::sub)) return nullptr;
  for (size_t i : {size_t{1}, size_t{0}}) {
    if (!args[i].left) continue;
    Value *left = splat(args[i].left), *other = reals(args[1 - i]);
    if (op == Op::sub && i == 1) left = b_.ir.CreateFNeg(left);
    if (op == Op::sub && i == 0) other = b_.ir.CreateFNeg(other);
    return b_.fma(left, splat(args[i].right), other);
  }
  return nullptr;
}

LaneValue LaneBuilder::real(ExprId id, Op op, const Operands& args) {
  auto& ir = b_.ir;
  if (Value* sum = sum_with_product(id, op, args)) return {.vector = sum};
  const bool one = uniform(id);
  Value* a = one ? args[0].scalar : reals(args[0]);
  Value* b = args.size() < 2 ? nullptr : one ? args[1].scalar : reals(args[1]);
  auto done = [&](Value* v) { return one ? LaneValue{.scalar = v} : LaneValue{.vector = v}; };
  // min and max return their second operand when either is a NaN; a NaN in the first is put back. No constant is one.
  const bool bounded =
      b && node(arg_id(id, 1)).kind == ExprKind::constant && !std::isnan(node(arg_id(id, 1)).literal.real);
  auto extreme = [&](CmpInst::Predicate better) {
    if (bounded) return ir.CreateSelect(ir.CreateFCmp(better, b, a), b, a);
    return ir.CreateSelect(ir.CreateFCmpUNO(a, a), a, ir.CreateSelect(ir.CreateFCmp(better, a, b), a, b));
  };
  switch (op) {
    case Op::add: return done(ir.CreateFAdd(a, b));
    case Op::sub: return done(ir.CreateFSub(a, b));
    case Op::mul: {
      Value* v = ir.CreateFMul(a, b);
      return one ? LaneValue{.scalar = v, .left = a, .right = b} : LaneValue{.vector = v};
    }
    case Op::div: return done(ir.CreateFDiv(a, b));
    case Op::mod: return done(b_.fma(ir.CreateFNeg(math::floor(b_, ir.CreateFDiv(a, b))), b, a));
    case Op::min: return done(extreme(CmpInst::FCMP_OLT));
    case Op::max: return done(extreme(CmpInst::FCMP_OGT));
    case Op::neg: return done(ir.CreateFNeg(a));
    case Op::abs: return done(ir.CreateUnaryIntrinsic(Intrinsic::fabs, a));
    case Op::exp: return done(math::exp(b_, a));
    case Op::exp2: return done(math::exp2(b_, a));
    case Op::log: return done(math::log(b_, a));
    case Op::tanh: return done(math::tanh(b_, a));
    case Op::sigmoid: return done(math::sigmoid(b_, a));
    case Op::erf: return done(math::erf(b_, a));
    case Op::sqrt: return done(math::sqrt(b_, a));
    case Op::rsqrt: return done(math::rsqrt(b_, a));
    case Op::floor: return done(math::floor(b_, a));
    default: TW_CHECK(!"a float op");
  }
  return {};
}

LaneValue LaneBuilder::logic(ExprId id, Op op, const Operands& args) {
  auto& ir = b_.ir;
  const bool one = uniform(id);
  Value* a = one ? args[0].scalar : bools(args[0]);
  Value* b = args.size() < 2 ? nullptr : one ? args[1].scalar : bools(args[1]);
  Value* v = nullptr;
  switch (op) {
    case Op::logical_and:
    case Op::min:
    case Op::mul: v = ir.CreateAnd(a, b); break;
    case Op::logical_or:
    case Op::max:
    case Op::add: v = ir.CreateOr(a, b); break;
    case Op::logical_xor: v = ir.CreateXor(a, b); break;
    case Op::logical_not: v = ir.CreateNot(a); break;
    default: TW_CHECK(!"a bool op");
  }
  return one ? LaneValue{.scalar = v} : LaneValue{.vector = v};
}

LaneValue LaneBuilder::compare_real(ExprId id, Op op, const Operands& args) {
  CmpInst::Predicate p{};
  switch (op) {
    case Op::eq: p = CmpInst::FCMP_OEQ; break;
    case Op::ne: p = CmpInst::FCMP_UNE; break;
    case Op::lt: p = CmpInst::FCMP_OLT; break;
    case Op::le: p = CmpInst::FCMP_OLE; break;
    case Op::gt: p = CmpInst::FCMP_OGT; break;
    case Op::ge: p = CmpInst::FCMP_OGE; break;
    default: TW_CHECK(!"a comparison");
  }
  if (uniform(id)) return {.scalar = b_.ir.CreateFCmp(p, args[0].scalar, args[1].scalar)};
  return {.vector = b_.ir.CreateFCmp(p, reals(args[0]), reals(args[1]))};
}

LaneValue LaneBuilder::compare_logic(ExprId id, Op op, const Operands& args) {
  auto& ir = b_.ir;
  const bool one = uniform(id);
  Value *a = one ? args[0].scalar : bools(args[0]), *b = one ? args[1].scalar : bools(args[1]);
  Value* v = nullptr;
  switch (op) {
    case Op::eq: v = ir.CreateNot(ir.CreateXor(a, b)); break;
    case Op::ne: v = ir.CreateXor(a, b); break;
    case Op::lt: v = ir.CreateAnd(ir.CreateNot(a), b); break;
    case Op::le: v = ir.CreateOr(ir.CreateNot(a), b); break;
    case Op::gt: v = ir.CreateAnd(a, ir.CreateNot(b)); break;
    case Op::ge: v = ir.CreateOr(a, ir.CreateNot(b)); break;
    default: TW_CHECK(!"a comparison");
  }
  return one ? LaneValue{.scalar = v} : LaneValue{.vector = v};
}

LaneValue LaneBuilder::select(ExprId id, const Operands& args) {
  auto& ir = b_.ir;
  if (uniform(id)) return {.scalar = ir.CreateSelect(args[0].scalar, args[1].scalar, args[2].scalar)};
  auto arm = [&](size_t i) {
    return is_integer(node(id).dtype) ? integers(arg_id(id, i), args[i], narrow(id) ? 32 : 64) : reals(args[i]);
  };
  Value* condition = args[0].vector ? args[0].vector : args[0].scalar;
  return {.vector = ir.CreateSelect(condition, arm(1), arm(2))};
}

LaneValue LaneBuilder::convert(ExprId id, DType from, const LaneValue& arg) {
  auto& ir = b_.ir;
  const DType to = node(id).dtype;
  const ExprId source = arg_id(id, 0);
  const bool one = uniform(id);
  auto done = [&](Value* v) { return one ? LaneValue{.scalar = v} : LaneValue{.vector = v}; };
  auto sized = [&](Type* scalar) { return one ? scalar : lanes_type(scalar); };
  auto zero = [](Value* v) { return llvm::Constant::getNullValue(v->getType()); };
  Type* real_type = is_float(to) ? sized(b_.value_type(to)) : nullptr;

  if (is_float(from)) {
    Value* x = one ? arg.scalar : reals(arg);
    if (is_float(to)) return done(ir.CreateFPCast(x, real_type));
    if (to == DType::boolean) return done(ir.CreateFCmpUNE(x, zero(x)));
    Type* integer = sized(to == DType::i64 ? ir.getInt64Ty() : ir.getInt32Ty());
    Value* whole = ir.CreateIntrinsic(Intrinsic::fptosi_sat, {integer, x->getType()}, {x});
    if (to == DType::i8) {
      whole = b_.max(b_.min(whole, llvm::ConstantInt::getSigned(integer, INT8_MAX)),
                     llvm::ConstantInt::getSigned(integer, INT8_MIN));
      if (one) whole = ir.CreateTrunc(whole, ir.getInt8Ty());
    }
    return done(whole);
  }
  if (from == DType::boolean) {
    Value* x = one ? arg.scalar : bools(arg);
    if (is_float(to)) return done(ir.CreateUIToFP(x, real_type));
    if (to == DType::boolean) return done(x);
    return done(ir.CreateZExt(x, one ? b_.value_type(to) : lanes_type(ir.getInt32Ty())));
  }
  if (form(id) == LaneForm::affine) return arg;
  if (one) {
    if (is_float(to)) return done(ir.CreateSIToFP(arg.scalar, real_type));
    if (to == DType::boolean) return done(ir.CreateICmpNE(arg.scalar, zero(arg.scalar)));
    return done(ir.CreateSExtOrTrunc(arg.scalar, b_.value_type(to)));
  }
  if (is_float(to)) {
    const IntRange range = facts(source).range;
    constexpr int64_t kExact = int64_t{1} << 53;
    if (form(source) == LaneForm::affine && !range.fits_i32() && range.low > -kExact && range.high < kExact) {
      // Exact in double, then rounded once; 64-bit integer vectors convert slowly.
      Type* wide = lanes_type(ir.getDoubleTy());
      Value* first = splat(ir.CreateSIToFP(at_base(source, arg), ir.getDoubleTy()));
      Value* steps = ir.CreateSIToFP(ir.CreateMul(b_.iota(ir.getInt32Ty(), lanes_),
                                                  splat(ir.getInt32(static_cast<uint32_t>(facts(source).factor)))),
                                     wide);
      return done(ir.CreateFPCast(ir.CreateFAdd(first, steps), real_type));
    }
    return done(ir.CreateSIToFP(integers(source, arg, narrow(source) ? 32 : 64), real_type));
  }
  Value* x = integers(source, arg, to == DType::boolean ? (narrow(source) ? 32 : 64) : (narrow(id) ? 32 : 64));
  if (to == DType::boolean) return done(ir.CreateICmpNE(x, zero(x)));
  return done(wrap(id, x));
}

}  // namespace tilewright::cpu
