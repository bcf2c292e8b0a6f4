#include "codegen/cpu/backward_rows.h"

namespace tilewright::cpu {
using llvm::Value;

/// void rows(dst, row stride, column stride, src, src stride, rows, width)
void RowWriter::declare(Mode mode, DType to) {
  if (functions_.contains({mode, to})) return;
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  static constexpr const char* kNames[] = {"store_rows_", "add_rows_", "zero_rows_"};
  llvm::Function* function = b_.begin_internal(kNames[static_cast<size_t>(mode)] + std::string(to_string(to)),
                                               b_.ir.getVoidTy(), {p, i, i, p, i, i, i});
  functions_[{mode, to}] = function;
  Value *column_stride = b_.argument(2), *width = b_.argument(6);
  Value* dense = b_.ir.CreateSelect(b_.ir.CreateICmpEQ(column_stride, b_.i64(1)),
                                    b_.ir.CreateAnd(width, b_.i64(-lanes_)), b_.i64(0));
  auto value = [&](Value* source, Value* slot, int64_t lanes) {
    if (mode == Mode::zero) return b_.constant(to, 0, lanes);
    Value* x = b_.load_vector(from_, source, lanes);
    if (mode == Mode::add) return b_.ir.CreateFAdd(b_.load_vector(to, slot, lanes), x);
    llvm::Type* type = b_.vector_type(to, lanes);
    return x->getType() == type ? x : b_.ir.CreateFPCast(x, type);
  };
  b_.loop(b_.i64(0), b_.argument(5), 1, [&](Value* row) {
    Value* target = b_.element_pointer(to, b_.argument(0), b_.mul(row, b_.argument(1)));
    Value* source = b_.element_pointer(from_, b_.argument(3), b_.mul(row, b_.argument(4)));
    b_.loop(b_.i64(0), dense, lanes_, [&](Value* at) {
      Value* slot = b_.element_pointer(to, target, at);
      b_.store_vector(to, value(b_.element_pointer(from_, source, at), slot, lanes_), slot);
    });
    b_.loop(dense, width, 1, [&](Value* at) {
      Value* slot = b_.element_pointer(to, target, b_.mul(at, column_stride));
      b_.store(to, value(b_.element_pointer(from_, source, at), slot, 1), slot);
    });
  });
  b_.ret();
}

void RowWriter::call(Mode mode, DType to, const StridedRows& rows, Value* source, int64_t source_stride) {
  b_.ir.CreateCall(functions_.at({mode, to}), {rows.base, rows.row_stride, rows.column_stride, source,
                                               b_.i64(source_stride), rows.rows, rows.width});
}

}  // namespace tilewright::cpu
