// The matmul template: out[…, m, n] = epilogue(Σ_k value(…, m, k) · value2(…, n, k)), blocked for the caches.
//
// An item is block_m rows × block_n columns of one outer index. For every block of k, and every panel of nr columns:
//
//   A scratch [tile][k][mr]          panel of B [k][nr]           C scratch [block_m][block_n]
//   packed once per block of k,  ×   packed when its turn   →     in L2; the sum of the blocks of k, in order
//   in L2, one tile in L1            comes, in L1
//
// and once at the end C goes through the epilogue to the output, narrowed and strided. While the tiles of one panel are
// multiplied, the memory that the next panel is packed from is asked for, a piece between any two tiles. B is packed
// again for every block of rows: that costs block_m's share of a panel (about 3 %), where one packed copy for all of
// them costs a pass over memory and comes back from there cold. Sums over k are sums of pieces of at most block_k (rule
// 19 of docs/semantics.md), the same at any thread count. Registers: microkernel.h.
#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/matmul_pack.h"
#include "codegen/cpu/matmul_templates.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {

class MatmulEmitter {
 public:
  MatmulEmitter(LlvmBuilder& builder, const LoopStep& step, const MatmulLayout& layout, const std::string& prefix)
      : b_(builder),
        step_(step),
        l_(layout),
        args_layout_(args_layout(step)),
        product_(builder, layout.dtype, layout.lanes, layout.tile, layout.k_unroll, prefix + "_product",
                 AOrder::columns, {layout.lda, layout.nr(), layout.ldc}),
        packer_(builder, step, args_layout_, layout, prefix) {
    emit_panel(prefix + "_panel");
  }

  void main_kernel(const std::string& symbol);

 private:
  void emit_panel(const std::string& name);
  Value* at(Value* base, Value* elements) { return b_.element_pointer(l_.dtype, base, elements); }
  Value* scratch(int64_t elements) { return at(b_.argument(3), b_.i64(elements)); }
  void read_extents(ArgsReader& args) {
    m_ = extent(args, l_.axes.rows);
    n_ = extent(args, {l_.axes.column});
    k_ = extent(args, {l_.axes.depth});
  }
  Value* extent(ArgsReader& args, const std::vector<int>& axes) {
    Value* product = b_.i64(1);
    for (int axis : axes) product = b_.mul(product, args.dim(step_.extents[static_cast<size_t>(axis)]));
    return product;
  }

  LlvmBuilder& b_;
  const LoopStep& step_;
  const MatmulLayout& l_;
  ArgsLayout args_layout_;
  TileProduct product_;
  MatmulPacker packer_;
  Value *m_ = nullptr, *n_ = nullptr, *k_ = nullptr;
  llvm::Function* panel_ = nullptr;
};

/// void panel(a, b, c, depth, row_tiles, factors; first, stride, count, bytes of what is asked for)
/// The product of the rows in A with one panel of B. What is packed next is asked for between its tiles.
void MatmulEmitter::emit_panel(const std::string& name) {
  llvm::Type *p = b_.pointer_type(), *i64 = b_.i64_type();
  panel_ = b_.begin_internal(name, b_.ir.getVoidTy(), {p, p, p, i64, i64, p, p, i64, i64, i64});
  auto arg = [&](unsigned n) { return b_.argument(n); };
  b_.loop(b_.i64(0), arg(4), 1, [&](Value* tile) {
    packer_.ask({arg(6), arg(7), arg(8), arg(9)}, tile, arg(4));
    Value* row = b_.mul(tile, b_.i64(l_.tile.mr));
    Value* factors = b_.ir.CreateSelect(b_.ir.CreateIsNull(arg(5)), arg(5), at(arg(5), row));
    product_.call({at(arg(0), b_.mul(row, b_.i64(l_.block_k))), b_.i64(l_.lda), arg(1), b_.i64(l_.nr()), b_.i64(0),
                   at(arg(2), b_.mul(row, b_.i64(l_.ldc))), b_.i64(l_.ldc), arg(3), b_.i64(1), b_.i64(1), factors});
  });
  b_.ret();
}

/// Items are (outer, block of columns, block of rows), rows fastest: neighbours share the panels of B.
void MatmulEmitter::main_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  b_.mark_cold();
  ArgsReader args(b_, args_layout_);
  read_extents(args);
  Value *row_blocks = b_.ceil_div(m_, l_.block_m), *column_blocks = b_.ceil_div(n_, l_.block_n);
  Value *a = scratch(l_.a_at), *c = scratch(l_.c_at), *ones = scratch(l_.ones_at), *stage = scratch(l_.stage_at);
  LoopFrame frame(b_, args, step_, l_.inner());
  auto fill = [&](Value* base, int64_t count, double with) {
    b_.loop(b_.i64(0), b_.i64(count), l_.lanes,
            [&](Value* i) { b_.store_vector(l_.dtype, b_.constant(l_.dtype, with, l_.lanes), at(base, i)); });
  };
  fill(ones, l_.block_m, 1);
  // Blocks of k of one length: a short last one would pay for its tiles of C like a long one.
  Value* k_blocks = b_.ceil_div(k_, l_.block_k);
  Value* even = b_.ir.CreateUDiv(b_.add(k_, b_.sub(k_blocks, b_.i64(1))), b_.max(k_blocks, b_.i64(1)));
  even = packer_.padded(even);
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* item) {
    Value* rest = b_.ir.CreateUDiv(item, row_blocks);
    Value* row = b_.mul(b_.sub(item, b_.mul(rest, row_blocks)), b_.i64(l_.block_m));
    Value* outer = b_.ir.CreateUDiv(rest, column_blocks);
    Value* column = b_.mul(b_.sub(rest, b_.mul(outer, column_blocks)), b_.i64(l_.block_n));
    Value* rows = b_.min(b_.sub(m_, row), b_.i64(l_.block_m));
    Value* columns = b_.min(b_.sub(n_, column), b_.i64(l_.block_n));
    Value* row_tiles = b_.ceil_div(rows, l_.tile.mr);
    frame.decode(outer);
    // No depth leaves no product to write C.
    b_.when(b_.ir.CreateICmpEQ(k_, b_.i64(0)), [&] { fill(c, l_.block_m * l_.ldc, 0); });
    b_.loop(b_.i64(0), k_blocks, 1, [&](Value* block) {
      Value* k = b_.mul(block, even);
      Value* depth = b_.min(b_.sub(k_, k), even);
      Value* padded = packer_.padded(depth);
      Value* next_k = b_.add(k, depth);
      Value* next_depth = b_.min(b_.sub(k_, next_k), even);
      b_.loop(b_.i64(0), rows, l_.tile.mr, [&](Value* i) {
        packer_.pack_tile(outer, b_.add(row, i), k, depth, stage, at(a, b_.mul(i, b_.i64(l_.block_k))));
      });
      Value* factors =
          b_.ir.CreateSelect(b_.ir.CreateICmpEQ(k, b_.i64(0)), llvm::ConstantPointerNull::get(b_.ir.getPtrTy()), ones);
      b_.loop(b_.i64(0), columns, l_.nr(), [&](Value* j) {
        Value* panel = scratch(l_.b_at);
        packer_.pack_panel(outer, b_.add(column, j), k, depth, stage, panel);
        Value* next = b_.add(j, b_.i64(l_.nr()));
        Value* last = b_.ir.CreateICmpSGE(next, columns);
        Value* next_column = b_.ir.CreateSelect(last, column, b_.add(column, next));
        const MatmulPacker::Pieces ahead = packer_.pieces_of_panel(
            frame, next_column, b_.ir.CreateSelect(last, next_k, k), b_.ir.CreateSelect(last, next_depth, depth));
        b_.ir.CreateCall(panel_, {a, panel, at(c, j), padded, row_tiles, factors, ahead.first, ahead.stride,
                                  ahead.count, ahead.bytes});
      });
    });
    packer_.store(outer, row, rows, column, columns, c);
  });
  b_.ret();
}

}  // namespace

LaunchInfo emit_matmul(LlvmBuilder& builder, const LoopStep& step, const CpuSchedule& schedule,
                       const std::string& prefix) {
  const MatmulLayout layout(step, schedule);
  MatmulEmitter emitter(builder, step, layout, prefix);
  LaunchInfo launch;
  launch.schedule = schedule;
  const std::vector<int> column = {layout.axes.column};
  launch.phases.push_back(
      {prefix + "_main",
       item_count(step, layout.axes.outer, {{column, layout.block_n}, {layout.axes.rows, layout.block_m}}), false});
  emitter.main_kernel(launch.phases[0].symbol);
  launch.scratch_bytes = layout.scratch_elements * layout.element;
  launch.workspace_bytes.set_root(launch.workspace_bytes.constant_int(0, DType::i64));
  launch.packed_bytes = launch.workspace_bytes;
  return launch;
}

}  // namespace tilewright::cpu
