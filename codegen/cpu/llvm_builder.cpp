#include "codegen/cpu/llvm_builder.h"

#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/IntrinsicsX86.h>

#include <numeric>

#include "codegen/cpu/target_features.h"
#include "ir/result.h"

namespace tilewright::cpu {
using llvm::BasicBlock;
using llvm::FixedVectorType;
using llvm::Function;
using llvm::Type;
using llvm::Value;

LlvmBuilder::LlvmBuilder(CpuModule::State& state, const CpuTarget& target)
    : ir(*state.context), target_(target), context_(*state.context), module_(*state.module) {
  llvm::FastMathFlags flags;
  flags.setAllowContract();
  ir.setFastMathFlags(flags);
}

void LlvmBuilder::set_attributes(Function* function) {
  function->addFnAttr("target-cpu", target_cpu_name(target_));
  function->addFnAttr("target-features", target_features(target_));
  function->addFnAttr("prefer-vector-width", target_.has_avx512() ? "512" : "256");
  function->addFnAttr("min-legal-vector-width", target_.has_avx512() ? "512" : "256");
  function->addFnAttr("no-builtins");
  function->addFnAttr(llvm::Attribute::NoUnwind);
}

void LlvmBuilder::begin_kernel(const std::string& symbol) {
  Type* ptr = pointer_type();
  auto* type = llvm::FunctionType::get(ir.getVoidTy(), {ptr, i64_type(), i64_type(), ptr}, false);
  function_ = Function::Create(type, Function::ExternalLinkage, symbol, module_);
  set_attributes(function_);
  ir.SetInsertPoint(BasicBlock::Create(context_, "entry", function_));
}

Function* LlvmBuilder::begin_internal(const std::string& name, Type* result, const std::vector<Type*>& params) {
  auto* type = llvm::FunctionType::get(result, params, false);
  function_ = Function::Create(type, Function::InternalLinkage, name, module_);
  set_attributes(function_);
  ir.SetInsertPoint(BasicBlock::Create(context_, "entry", function_));
  return function_;
}

void LlvmBuilder::mark_cold() {
  function_->addFnAttr(llvm::Attribute::NoInline);
  function_->addFnAttr(llvm::Attribute::OptimizeNone);
}

void LlvmBuilder::resume(Function* function, BasicBlock* block) {
  function_ = function;
  ir.SetInsertPoint(block);
}

Type* LlvmBuilder::memory_type(DType dtype) {
  switch (dtype) {
    case DType::f64: return ir.getDoubleTy();
    case DType::f32: return ir.getFloatTy();
    case DType::f16: return ir.getHalfTy();
    case DType::bf16: return ir.getInt16Ty();  // converted by hand: LLVM would call into compiler-rt
    case DType::i64: return ir.getInt64Ty();
    case DType::i32: return ir.getInt32Ty();
    case DType::i8:
    case DType::boolean: return ir.getInt8Ty();
  }
  TW_CHECK(false);
}

Type* LlvmBuilder::value_type(DType dtype) {
  if (dtype == DType::boolean) return ir.getInt1Ty();
  return memory_type(compute_type(dtype));
}

Type* LlvmBuilder::vector_type(DType dtype, int64_t lanes) {
  Type* scalar = value_type(dtype);
  return lanes == 1 ? scalar : FixedVectorType::get(scalar, static_cast<unsigned>(lanes));
}

int64_t LlvmBuilder::lanes_of(Value* value) {
  auto* type = llvm::dyn_cast<FixedVectorType>(value->getType());
  return type ? type->getNumElements() : 1;
}

namespace {
Type* with_lanes(Type* scalar, int64_t lanes) {
  return lanes == 1 ? scalar : FixedVectorType::get(scalar, static_cast<unsigned>(lanes));
}
}  // namespace

namespace {
bool is_constant(Value* value, uint64_t expected) {
  auto* constant = llvm::dyn_cast<llvm::ConstantInt>(value);
  return constant && constant->equalsInt(expected);
}
}  // namespace

Value* LlvmBuilder::add(Value* a, Value* b) {
  if (is_constant(a, 0)) return b;
  return is_constant(b, 0) ? a : ir.CreateNSWAdd(a, b);
}
Value* LlvmBuilder::mul(Value* a, Value* b) {
  if (is_constant(a, 1)) return b;
  return is_constant(b, 1) ? a : ir.CreateNSWMul(a, b);
}
Value* LlvmBuilder::min(Value* a, Value* b) { return ir.CreateBinaryIntrinsic(llvm::Intrinsic::smin, a, b); }
Value* LlvmBuilder::max(Value* a, Value* b) { return ir.CreateBinaryIntrinsic(llvm::Intrinsic::smax, a, b); }
Value* LlvmBuilder::ceil_div(Value* a, int64_t divisor) {
  return ir.CreateUDiv(add(a, i64(divisor - 1)), i64(divisor));
}

Values LlvmBuilder::loop_nonempty(Value* lo, Value* hi, int64_t step, const Values& carried, const LoopBody& body) {
  BasicBlock* before = ir.GetInsertBlock();
  BasicBlock* head = BasicBlock::Create(context_, "loop", function_);
  ir.CreateBr(head);
  ir.SetInsertPoint(head);
  auto* iv = ir.CreatePHI(i64_type(), 2);
  iv->addIncoming(lo, before);
  std::vector<llvm::PHINode*> phis;
  Values current;
  for (Value* value : carried) {
    auto* phi = ir.CreatePHI(value->getType(), 2);
    phi->addIncoming(value, before);
    phis.push_back(phi);
    current.push_back(phi);
  }
  Values next = body(iv, current);
  TW_CHECK(next.size() == carried.size());
  Value* advanced = add(iv, i64(step));
  BasicBlock* latch = ir.GetInsertBlock();
  BasicBlock* exit = BasicBlock::Create(context_, "done", function_);
  ir.CreateCondBr(ir.CreateICmpSLT(advanced, hi), head, exit);
  iv->addIncoming(advanced, latch);
  for (size_t i = 0; i < phis.size(); ++i) phis[i]->addIncoming(next[i], latch);
  ir.SetInsertPoint(exit);
  return next;
}

Values LlvmBuilder::loop(Value* lo, Value* hi, int64_t step, const Values& carried, const LoopBody& body) {
  return branch(
      ir.CreateICmpSLT(lo, hi), [&] { return loop_nonempty(lo, hi, step, carried, body); }, [&] { return carried; });
}

void LlvmBuilder::loop(Value* lo, Value* hi, int64_t step, const std::function<void(Value*)>& body) {
  loop(lo, hi, step, {}, [&](Value* iv, const Values&) {
    body(iv);
    return Values{};
  });
}

Values LlvmBuilder::branch(Value* condition, const std::function<Values()>& then,
                           const std::function<Values()>& otherwise) {
  if (auto* known = llvm::dyn_cast<llvm::ConstantInt>(condition)) return known->isZero() ? otherwise() : then();
  BasicBlock* before = ir.GetInsertBlock();
  BasicBlock* yes = BasicBlock::Create(context_, "then", function_);
  BasicBlock* no = BasicBlock::Create(context_, "else", function_);
  BasicBlock* join = BasicBlock::Create(context_, "join", function_);
  llvm::BranchInst* choice = ir.CreateCondBr(condition, yes, no);
  ir.SetInsertPoint(yes);
  Values from_yes = then();
  BasicBlock* yes_end = ir.GetInsertBlock();
  ir.CreateBr(join);
  ir.SetInsertPoint(no);
  Values from_no = otherwise();
  BasicBlock* no_end = ir.GetInsertBlock();
  if (no->empty()) {  // nothing to do: a block less for every pass to visit
    choice->setSuccessor(1, join);
    no->eraseFromParent();
    no_end = before;
  } else {
    ir.CreateBr(join);
  }
  ir.SetInsertPoint(join);
  TW_CHECK(from_yes.size() == from_no.size());
  Values merged;
  for (size_t i = 0; i < from_yes.size(); ++i) {
    auto* phi = ir.CreatePHI(from_yes[i]->getType(), 2);
    phi->addIncoming(from_yes[i], yes_end);
    phi->addIncoming(from_no[i], no_end);
    merged.push_back(phi);
  }
  return merged;
}

void LlvmBuilder::when(Value* condition, const std::function<void()>& then) {
  branch(
      condition,
      [&] {
        then();
        return Values{};
      },
      [] { return Values{}; });
}

Value* LlvmBuilder::element_pointer(DType dtype, Value* base, Value* offset) {
  if (is_constant(offset, 0)) return base;
  return ir.CreateInBoundsGEP(memory_type(dtype), base, offset);
}
Value* LlvmBuilder::byte_pointer(Value* base, Value* bytes) {
  return ir.CreateInBoundsGEP(ir.getInt8Ty(), base, bytes);
}

Value* LlvmBuilder::widen(DType dtype, Value* raw) {
  const int64_t lanes = lanes_of(raw);
  switch (dtype) {
    case DType::f16: return ir.CreateFPExt(raw, with_lanes(ir.getFloatTy(), lanes));
    case DType::bf16: {
      Type* wide = with_lanes(ir.getInt32Ty(), lanes);
      return ir.CreateBitCast(ir.CreateShl(ir.CreateZExt(raw, wide), llvm::ConstantInt::get(wide, 16)),
                              with_lanes(ir.getFloatTy(), lanes));
    }
    case DType::boolean: return ir.CreateICmpNE(raw, llvm::Constant::getNullValue(raw->getType()));
    default: return raw;
  }
}

Value* LlvmBuilder::narrow(DType dtype, Value* value) {
  const int64_t lanes = lanes_of(value);
  switch (dtype) {
    case DType::f16: return ir.CreateFPTrunc(value, with_lanes(ir.getHalfTy(), lanes));
    case DType::bf16: {  // round to nearest even; a NaN keeps its upper bits and becomes quiet
      Type* wide = with_lanes(ir.getInt32Ty(), lanes);
      auto c = [&](uint64_t v) { return llvm::ConstantInt::get(wide, v); };
      Value* bits = ir.CreateBitCast(value, wide);
      Value* odd = ir.CreateAnd(ir.CreateLShr(bits, c(16)), c(1));
      Value* rounded = ir.CreateLShr(ir.CreateAdd(bits, ir.CreateAdd(odd, c(0x7fff))), c(16));
      Value* quiet = ir.CreateOr(ir.CreateLShr(bits, c(16)), c(0x40));
      Value* chosen = ir.CreateSelect(ir.CreateFCmpUNO(value, value), quiet, rounded);
      return ir.CreateTrunc(chosen, with_lanes(ir.getInt16Ty(), lanes));
    }
    case DType::boolean: return ir.CreateZExt(value, with_lanes(ir.getInt8Ty(), lanes));
    default: return value;
  }
}

Value* LlvmBuilder::load(DType dtype, Value* pointer) {
  return widen(dtype,
               ir.CreateAlignedLoad(memory_type(dtype), pointer, llvm::Align(static_cast<uint64_t>(size_of(dtype)))));
}
void LlvmBuilder::store(DType dtype, Value* value, Value* pointer) {
  ir.CreateAlignedStore(narrow(dtype, value), pointer, llvm::Align(static_cast<uint64_t>(size_of(dtype))));
}

Value* LlvmBuilder::load_vector(DType dtype, Value* pointer, int64_t lanes, Value* mask) {
  if (lanes == 1 && !mask) return load(dtype, pointer);
  Type* type = with_lanes(memory_type(dtype), lanes);
  const llvm::Align align(static_cast<uint64_t>(size_of(dtype)));
  if (!mask) return widen(dtype, ir.CreateAlignedLoad(type, pointer, align));
  return widen(dtype, ir.CreateMaskedLoad(type, pointer, align, mask, llvm::Constant::getNullValue(type)));
}

void LlvmBuilder::store_vector(DType dtype, Value* vector, Value* pointer, Value* mask) {
  Value* raw = narrow(dtype, vector);
  const llvm::Align align(static_cast<uint64_t>(size_of(dtype)));
  if (mask)
    ir.CreateMaskedStore(raw, pointer, align, mask);
  else
    ir.CreateAlignedStore(raw, pointer, align);
}

Value* LlvmBuilder::gather(DType dtype, Value* pointer, Value* offsets, Value* mask) {
  const int64_t lanes = lanes_of(offsets);
  Value* pointers = ir.CreateInBoundsGEP(memory_type(dtype), pointer, offsets);
  Type* type = with_lanes(memory_type(dtype), lanes);
  const llvm::Align align(static_cast<uint64_t>(size_of(dtype)));
  if (lanes == 1) return load(dtype, pointers);
  return widen(dtype, ir.CreateMaskedGather(type, pointers, align, mask, llvm::Constant::getNullValue(type)));
}

Value* LlvmBuilder::load_strided(DType dtype, Value* pointer, Value* stride, int64_t lanes, Value* mask) {
  return branch(
      ir.CreateICmpEQ(stride, i64(1)), [&] { return Values{load_vector(dtype, pointer, lanes, mask)}; },
      [&] {
        Value* offsets = ir.CreateMul(splat(stride, lanes), iota(i64_type(), lanes));
        return Values{gather(dtype, pointer, offsets, mask)};
      })[0];
}

void LlvmBuilder::store_strided(DType dtype, Value* vector, Value* pointer, Value* stride, Value* mask) {
  const int64_t lanes = lanes_of(vector);
  branch(
      ir.CreateICmpEQ(stride, i64(1)),
      [&] {
        store_vector(dtype, vector, pointer, mask);
        return Values{};
      },
      [&] {
        Value* raw = narrow(dtype, vector);
        for (int64_t lane = 0; lane < lanes; ++lane) {
          auto put = [&] {
            ir.CreateAlignedStore(ir.CreateExtractElement(raw, static_cast<uint64_t>(lane)),
                                  element_pointer(dtype, pointer, mul(stride, i64(lane))),
                                  llvm::Align(static_cast<uint64_t>(size_of(dtype))));
          };
          if (mask)
            when(ir.CreateExtractElement(mask, static_cast<uint64_t>(lane)), put);
          else
            put();
        }
        return Values{};
      });
}

Value* LlvmBuilder::stack(Type* type, int64_t count) {
  llvm::IRBuilder<> entry(&function_->getEntryBlock(), function_->getEntryBlock().begin());
  auto* slot = entry.CreateAlloca(type, entry.getInt64(static_cast<uint64_t>(count)));
  slot->setAlignment(llvm::Align(64));
  return slot;
}

Value* LlvmBuilder::splat(Value* scalar, int64_t lanes) {
  if (lanes == 1 || lanes_of(scalar) == lanes) return scalar;
  return ir.CreateVectorSplat(static_cast<unsigned>(lanes), scalar);
}

Value* LlvmBuilder::constant(DType dtype, double value, int64_t lanes) {
  Type* type = value_type(dtype);
  auto* scalar = type->isFloatingPointTy()
                     ? llvm::ConstantFP::get(type, value)
                     : llvm::ConstantInt::get(type, static_cast<uint64_t>(static_cast<int64_t>(value)), true);
  if (lanes == 1) return scalar;
  return llvm::ConstantVector::getSplat(llvm::ElementCount::getFixed(static_cast<unsigned>(lanes)), scalar);
}

Value* LlvmBuilder::lanes_from(Value* vector, int64_t first, int64_t lanes) {
  std::vector<int> pick;
  for (int64_t lane = first; lane < first + lanes; ++lane) pick.push_back(static_cast<int>(lane));
  return ir.CreateShuffleVector(vector, pick);
}

Value* LlvmBuilder::iota(Type* integer, int64_t lanes) {
  std::vector<llvm::Constant*> values;
  for (int64_t i = 0; i < lanes; ++i) values.push_back(llvm::ConstantInt::get(integer, static_cast<uint64_t>(i)));
  return lanes == 1 ? values[0] : llvm::ConstantVector::get(values);
}

Value* LlvmBuilder::lane_mask(Value* count, int64_t lanes) {
  Value* bounded = ir.CreateTrunc(min(max(count, i64(0)), i64(lanes)), ir.getInt32Ty());
  return ir.CreateICmpSLT(iota(ir.getInt32Ty(), lanes), splat(bounded, lanes));
}

Value* LlvmBuilder::fma(Value* a, Value* b, Value* c) {
  return ir.CreateIntrinsic(llvm::Intrinsic::fma, {a->getType()}, {a, b, c});
}

Value* LlvmBuilder::max_ignoring_nan(Value* a, Value* b) { return ir.CreateSelect(ir.CreateFCmpOGT(a, b), a, b); }

Value* LlvmBuilder::reduce_max(Value* vector) {
  for (int64_t half = lanes_of(vector) / 2; half >= 1; half /= 2) {
    std::vector<int> low(static_cast<size_t>(half)), high(static_cast<size_t>(half));
    std::iota(low.begin(), low.end(), 0);
    std::iota(high.begin(), high.end(), static_cast<int>(half));
    vector = max_ignoring_nan(ir.CreateShuffleVector(vector, high), ir.CreateShuffleVector(vector, low));
  }
  return ir.CreateExtractElement(vector, uint64_t{0});
}

Value* LlvmBuilder::reduce_add(Value* vector) {
  for (int64_t half = lanes_of(vector) / 2; half >= 1; half /= 2) {
    std::vector<int> low(static_cast<size_t>(half)), high(static_cast<size_t>(half));
    std::iota(low.begin(), low.end(), 0);
    std::iota(high.begin(), high.end(), static_cast<int>(half));
    vector = ir.CreateFAdd(ir.CreateShuffleVector(vector, low), ir.CreateShuffleVector(vector, high));
  }
  return ir.CreateExtractElement(vector, uint64_t{0});
}

ArgsReader::ArgsReader(LlvmBuilder& builder, const ArgsLayout& layout)
    : b_(builder), layout_(layout), args_(builder.argument(0)), tensors_(field(0)), meta_(field(1)) {}

Value* ArgsReader::field(unsigned i) {
  Value* slot = b_.ir.CreateConstInBoundsGEP1_64(b_.pointer_type(), args_, i);
  return b_.ir.CreateAlignedLoad(b_.pointer_type(), slot, llvm::Align(8));
}

Value* ArgsReader::meta(int64_t word) {
  Value* slot = b_.ir.CreateConstInBoundsGEP1_64(b_.i64_type(), meta_, static_cast<uint64_t>(word));
  return b_.ir.CreateAlignedLoad(b_.i64_type(), slot, llvm::Align(8));
}

Value* ArgsReader::tensor(int i) {
  Value* slot = b_.ir.CreateConstInBoundsGEP1_64(b_.pointer_type(), tensors_, static_cast<uint64_t>(i));
  return b_.ir.CreateAlignedLoad(b_.pointer_type(), slot, llvm::Align(8));
}

Value* ArgsReader::shape(int i, int axis) { return meta(layout_.shape_offset[static_cast<size_t>(i)] + axis); }
Value* ArgsReader::stride(int i, int axis) { return meta(layout_.stride_offset[static_cast<size_t>(i)] + axis); }
Value* ArgsReader::workspace() { return field(2); }
Value* ArgsReader::packed() { return field(3); }

Value* ArgsReader::dim(const Dim& dim) {
  Value* sum = b_.i64(dim.constant());
  for (const auto& [name, coefficient] : dim.terms()) {
    const auto found = std::find(layout_.dims.begin(), layout_.dims.end(), name);
    TW_CHECK(found != layout_.dims.end());
    sum = b_.add(sum, b_.mul(meta(found - layout_.dims.begin()), b_.i64(coefficient)));
  }
  return sum;
}

}  // namespace tilewright::cpu
