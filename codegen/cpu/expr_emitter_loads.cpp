// Loads: one wide load where the lanes lie side by side, gathers with clamped indices elsewhere.
#include "codegen/cpu/expr_emitter_lanes.h"

namespace tilewright::cpu {
using llvm::Type;
using llvm::Value;

namespace {
/// More than lanes · factor of any affine index, so that a run that starts near a limit stays within 32 bits.
constexpr int64_t kSlack = 1 << 19;
}  // namespace

LaneBuilder::TensorInfo LaneBuilder::read_tensor(int tensor, ArgsReader& args) {
  auto& ir = b_.ir;
  const TensorType& type = tensors_[static_cast<size_t>(tensor)].type;
  TensorInfo info;
  Value* empty = ir.getFalse();
  for (int axis = 0; axis < type.rank(); ++axis) {
    Value* size = args.shape(tensor, axis);
    empty = ir.CreateOr(empty, ir.CreateICmpEQ(size, b_.i64(0)));
    info.limit.push_back(b_.sub(size, b_.i64(1)));
    info.stride.push_back(args.stride(tensor, axis));
  }
  // Loads from an empty tensor read one zero.
  Value* zero = b_.stack(b_.i64_type());
  ir.CreateStore(b_.i64(0), zero);
  info.base = ir.CreateSelect(empty, zero, args.tensor(tensor));
  Value* extent = b_.i64(0);
  for (size_t axis = 0; axis < info.limit.size(); ++axis) {
    info.limit[axis] = ir.CreateSelect(empty, b_.i64(0), info.limit[axis]);
    Value* step = ir.CreateBinaryIntrinsic(llvm::Intrinsic::abs, info.stride[axis], ir.getFalse());
    extent = b_.add(extent, ir.CreateMul(info.limit[axis], step));
  }
  const int64_t scale = size_of(type.dtype) < 4 ? size_of(type.dtype) : 1;
  info.small = ir.CreateICmpSLT(extent, b_.i64(((int64_t{1} << 31) - kSlack) / scale));
  for (Value* limit : info.limit)
    info.small = ir.CreateAnd(info.small, ir.CreateICmpSLT(limit, b_.i64((int64_t{1} << 31) - kSlack)));
  return info;
}

Value* LaneBuilder::clamp(Value* index, Value* limit) {
  return b_.max(b_.min(index, limit), llvm::Constant::getNullValue(index->getType()));
}

Value* LaneBuilder::address(ExprId id, const std::vector<const LaneValue*>& args) {
  const TensorInfo& info = tensor_info_.at(node(id).tensor);
  Value* offset = b_.i64(0);
  for (size_t i = 0; i < args.size(); ++i) {
    if (!args[i]) continue;
    const ExprId arg = arg_id(id, i);
    Value* at = as_i64(arg, *args[i]);
    if (!node(id).in_bounds) at = clamp(at, info.limit[i]);
    offset = b_.add(offset, b_.mul(at, info.stride[i]));
  }
  return b_.element_pointer(tensors_[static_cast<size_t>(node(id).tensor)].type.dtype, info.base, offset);
}

LaneValue LaneBuilder::loaded(ExprId id, Value* value) {
  if (uniform(id)) return {.scalar = value};
  if (node(id).dtype == DType::i8) value = b_.ir.CreateSExtOrTrunc(value, lanes_type(b_.ir.getInt32Ty()));
  return {.vector = value};
}

LaneValue LaneBuilder::load(ExprId id, const Operands& args) {
  const TensorInfo& info = tensor_info_.at(node(id).tensor);
  const DType dtype = tensors_[static_cast<size_t>(node(id).tensor)].type.dtype;
  std::vector<const LaneValue*> fixed;
  LaneValue run;
  for (size_t i = 0; i < args.size(); ++i) {
    const ExprId arg = arg_id(id, i);
    const bool along = form(arg) == LaneForm::affine;
    if (along && form(id) == LaneForm::strided) {
      Value* stride = b_.mul(info.stride[i], b_.i64(facts(arg).factor));
      run.stride = run.stride ? b_.add(run.stride, stride) : stride;
      if (!node(id).in_bounds) run.first = args[i].scalar;
    }
    fixed.push_back(uniform(arg) || (along && form(id) == LaneForm::strided && node(id).in_bounds) ? &args[i]
                                                                                                   : nullptr);
  }
  if (form(id) == LaneForm::vector) {
    const auto hoisted = row_base_.find(raw(id));
    Value* pointer = hoisted != row_base_.end() ? hoisted->second : address(id, fixed);
    return loaded(id, gather_load(id, pointer, args));
  }
  run.scalar = address(id, fixed);
  return uniform(id) ? loaded(id, b_.load(dtype, run.scalar)) : run;
}

Value* LaneBuilder::read_strided(ExprId id, const LaneValue& at) {
  auto& ir = b_.ir;
  const TensorInfo& info = tensor_info_.at(node(id).tensor);
  const DType dtype = tensors_[static_cast<size_t>(node(id).tensor)].type.dtype;
  if (node(id).in_bounds)
    return read_run(dtype, b_.element_pointer(dtype, at.scalar, b_.mul(base_, at.stride)), at.stride);
  size_t axis = 0;
  while (form(arg_id(id, axis)) != LaneForm::affine) ++axis;
  Value* first = b_.add(at.first, base_);
  Value* limit = info.limit[axis];
  Value* inside =
      ir.CreateAnd(ir.CreateICmpSGE(first, b_.i64(0)), ir.CreateICmpSLE(first, b_.sub(limit, b_.i64(lanes_ - 1))));
  return b_.branch(
      ir.CreateAnd(inside, ir.CreateICmpEQ(at.stride, b_.i64(1))),
      [&] {
        return Values{loaded(id, b_.load_vector(dtype, b_.element_pointer(dtype, at.scalar, first), lanes_)).vector};
      },
      [&] {
        Value* indices = run_indices(first, 1, limit, 64);
        return Values{loaded(id, gather(dtype, at.scalar, ir.CreateMul(indices, splat(at.stride)), nullptr)).vector};
      })[0];
}

/// Into L2: rows a power of two apart would push each other out of L1.
void LaneBuilder::prefetch(ExprId id, const LaneValue& at) {
  const DType dtype = tensors_[static_cast<size_t>(node(id).tensor)].type.dtype;
  Value* first = at.first ? b_.add(at.first, base_) : base_;
  auto* function = llvm::Intrinsic::getDeclaration(&b_.module(), llvm::Intrinsic::prefetch, {b_.pointer_type()});
  for (int64_t lane = 0; lane < lanes_; lane += 64 / size_of(dtype)) {
    Value* line = b_.element_pointer(dtype, at.scalar, b_.mul(b_.add(first, b_.i64(lane)), at.stride));
    b_.ir.CreateCall(function, {line, b_.ir.getInt32(0), b_.ir.getInt32(2), b_.ir.getInt32(1)});
  }
}

/// Elements at pointer + lane · stride; hidden lanes are not touched.
Value* LaneBuilder::read_run(DType dtype, Value* pointer, Value* stride) {
  auto& ir = b_.ir;
  auto widened = [&](Value* v) {
    return dtype == DType::i8 ? ir.CreateSExtOrTrunc(v, lanes_type(ir.getInt32Ty())) : v;
  };
  return b_.branch(
      ir.CreateICmpEQ(stride, b_.i64(1)),
      [&] { return Values{widened(b_.load_vector(dtype, pointer, lanes_, mask_))}; },
      [&] {
        return b_.branch(
            ir.CreateICmpEQ(stride, b_.i64(0)), [&] { return Values{widened(splat(b_.load(dtype, pointer)))}; },
            [&] {
              Value* offset = ir.CreateMul(splat(stride), b_.iota(b_.i64_type(), lanes_));
              return Values{widened(gather(dtype, pointer, offset, mask_))};
            });
      })[0];
}

/// first + factor · lane, each clamped to [0, limit].
Value* LaneBuilder::run_indices(Value* first, int64_t factor, Value* limit, unsigned bits) {
  auto& ir = b_.ir;
  Type* type = ir.getIntNTy(bits);
  // Bounds first on the scalar, so that the run fits the lanes' width and does not wrap.
  const int64_t reach = std::abs(factor) * lanes_;
  first = b_.max(b_.min(first, b_.add(limit, b_.i64(reach))), b_.i64(-reach));
  Value* steps = ir.CreateMul(b_.iota(type, lanes_), splat(llvm::ConstantInt::getSigned(type, factor)));
  return clamp(ir.CreateAdd(splat(ir.CreateTrunc(first, type)), steps), splat(ir.CreateTrunc(limit, type)));
}

Value* LaneBuilder::lane_index(ExprId id, size_t axis, const LaneValue& value, unsigned bits) {
  auto& ir = b_.ir;
  const ExprId arg = arg_id(id, axis);
  const TensorInfo& info = tensor_info_.at(node(id).tensor);
  const bool in_bounds = node(id).in_bounds;
  if (form(arg) == LaneForm::affine && !in_bounds)
    return run_indices(at_base(arg, value), facts(arg).factor, info.limit[axis], bits);
  if (in_bounds) return integers(arg, value, bits);
  const unsigned own = narrow(arg) ? bits : 64;  // clamp before cutting
  Value* index = integers(arg, value, own);
  Value* limit = splat(ir.CreateTrunc(info.limit[axis], ir.getIntNTy(own)));
  index = facts(arg).range.low >= 0 ? b_.min(index, limit) : clamp(index, limit);
  return ir.CreateTrunc(index, lanes_type(ir.getIntNTy(bits)));
}

Value* LaneBuilder::gather_load(ExprId id, Value* pointer, const Operands& args) {
  auto& ir = b_.ir;
  const TensorInfo& info = tensor_info_.at(node(id).tensor);
  const DType dtype = tensors_[static_cast<size_t>(node(id).tensor)].type.dtype;
  auto read = [&](unsigned bits) {
    Value* offset = nullptr;
    for (size_t i = 0; i < args.size(); ++i) {
      if (uniform(arg_id(id, i))) continue;
      Value* stride = splat(ir.CreateTrunc(info.stride[i], ir.getIntNTy(bits)));
      Value* part = ir.CreateMul(lane_index(id, i, args[i], bits), stride);
      offset = offset ? ir.CreateAdd(offset, part) : part;
    }
    return Values{gather(dtype, pointer, offset, node(id).in_bounds ? mask_ : nullptr)};
  };
  return b_.branch(info.small, [&] { return read(32); }, [&] { return read(64); })[0];
}

/// Elements of one or two bytes come out of the aligned 32-bit word around them, which lies in the same page. Bytes are
/// returned in 32-bit lanes.
Value* LaneBuilder::gather(DType dtype, Value* pointer, Value* offset, Value* mask) {
  auto& ir = b_.ir;
  const int64_t size = size_of(dtype);
  if (size >= 4) return b_.gather(dtype, pointer, offset, mask);
  auto like = [&](int64_t value) { return llvm::ConstantInt::getSigned(offset->getType(), value); };
  Type* words = lanes_type(ir.getInt32Ty());
  Value* within = ir.CreateAnd(ir.CreatePtrToInt(pointer, b_.i64_type()), b_.i64(3));
  Value* aligned = ir.CreateGEP(ir.getInt8Ty(), pointer, ir.CreateNeg(within));
  Value* bytes =
      ir.CreateAdd(ir.CreateMul(offset, like(size)), splat(ir.CreateTrunc(within, offset->getType()->getScalarType())));
  Value* word = b_.gather(DType::i32, aligned, ir.CreateAShr(bytes, like(2)), mask);
  Value* shift = ir.CreateTrunc(ir.CreateShl(ir.CreateAnd(bytes, like(3)), like(3)), words);
  Value* value = ir.CreateLShr(word, shift);
  auto c = [&](int64_t v) { return llvm::ConstantInt::getSigned(words, v); };
  switch (dtype) {
    case DType::boolean: return ir.CreateICmpNE(ir.CreateAnd(value, c(255)), c(0));
    case DType::bf16: return ir.CreateBitCast(ir.CreateShl(value, c(16)), lanes_type(ir.getFloatTy()));
    case DType::f16: {
      Value* half = ir.CreateBitCast(ir.CreateTrunc(value, lanes_type(ir.getInt16Ty())), lanes_type(ir.getHalfTy()));
      return ir.CreateFPExt(half, lanes_type(ir.getFloatTy()));
    }
    default: return ir.CreateAShr(ir.CreateShl(value, c(24)), c(24));
  }
}

Value* LaneBuilder::pick(ExprId id, Value* a, Value* b) {
  auto& ir = b_.ir;
  const bool least = node(id).kind == ExprKind::load_min;
  const DType dtype = node(id).dtype;
  if (dtype == DType::boolean) return least ? ir.CreateAnd(a, b) : ir.CreateOr(a, b);
  if (is_integer(dtype)) return least ? b_.min(a, b) : b_.max(a, b);
  Value* first = least ? ir.CreateFCmpOLT(a, b) : ir.CreateFCmpOGT(a, b);
  return ir.CreateSelect(ir.CreateFCmpUNO(a, a), a, ir.CreateSelect(first, a, b));
}

LaneValue LaneBuilder::load_extreme(ExprId id, const Operands& args) {
  TW_CHECK(uniform(id) && "boxes do not vary along lanes");
  const TensorInfo& info = tensor_info_.at(node(id).tensor);
  const DType dtype = tensors_[static_cast<size_t>(node(id).tensor)].type.dtype;
  const size_t rank = info.limit.size();
  Values low, high;
  Value* offset = b_.i64(0);
  for (size_t i = 0; i < rank; ++i) {
    low.push_back(clamp(as_i64(arg_id(id, i), args[i]), info.limit[i]));
    high.push_back(b_.max(low[i], clamp(as_i64(arg_id(id, rank + i), args[rank + i]), info.limit[i])));
    offset = b_.add(offset, b_.mul(low[i], info.stride[i]));
  }
  Value* corner = b_.element_pointer(dtype, info.base, offset);
  Value* best = b_.load(dtype, corner);
  return {.scalar = rank == 0 ? best : extreme_over(id, low, high, 0, corner, best)};
}

/// Over axes `axis` … of the box whose lowest corner is at `pointer`.
Value* LaneBuilder::extreme_over(ExprId id, const Values& low, const Values& high, size_t axis, Value* pointer,
                                 Value* best) {
  const TensorInfo& info = tensor_info_.at(node(id).tensor);
  const DType dtype = tensors_[static_cast<size_t>(node(id).tensor)].type.dtype;
  Value* count = b_.add(b_.sub(high[axis], low[axis]), b_.i64(1));
  if (axis + 1 == low.size()) return extreme_of_run(id, pointer, count, info.stride[axis], best);
  return b_.loop_nonempty(b_.i64(0), count, 1, {best}, [&](Value* i, const Values& carried) {
    Value* row = b_.element_pointer(dtype, pointer, b_.mul(i, info.stride[axis]));
    return Values{extreme_over(id, low, high, axis + 1, row, carried[0])};
  })[0];
}

Value* LaneBuilder::extreme_of_run(ExprId id, Value* pointer, Value* count, Value* stride, Value* best) {
  auto& ir = b_.ir;
  const DType dtype = tensors_[static_cast<size_t>(node(id).tensor)].type.dtype;
  constexpr int64_t kWidth = 16;
  auto one_by_one = [&](Value* begin, Value* start) {
    return b_.loop(begin, count, 1, {start}, [&](Value* i, const Values& carried) {
      return Values{pick(id, carried[0], b_.load(dtype, b_.element_pointer(dtype, pointer, b_.mul(i, stride))))};
    })[0];
  };
  Value* wide = ir.CreateAnd(ir.CreateICmpEQ(stride, b_.i64(1)), ir.CreateICmpSGE(count, b_.i64(kWidth)));
  return b_.branch(
      wide,
      [&] {
        Value* whole = ir.CreateAnd(count, b_.i64(-kWidth));
        Value* lanes =
            b_.loop_nonempty(b_.i64(0), whole, kWidth, {b_.splat(best, kWidth)}, [&](Value* i, const Values& carried) {
              return Values{pick(id, carried[0], b_.load_vector(dtype, b_.element_pointer(dtype, pointer, i), kWidth))};
            })[0];
        for (int half = kWidth / 2; half >= 1; half /= 2) {
          std::vector<int> lower, upper;
          for (int i = 0; i < half; ++i) lower.push_back(i), upper.push_back(half + i);
          lanes = pick(id, ir.CreateShuffleVector(lanes, lower), ir.CreateShuffleVector(lanes, upper));
        }
        return Values{one_by_one(whole, ir.CreateExtractElement(lanes, uint64_t{0}))};
      },
      [&] { return Values{one_by_one(b_.i64(0), best)}; })[0];
}

}  // namespace tilewright::cpu
