#include "codegen/cpu/backward_tables.h"

#include "codegen/cpu/expr_emitter.h"
#include "codegen/cpu/launch_sizes.h"

namespace tilewright::cpu {
using llvm::Value;

void emit_table_sum(LlvmBuilder& b, const BackwardSpec& spec, const std::string& symbol, size_t captured,
                    const Expr& table_at, int64_t tables) {
  b.begin_kernel(symbol);
  const ArgsLayout layout = args_layout(spec);
  ArgsReader args(b, layout);
  const DType from = spec.accumulate;
  const int tensor = spec.captured[captured].tensor;
  const TensorType& type = spec.tensors[static_cast<size_t>(tensor)].type;
  const auto rank = static_cast<int>(type.rank());
  Value* at = ExprEmitter(b, args, spec.tensors, table_at, 1, Axis::kv).emit();
  Value* table = b.byte_pointer(args.workspace(), at);
  Value* columns = rank ? args.shape(tensor, rank - 1) : b.i64(1);
  Value* column_stride = rank ? args.stride(tensor, rank - 1) : b.i64(0);
  Value* elements = columns;
  for (int axis = 0; axis + 1 < rank; ++axis) elements = b.mul(elements, args.shape(tensor, axis));
  b.loop(b.argument(1), b.argument(2), 1, [&](Value* row) {
    Value *rest = row, *offset = b.i64(0);
    for (int axis = rank - 2; axis >= 0; --axis) {
      Value* slower = b.ir.CreateUDiv(rest, args.shape(tensor, axis));
      Value* index = b.sub(rest, b.mul(slower, args.shape(tensor, axis)));
      offset = b.add(offset, b.mul(index, args.stride(tensor, axis)));
      rest = slower;
    }
    Value* out = b.element_pointer(type.dtype, args.tensor(tensor), offset);
    Value* first = b.element_pointer(from, table, b.mul(row, columns));
    b.loop(b.i64(0), columns, 1, [&](Value* column) {
      Value* slot = b.element_pointer(from, first, column);
      Value* sum = b.load(from, slot);
      for (int64_t i = 1; i < tables; ++i) {
        slot = b.element_pointer(from, slot, elements);
        sum = b.ir.CreateFAdd(sum, b.load(from, slot));
      }
      b.store(type.dtype, b.ir.CreateFPCast(sum, b.value_type(type.dtype)),
              b.element_pointer(type.dtype, out, b.mul(column, column_stride)));
    });
  });
  b.ret();
}

Expr table_rows(const BackwardSpec& spec, size_t captured) {
  LaunchSizes s;
  Shape outer = spec.tensors[static_cast<size_t>(spec.captured[captured].tensor)].type.shape;
  if (!outer.empty()) outer.pop_back();
  return s.done(s.product(outer));
}

Expr table_bytes(const BackwardSpec& spec, size_t captured, int64_t tables) {
  LaunchSizes s;
  const ExprId count = s.product(spec.tensors[static_cast<size_t>(spec.captured[captured].tensor)].type.shape);
  return s.done(s.lines(s.add(s.mul(count, s.i(tables * size_of(spec.accumulate))), s.i(64))));
}

}  // namespace tilewright::cpu
