// LlvmBuilder: the thin layer over IRBuilder that every CPU template uses: loops with carried values, branches,
// strided element access with dtype conversion, and vectors of `lanes` elements. No attention in here.
//
// Emitted code must be good as it is: no IR pipeline runs after it (docs/decisions.md), so hoist by hand and emit
// loops with phis in place.
#pragma once

#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Module.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "codegen/cpu/cpu_codegen.h"

namespace tilewright {

/// The maximum of no scores, and the score of a key that is masked.
inline constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

struct CpuModule::State {
  std::unique_ptr<llvm::LLVMContext> context;
  std::unique_ptr<llvm::Module> module;
};

namespace cpu {

using Values = std::vector<llvm::Value*>;

class LlvmBuilder {
 public:
  LlvmBuilder(CpuModule::State& state, const CpuTarget& target);

  llvm::IRBuilder<> ir;
  const CpuTarget& target() const { return target_; }
  llvm::Module& module() { return module_; }
  llvm::LLVMContext& context() { return context_; }
  llvm::Function* function() { return function_; }

  // Functions. All are nounwind, no-builtins, with the target's features; pointers may alias unless said otherwise.
  /// Starts `void symbol(const KernelArgs*, i64 begin, i64 end, ptr scratch)` with external linkage.
  void begin_kernel(const std::string& symbol);
  /// Starts an internal function; finish with ret()/CreateRet, then call resume() to go on in the outer one.
  llvm::Function* begin_internal(const std::string& name, llvm::Type* result, const std::vector<llvm::Type*>& params);
  /// The function under construction is to compile fast rather than run fast (LLVM's optnone): glue around the loops
  /// that matter.
  void mark_cold();
  void resume(llvm::Function* function, llvm::BasicBlock* block);
  llvm::Value* argument(unsigned i) { return function_->getArg(i); }
  void ret() { ir.CreateRetVoid(); }

  // Types.
  llvm::Type* memory_type(DType dtype);                 ///< bool is i8 in memory
  llvm::Type* value_type(DType dtype);                  ///< f16/bf16 are float, bool is i1
  llvm::Type* vector_type(DType dtype, int64_t lanes);  ///< of value_type; the scalar itself when lanes == 1
  llvm::Type* i64_type() { return ir.getInt64Ty(); }
  llvm::Type* pointer_type() { return ir.getPtrTy(); }

  // 64-bit integers (no wrap assumed). Zeros and ones fold, so that emitters need no special cases.
  llvm::Value* i64(int64_t value) { return ir.getInt64(static_cast<uint64_t>(value)); }
  llvm::Value* add(llvm::Value* a, llvm::Value* b);
  llvm::Value* sub(llvm::Value* a, llvm::Value* b) { return ir.CreateNSWSub(a, b); }
  llvm::Value* mul(llvm::Value* a, llvm::Value* b);
  llvm::Value* min(llvm::Value* a, llvm::Value* b);  ///< signed
  llvm::Value* max(llvm::Value* a, llvm::Value* b);
  llvm::Value* ceil_div(llvm::Value* a, int64_t divisor);  ///< a >= 0

  // Control flow.
  using LoopBody = std::function<Values(llvm::Value* iv, const Values& carried)>;
  /// for (iv = lo; iv < hi; iv += step), signed, zero trips allowed; returns the carried values after the loop.
  Values loop(llvm::Value* lo, llvm::Value* hi, int64_t step, const Values& carried, const LoopBody& body);
  /// The same without the entry test: the body runs at least once.
  Values loop_nonempty(llvm::Value* lo, llvm::Value* hi, int64_t step, const Values& carried, const LoopBody& body);
  void loop(llvm::Value* lo, llvm::Value* hi, int64_t step, const std::function<void(llvm::Value* iv)>& body);
  /// Both arms return the same number of values; the phis come back. A constant condition emits one arm alone.
  Values branch(llvm::Value* condition, const std::function<Values()>& then, const std::function<Values()>& otherwise);
  void when(llvm::Value* condition, const std::function<void()>& then);

  // Memory. Offsets are in elements of `dtype`; alignment is that of one element.
  llvm::Value* element_pointer(DType dtype, llvm::Value* base, llvm::Value* offset);
  llvm::Value* byte_pointer(llvm::Value* base, llvm::Value* bytes);
  /// Scalars, converted to and from value_type.
  llvm::Value* load(DType dtype, llvm::Value* pointer);
  void store(DType dtype, llvm::Value* value, llvm::Value* pointer);
  /// `lanes` consecutive elements; `mask` (<lanes x i1>, may be null) hides lanes, which then read as 0 / are not
  /// written.
  llvm::Value* load_vector(DType dtype, llvm::Value* pointer, int64_t lanes, llvm::Value* mask = nullptr);
  void store_vector(DType dtype, llvm::Value* vector, llvm::Value* pointer, llvm::Value* mask = nullptr);
  /// Elements at pointer + offsets[lane] (<lanes x i64>, in elements).
  llvm::Value* gather(DType dtype, llvm::Value* pointer, llvm::Value* offsets, llvm::Value* mask = nullptr);
  /// Elements at pointer + lane * stride (runtime stride in elements): one wide load when the stride is 1.
  llvm::Value* load_strided(DType dtype, llvm::Value* pointer, llvm::Value* stride, int64_t lanes,
                            llvm::Value* mask = nullptr);
  void store_strided(DType dtype, llvm::Value* vector, llvm::Value* pointer, llvm::Value* stride,
                     llvm::Value* mask = nullptr);
  /// A stack slot in the entry block.
  llvm::Value* stack(llvm::Type* type, int64_t count = 1);

  // Vectors. A value with lanes == 1 is a scalar; all of these take either.
  llvm::Value* splat(llvm::Value* scalar, int64_t lanes);
  llvm::Value* constant(DType dtype, double value, int64_t lanes = 1);
  llvm::Value* lanes_from(llvm::Value* vector, int64_t first, int64_t lanes);  ///< a part of a longer vector
  llvm::Value* iota(llvm::Type* integer, int64_t lanes);                       ///< 0, 1, 2, …
  llvm::Value* lane_mask(llvm::Value* count, int64_t lanes);                   ///< lane < count (i64, any value)
  llvm::Value* fma(llvm::Value* a, llvm::Value* b, llvm::Value* c);
  llvm::Value* max_ignoring_nan(llvm::Value* a, llvm::Value* b);  ///< one vmaxps: a NaN in `a` gives b
  llvm::Value* reduce_max(llvm::Value* vector);  ///< of a vector without NaN (max_ignoring_nan makes one)
  llvm::Value* reduce_add(llvm::Value* vector);  ///< fixed tree order

  static int64_t lanes_of(llvm::Value* value);

 private:
  llvm::Value* widen(DType dtype, llvm::Value* raw);
  llvm::Value* narrow(DType dtype, llvm::Value* value);
  void set_attributes(llvm::Function* function);

  CpuTarget target_;
  llvm::LLVMContext& context_;
  llvm::Module& module_;
  llvm::Function* function_ = nullptr;
};

/// Reads KernelArgs fields. Construct it in the entry block of a kernel, or of an internal function whose first
/// parameter is the kernel's.
class ArgsReader {
 public:
  ArgsReader(LlvmBuilder& builder, const ArgsLayout& layout);
  llvm::Value* tensor(int i);  ///< base pointer
  llvm::Value* shape(int i, int axis);
  llvm::Value* stride(int i, int axis);  ///< elements
  llvm::Value* dim(const Dim& dim);      ///< value of an affine dim
  llvm::Value* workspace();
  llvm::Value* packed();

 private:
  llvm::Value* meta(int64_t word);
  llvm::Value* field(unsigned i);
  LlvmBuilder& b_;
  const ArgsLayout& layout_;
  llvm::Value *args_, *tensors_, *meta_;
};

}  // namespace cpu
}  // namespace tilewright
