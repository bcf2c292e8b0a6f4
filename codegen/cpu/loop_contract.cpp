// The unfused matrix product: out[…, m, n] = Σ_k value(…, m, k) · value2(…, n, k).
//
// One work item is kContractRows rows of m. For every panel of nr columns:
//
//   A scratch [192 × 256]        B scratch [256 × nr]        C scratch [192 × nr]
//   rows m, packed along k   ×   one panel, packed along n   →  summed over blocks of k, stored once
//
// Memory per worker (AVX-512 f32, nr 64): A 192 KB + B 64 KB + C 48 KB, inside a 1–2 MB L2. Registers: microkernel.h.
// Both operands are packed through their expressions, so any layout, broadcast or fused pointwise producer will do.
#include "codegen/cpu/loop_frame.h"
#include "codegen/cpu/microkernel.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {
constexpr int64_t kBlockK = 256;

struct Buffers {
  int64_t a = 0, b = 0, c = 0, ones = 0, end = 0;  ///< byte offsets in scratch
};
Buffers buffers(const LoopStep& step, const CpuSchedule& s) {
  const int64_t element = size_of(step.accumulate);
  Buffers at;
  at.b = kContractRows * kBlockK * element;
  at.c = at.b + kBlockK * s.nr() * element;
  at.ones = at.c + kContractRows * s.nr() * element;
  at.end = at.ones + kContractRows * element;
  return at;
}
}  // namespace

int64_t contract_scratch_bytes(const LoopStep& step, const CpuSchedule& schedule) { return buffers(step, schedule).end; }

void emit_contract(LlvmBuilder& b, ArgsReader& args, const LoopStep& step, const CpuSchedule& s) {
  const int rank = static_cast<int>(step.extents.size());
  const int m_axis = rank - 3, n_axis = rank - 2, k_axis = rank - 1;
  const DType dtype = step.accumulate;
  const int64_t lanes = s.lanes, nr = s.nr();

  llvm::Function* kernel = b.function();
  llvm::BasicBlock* entry = b.ir.GetInsertBlock();
  TileProduct product(b, dtype, lanes, {s.mr, s.nv}, s.k_unroll, kernel->getName().str() + "_tile");
  b.resume(kernel, entry);

  const Buffers at = buffers(step, s);
  Value* scratch = b.argument(3);
  Value *a = scratch, *panel = b.byte_pointer(scratch, b.i64(at.b)), *c = b.byte_pointer(scratch, b.i64(at.c)),
        *ones = b.byte_pointer(scratch, b.i64(at.ones));
  b.loop(b.i64(0), b.i64(kContractRows), 1,
         [&](Value* i) { b.store(dtype, b.constant(dtype, 1), b.element_pointer(dtype, ones, i)); });

  LoopFrame frame(b, args, step, {m_axis, n_axis, k_axis});
  Value *m = frame.extent(m_axis), *n = frame.extent(n_axis), *k = frame.extent(k_axis);
  Value* row_blocks = b.ceil_div(m, kContractRows);
  Value* one_block = b.ir.CreateICmpSLE(k, b.i64(kBlockK));

  b.loop(b.argument(1), b.argument(2), 1, [&](Value* item) {
    Value* outer = b.ir.CreateUDiv(item, row_blocks);
    Value* m0 = b.mul(b.sub(item, b.mul(outer, row_blocks)), b.i64(kContractRows));
    Value* rows = b.min(b.sub(m, m0), b.i64(kContractRows));
    Value* row_tiles = b.ceil_div(rows, s.mr);
    frame.decode(outer);

    // Rows past the last one keep what was there: their sums are never stored.
    const auto pack_a = [&](Value* k0) {
      Value* columns = b.min(b.sub(k, k0), b.i64(kBlockK));
      ExprEmitter value = frame.emitter(step.value, lanes, k_axis);
      b.loop(b.i64(0), rows, 1, [&](Value* row) {
        value.set_axis(static_cast<Axis>(m_axis), b.add(m0, row));
        value.hoist();
        b.loop(b.i64(0), columns, lanes, [&](Value* at_k) {
          Value* mask = b.lane_mask(b.sub(columns, at_k), lanes);
          Value* x = to_accumulator(b, b.splat(value.emit(b.add(k0, at_k), nullptr, mask), lanes), dtype);
          x = b.ir.CreateSelect(mask, x, b.constant(dtype, 0, lanes));
          b.store_vector(dtype, x, b.element_pointer(dtype, a, b.add(b.mul(row, b.i64(kBlockK)), at_k)));
        });
      });
    };
    b.when(one_block, [&] { pack_a(b.i64(0)); });
    ExprEmitter columns_of_b = frame.emitter(step.value2, lanes, n_axis);

    b.loop(b.i64(0), n, nr, [&](Value* n0) {
      // k = 0 leaves no product to write C: it is zeroed for that case alone.
      b.when(b.ir.CreateICmpEQ(k, b.i64(0)), [&] {
        b.loop(b.i64(0), b.i64(kContractRows * nr), lanes, [&](Value* i) {
          b.store_vector(dtype, b.constant(dtype, 0, lanes), b.element_pointer(dtype, c, i));
        });
      });
      b.loop(b.i64(0), k, kBlockK, [&](Value* k0) {
        b.when(b.ir.CreateNot(one_block), [&] { pack_a(k0); });
        Value* depth = b.min(b.sub(k, k0), b.i64(kBlockK));
        Value* padded = b.mul(b.ceil_div(depth, s.k_unroll), b.i64(s.k_unroll));
        b.loop(b.i64(0), depth, 1, [&](Value* at_k) {
          columns_of_b.set_axis(static_cast<Axis>(k_axis), b.add(k0, at_k));
          columns_of_b.hoist();
          for (int64_t j = 0; j < s.nv; ++j) {
            Value* column = b.add(n0, b.i64(j * lanes));
            Value* mask = b.lane_mask(b.sub(n, column), lanes);
            Value* x = to_accumulator(b, b.splat(columns_of_b.emit(column, nullptr, mask), lanes), dtype);
            x = b.ir.CreateSelect(mask, x, b.constant(dtype, 0, lanes));
            Value* offset = b.add(b.mul(at_k, b.i64(nr)), b.i64(j * lanes));
            b.store_vector(dtype, x, b.element_pointer(dtype, panel, offset));
          }
        });
        b.loop(depth, padded, 1, [&](Value* at_k) {
          for (int64_t j = 0; j < s.nv; ++j) {
            Value* offset = b.add(b.mul(at_k, b.i64(nr)), b.i64(j * lanes));
            b.store_vector(dtype, b.constant(dtype, 0, lanes), b.element_pointer(dtype, panel, offset));
          }
        });
        Value* none = llvm::ConstantPointerNull::get(b.ir.getPtrTy());
        Value* factors = b.ir.CreateSelect(b.ir.CreateICmpEQ(k0, b.i64(0)), none, ones);
        product.call({a, b.i64(kBlockK), panel, b.i64(nr), b.i64(0), c, b.i64(nr), padded, b.i64(1), row_tiles, factors});
      });
      b.loop(b.i64(0), rows, 1, [&](Value* row) {
        frame.set(m_axis, b.add(m0, row));
        const LoopFrame::Place place = frame.output(n_axis);
        for (int64_t j = 0; j < s.nv; ++j) {
          Value* column = b.add(n0, b.i64(j * lanes));
          Value* mask = b.lane_mask(b.sub(n, column), lanes);
          Value* x = b.load_vector(dtype, b.element_pointer(dtype, c, b.add(b.mul(row, b.i64(nr)), b.i64(j * lanes))), lanes);
          llvm::Type* type = b.vector_type(frame.output_type(), lanes);
          if (x->getType() != type) x = b.ir.CreateFPCast(x, type);
          Value* pointer = b.element_pointer(frame.output_type(), place.pointer, b.mul(column, place.stride));
          b.store_strided(frame.output_type(), x, pointer, place.stride, mask);
        }
      });
    });
  });
}

}  // namespace tilewright::cpu
