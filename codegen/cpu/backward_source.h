// Rows of the backward template's operands as memory holds them, on their way into scratch: widened to the accumulation
// type, scaled, zero padded; keys hidden by keep_kv are zeros and read no memory.
#pragma once

#include <optional>

#include "codegen/cpu/access.h"
#include "codegen/cpu/backward_layout.h"
#include "codegen/cpu/expr_emitter.h"
#include "codegen/cpu/row_copy.h"

namespace tilewright::cpu {

class BackwardSource {
 public:
  /// Emits internal functions; call with no function under construction.
  BackwardSource(LlvmBuilder& builder, const BackwardSpec& spec, const ArgsLayout& args, const BackwardLayout& layout);

  /// A function (args, b, h, first, count, scratch) that loads rows [first, first + count) of (b, h), count > 0.
  llvm::Function* begin(const std::string& name);
  /// Of the rows such a function loads; no longer alive than it is under construction.
  class Reader {
   public:
    enum class Of : uint8_t { queries, keys };
    Reader(BackwardSource& source, Of rows);
    RowAccess resolve(const Access& access);
    /// Row `number` to `padded` elements at `target`: zeros when it is not below count.
    void query(const BackwardLayout::Rows& rows, const RowAccess& from, llvm::Value* number, llvm::Value* target,
               int64_t padded);
    void key(DType type, const RowAccess& from, llvm::Value* number, int64_t width, llvm::Value* target,
             int64_t padded);

   private:
    BackwardSource& s_;
    LlvmBuilder& b_;
    ArgsReader args_;
    std::optional<ExprEmitter> visible_;
  };
  void call(llvm::Function* function, llvm::Value* b, llvm::Value* h, llvm::Value* first, llvm::Value* count,
            llvm::Value* scratch);

 private:
  LlvmBuilder& b_;
  const BackwardSpec& spec_;
  const ArgsLayout& args_;
  RowCopy copy_;
};

}  // namespace tilewright::cpu
