// The unfused matrix product: out[…, m, n] = Σ_k value(…, m, k) · value2(…, n, k).
//
// One work item is kContractRows rows of m. For every chunk of columns, for every block of k:
//
//   A scratch [192 × block_k]    B scratch [block_k × nr]     C scratch [panels × 192 × nr]
//   rows m, packed along k   ×   one panel, packed along n →  summed over the blocks of k, stored once a chunk
//
// Sizes (AVX-512 f32, nr 64, block_k 96): B 24 KB lives in L1, A 72 KB and C 384 KB in L2; packing A once serves 512
// columns, packing B 192 rows. Both operands are packed through their expressions, so any layout, broadcast or fused
// cast will do. Registers: microkernel.h.
#include <algorithm>

#include "codegen/cpu/loop_frame.h"
#include "codegen/cpu/microkernel.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {

constexpr int64_t kPanelBytes = 24 << 10;  // B
constexpr int64_t kChunkBytes = 2048;      // one row of C

struct Blocking {
  int64_t k = 0, panels = 0;
  int64_t b = 0, c = 0, ones = 0, end = 0;  ///< byte offsets in scratch; A is at 0
};
Blocking blocking(const LoopStep& step, const CpuSchedule& s) {
  const int64_t element = size_of(step.accumulate), row = s.nr() * element;
  Blocking at;
  at.k = std::min<int64_t>(256, kPanelBytes / row);
  at.panels = kChunkBytes / row;
  at.b = kContractRows * at.k * element;
  at.c = at.b + at.k * row;
  at.ones = at.c + at.panels * kContractRows * row;
  at.end = at.ones + kContractRows * element;
  return at;
}

/// The last index of a load moves with this axis: its neighbours are likely to be close in memory.
bool innermost(const Expr& operand, Axis axis) {
  const std::vector<uint32_t> depends = dependencies(operand);
  for (const ExprNode& node : operand.nodes())
    if (node.kind == ExprKind::load && !node.args.empty() &&
        (depends[static_cast<size_t>(raw(node.args.back()))] & bit(axis)))
      return true;
  return false;
}

/// As many vectors as lanes: row i, lane j becomes row j, lane i. Blocks of 1, 2, 4, … change places over the diagonal.
void transpose(LlvmBuilder& b, Values& rows) {
  const auto lanes = static_cast<int>(rows.size());
  for (int d = 1; d < lanes; d *= 2) {
    std::vector<int> low, high;
    for (int lane = 0; lane < lanes; ++lane) {
      low.push_back(lane & d ? lanes + lane - d : lane);
      high.push_back(lane & d ? lanes + lane : lane + d);
    }
    for (int i = 0; i < lanes; ++i) {
      if (i & d) continue;
      Value *&first = rows[static_cast<size_t>(i)], *&second = rows[static_cast<size_t>(i + d)];
      Value* exchanged = b.ir.CreateShuffleVector(first, second, low);
      second = b.ir.CreateShuffleVector(first, second, high);
      first = exchanged;
    }
  }
}

class Packer {
 public:
  Packer(LlvmBuilder& builder, LoopFrame& frame, const LoopStep& step, const CpuSchedule& schedule)
      : b(builder), frame_(frame), step_(step), s_(schedule), dtype_(step.accumulate) {}

  /// Rows [m0, m0 + rows) at [k0, k0 + depth) to a[row][block_k]. Rows past the last keep what was there: their sums
  /// are never stored.
  void rows_of_a(Value* m0, Value* rows, Value* k0, Value* depth, Value* a, int64_t block_k) {
    ExprEmitter value = frame_.emitter(step_.value, s_.lanes, k_axis());
    b.loop(b.i64(0), rows, 1, [&](Value* row) {
      value.set_axis(static_cast<Axis>(k_axis() - 2), b.add(m0, row));
      value.hoist();
      b.loop(b.i64(0), depth, s_.lanes, [&](Value* at) {
        Value* x = read(value, b.add(k0, at), b.lane_mask(b.sub(depth, at), s_.lanes));
        b.store_vector(dtype_, x, b.element_pointer(dtype_, a, b.add(b.mul(row, b.i64(block_k)), at)));
      });
    });
  }

  /// Columns [n0, n0 + nr) at [k0, k0 + depth) to panel[k][nr], zeros beyond n and up to `padded` rows.
  void panel_of_b(Value* n0, Value* n, Value* k0, Value* depth, Value* padded, Value* panel) {
    if (innermost(step_.value2, static_cast<Axis>(k_axis())) && !innermost(step_.value2, static_cast<Axis>(n_axis())))
      return along_k(n0, n, k0, depth, panel);
    along_n(n0, n, k0, depth, panel);
    b.loop(depth, padded, 1, [&](Value* at) {
      for (int64_t j = 0; j < s_.nv; ++j)
        b.store_vector(dtype_, b.constant(dtype_, 0, s_.lanes), place(panel, at, b.i64(j * s_.lanes)));
    });
  }

 private:
  int k_axis() const { return static_cast<int>(step_.extents.size()) - 1; }
  int n_axis() const { return k_axis() - 1; }
  Value* place(Value* panel, Value* k, Value* column) {
    return b.element_pointer(dtype_, panel, b.add(b.mul(k, b.i64(s_.nr())), column));
  }
  Value* read(ExprEmitter& value, Value* position, Value* mask) {
    Value* x = to_accumulator(b, b.splat(value.emit(position, nullptr, mask), s_.lanes), dtype_);
    return b.ir.CreateSelect(mask, x, b.constant(dtype_, 0, s_.lanes));
  }

  void along_n(Value* n0, Value* n, Value* k0, Value* depth, Value* panel) {
    ExprEmitter value = frame_.emitter(step_.value2, s_.lanes, n_axis());
    b.loop(b.i64(0), depth, 1, [&](Value* at) {
      value.set_axis(static_cast<Axis>(k_axis()), b.add(k0, at));
      value.hoist();
      for (int64_t j = 0; j < s_.nv; ++j) {
        Value* column = b.add(n0, b.i64(j * s_.lanes));
        Value* x = read(value, column, b.lane_mask(b.sub(n, column), s_.lanes));
        b.store_vector(dtype_, x, place(panel, at, b.i64(j * s_.lanes)));
      }
    });
  }

  // Reads `lanes` columns along k and transposes them. Rows are zero up to a multiple of `lanes`.
  void along_k(Value* n0, Value* n, Value* k0, Value* depth, Value* panel) {
    Value* hidden = llvm::Constant::getNullValue(b.vector_type(DType::boolean, s_.lanes));
    b.loop(b.i64(0), b.i64(s_.nr()), s_.lanes, [&](Value* first) {
      std::vector<ExprEmitter> columns;
      Values exists;
      for (int64_t j = 0; j < s_.lanes; ++j) {
        Value* column = b.add(n0, b.add(first, b.i64(j)));
        exists.push_back(b.ir.CreateICmpSLT(column, n));
        columns.push_back(frame_.emitter(step_.value2, s_.lanes, k_axis()));
        columns.back().set_axis(static_cast<Axis>(n_axis()), b.min(column, b.sub(n, b.i64(1))));
        columns.back().hoist();
      }
      b.loop(b.i64(0), depth, s_.lanes, [&](Value* at) {
        Value* mask = b.lane_mask(b.sub(depth, at), s_.lanes);
        Values vectors;
        for (size_t j = 0; j < columns.size(); ++j)
          vectors.push_back(read(columns[j], b.add(k0, at), b.ir.CreateSelect(exists[j], mask, hidden)));
        transpose(b, vectors);
        for (size_t row = 0; row < vectors.size(); ++row)
          b.store_vector(dtype_, vectors[row], place(panel, b.add(at, b.i64(static_cast<int64_t>(row))), first));
      });
    });
  }

  LlvmBuilder& b;
  LoopFrame& frame_;
  const LoopStep& step_;
  const CpuSchedule& s_;
  DType dtype_;
};

/// Row `row` of one panel of C, [192 × nr], to columns [n0, n0 + nr) of the output row that the frame stands at.
void store_row(LlvmBuilder& b, LoopFrame& frame, const LoopFrame::Place& place, const CpuSchedule& s, DType dtype,
               Value* c, Value* row, Value* n0, Value* n) {
  for (int64_t j = 0; j < s.nv; ++j) {
    Value* column = b.add(n0, b.i64(j * s.lanes));
    Value* mask = b.lane_mask(b.sub(n, column), s.lanes);
    Value* from = b.element_pointer(dtype, c, b.add(b.mul(row, b.i64(s.nr())), b.i64(j * s.lanes)));
    Value* x = b.load_vector(dtype, from, s.lanes);
    llvm::Type* type = b.vector_type(frame.output_type(), s.lanes);
    if (x->getType() != type) x = b.ir.CreateFPCast(x, type);
    Value* pointer = b.element_pointer(frame.output_type(), place.pointer, b.mul(column, place.stride));
    b.store_strided(frame.output_type(), x, pointer, place.stride, mask);
  }
}

}  // namespace

int64_t contract_scratch_bytes(const LoopStep& step, const CpuSchedule& schedule) {
  return blocking(step, schedule).end;
}

void emit_contract(LlvmBuilder& b, ArgsReader& args, const LoopStep& step, const CpuSchedule& s) {
  const int rank = static_cast<int>(step.extents.size());
  const int m_axis = rank - 3, n_axis = rank - 2, k_axis = rank - 1;
  const DType dtype = step.accumulate;
  const int64_t lanes = s.lanes, nr = s.nr();

  llvm::Function* kernel = b.function();
  llvm::BasicBlock* entry = b.ir.GetInsertBlock();
  TileProduct product(b, dtype, lanes, {s.mr, s.nv}, s.k_unroll, kernel->getName().str() + "_tile");
  b.resume(kernel, entry);

  const Blocking at = blocking(step, s);
  Value* a = b.argument(3);
  Value *panel = b.byte_pointer(a, b.i64(at.b)), *c = b.byte_pointer(a, b.i64(at.c)),
        *ones = b.byte_pointer(a, b.i64(at.ones));
  b.loop(b.i64(0), b.i64(kContractRows), 1,
         [&](Value* i) { b.store(dtype, b.constant(dtype, 1), b.element_pointer(dtype, ones, i)); });

  LoopFrame frame(b, args, step, {m_axis, n_axis, k_axis});
  Packer pack(b, frame, step, s);
  Value *m = frame.extent(m_axis), *n = frame.extent(n_axis), *k = frame.extent(k_axis);
  Value* row_blocks = b.ceil_div(m, kContractRows);
  Value* one_block = b.ir.CreateICmpSLE(k, b.i64(at.k));
  Value* none = llvm::ConstantPointerNull::get(b.ir.getPtrTy());
  const auto panel_of_c = [&](Value* column) {
    return b.element_pointer(dtype, c, b.mul(column, b.i64(kContractRows)));
  };

  b.loop(b.argument(1), b.argument(2), 1, [&](Value* item) {
    Value* outer = b.ir.CreateUDiv(item, row_blocks);
    Value* m0 = b.mul(b.sub(item, b.mul(outer, row_blocks)), b.i64(kContractRows));
    Value* rows = b.min(b.sub(m, m0), b.i64(kContractRows));
    Value* row_tiles = b.ceil_div(rows, s.mr);
    frame.decode(outer);
    b.loop(b.i64(0), n, at.panels * nr, [&](Value* chunk) {
      Value* columns = b.min(b.sub(n, chunk), b.i64(at.panels * nr));
      // k = 0 leaves no product to write C: it is zeroed for that case alone.
      b.when(b.ir.CreateICmpEQ(k, b.i64(0)), [&] {
        b.loop(b.i64(0), b.i64(at.panels * kContractRows * nr), lanes,
               [&](Value* i) { b.store_vector(dtype, b.constant(dtype, 0, lanes), b.element_pointer(dtype, c, i)); });
      });
      b.loop(b.i64(0), k, at.k, [&](Value* k0) {
        Value* depth = b.min(b.sub(k, k0), b.i64(at.k));
        Value* padded = b.mul(b.ceil_div(depth, s.k_unroll), b.i64(s.k_unroll));
        Value* packed_before = b.ir.CreateAnd(one_block, b.ir.CreateICmpSGT(chunk, b.i64(0)));
        b.when(b.ir.CreateNot(packed_before), [&] { pack.rows_of_a(m0, rows, k0, depth, a, at.k); });
        Value* factors = b.ir.CreateSelect(b.ir.CreateICmpEQ(k0, b.i64(0)), none, ones);
        b.loop(b.i64(0), columns, nr, [&](Value* column) {
          pack.panel_of_b(b.add(chunk, column), n, k0, depth, padded, panel);
          product.call({a, b.i64(at.k), panel, b.i64(nr), b.i64(0), panel_of_c(column), b.i64(nr), padded, b.i64(1),
                        row_tiles, factors});
        });
      });
      b.loop(b.i64(0), rows, 1, [&](Value* row) {
        frame.set(m_axis, b.add(m0, row));
        const LoopFrame::Place place = frame.output(n_axis);
        b.loop(b.i64(0), columns, nr, [&](Value* column) {
          store_row(b, frame, place, s, dtype, panel_of_c(column), row, b.add(chunk, column), n);
        });
      });
    });
  });
}

}  // namespace tilewright::cpu
