// Computed rows of Q and K (ir/row_program.h): a function that writes a run of them, dense and of the accumulation
// type, from where packing goes on as from a stored operand.
//
//   for each row: s = Σ over d (lanes along d), t = Σ …, then all pieces of one length in one loop, so that the two
//   halves of a rotation share their loads.
#pragma once

#include <optional>

#include "codegen/cpu/access.h"
#include "codegen/cpu/expr_emitter.h"

namespace tilewright::cpu {

class RowEmitter {
 public:
  /// Emits the function; call with no function under construction. Rows stand at `position`, q or kv, and are `stride`
  /// elements apart in what is written.
  RowEmitter(LlvmBuilder& builder, const ScoreSpace& space, const ArgsLayout& args, const RowProgram& row,
             Axis position, int64_t stride, int64_t lanes, const std::string& name);
  /// Rows [first, first + count) of (b, h) to dst; none when count <= 0.
  void call(llvm::Value* b, llvm::Value* h, llvm::Value* first, llvm::Value* count, llvm::Value* dst) const;

 private:
  LlvmBuilder& b_;
  llvm::Function* function_ = nullptr;
};

/// The emitters of one dot term; rows are head_dim elements apart.
struct DotRows {
  std::optional<RowEmitter> query, key;
};
DotRows emit_rows(LlvmBuilder& builder, const ScoreSpace& space, const ArgsLayout& args, const DotTerm& dot,
                  int64_t lanes, const std::string& name);

/// Where the rows of a dot's operand lie when they are stored, nothing when they are computed.
RowAccess resolve_stored(LlvmBuilder& builder, ArgsReader& args, const ScoreSpace& space, const Access& access,
                         const std::optional<RowProgram>& row, llvm::Value* b, llvm::Value* h);

}  // namespace tilewright::cpu
