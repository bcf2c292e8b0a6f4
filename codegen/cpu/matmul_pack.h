// Operand movement of the matmul and matvec templates: rows of A and tiles and panels of both, read through their
// expressions (any layout, broadcast or cast will do), widened to the accumulation type and zero padded; and C's way
// out.
#pragma once

#include <functional>
#include <optional>

#include "codegen/cpu/matmul_layout.h"

namespace tilewright::cpu {

class MatmulPacker {
 public:
  /// Emits the internal functions it needs; call with no function under construction.
  MatmulPacker(LlvmBuilder& builder, const LoopStep& step, const ArgsLayout& args, const MatmulLayout& layout,
               const std::string& prefix);

  /// matvec: `rows` rows of A at depths [k, k + depth), to dst[row][lda].
  void pack_rows(llvm::Value* outer, llvm::Value* rows, llvm::Value* k, llvm::Value* depth, llvm::Value* dst);
  /// matmul: the tile of mr rows of A from row on, to dst[depth padded][mr]; may write `lanes` elements beyond it.
  void pack_tile(llvm::Value* outer, llvm::Value* row, llvm::Value* k, llvm::Value* depth, llvm::Value* stage,
                 llvm::Value* dst);
  /// The panel of nr columns of B from column on, to dst[depth padded][nr].
  void pack_panel(llvm::Value* outer, llvm::Value* column, llvm::Value* k, llvm::Value* depth, llvm::Value* stage,
                  llvm::Value* dst);
  /// C [rows][ldc] through the epilogue to the output.
  void store(llvm::Value* outer, llvm::Value* row, llvm::Value* rows, llvm::Value* column, llvm::Value* columns,
             llvm::Value* c);
  llvm::Value* padded(llvm::Value* depth) { return b_.mul(b_.ceil_div(depth, layout_.k_unit), b_.i64(layout_.k_unit)); }

  /// Pieces of `bytes` bytes, `stride` bytes apart.
  struct Pieces {
    llvm::Value *first, *stride, *count, *bytes;
  };
  /// What pack_panel will read from memory; nothing when B is no plain tensor.
  Pieces pieces_of_panel(LoopFrame& frame, llvm::Value* column, llvm::Value* k, llvm::Value* depth);
  /// Asks for part `part` of `parts` of the pieces, into L2.
  void ask(const Pieces& pieces, llvm::Value* part, llvm::Value* parts);

 private:
  /// An operand as it is packed: `pitch` positions of `axes` (flattened) side by side, for one depth after another.
  struct Operand {
    Expr value;
    std::vector<int> axes;
    int64_t pitch;
    bool transposed;              ///< its neighbours in memory are not those of its panels
    std::optional<Access> plain;  ///< where it lies, if it is a tensor
  };
  llvm::Value* at(llvm::Value* base, llvm::Value* elements) {
    return b_.element_pointer(layout_.dtype, base, elements);
  }
  Operand operand(const Expr& value, const std::vector<int>& axes, int64_t pitch, bool transposed);
  DType type_of(const Access& access) const { return step_.tensors[static_cast<size_t>(access.tensor)].type.dtype; }
  void set_position(LoopFrame& frame, std::optional<ExprEmitter>& emitter, const std::vector<int>& axes,
                    llvm::Value* position);
  llvm::Value* read(ExprEmitter& value, llvm::Value* position, llvm::Value* mask);
  void emit_rows(ArgsReader& args);
  llvm::Function* emit_pack(const std::string& name, const ArgsLayout& args_layout, const Operand& operand);
  void pack_plain(const Operand& operand, llvm::Value* from, llvm::Value* next, llvm::Value* depth, llvm::Value* to);
  void pack_any(LoopFrame& frame, const Operand& operand, ExprEmitter& value, llvm::Value* first, llvm::Value* limit,
                llvm::Value* to);
  void emit_store(ArgsReader& args);
  llvm::Function* emit_ask(const std::string& name);

  LlvmBuilder& b_;
  const LoopStep& step_;
  const MatmulLayout& layout_;
  Operand rows_of_a_, columns_of_b_;
  llvm::Function *rows_ = nullptr, *tile_ = nullptr, *panel_ = nullptr, *store_ = nullptr, *ask_ = nullptr;
};

}  // namespace tilewright::cpu
