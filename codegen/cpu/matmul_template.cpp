// The matmul template: out[…, m, n] = epilogue(Σ_k value(…, m, k) · value2(…, n, k)), blocked for the caches.
//
// Phase 1, pack (left out when KernelArgs::packed is null; the main phase then packs each panel as it comes to it):
// B of every outer index becomes panels [block of k][panel of nr columns][k][nr], zero padded.
//
// Phase 2, main. An item is block_m rows × block_n columns of one outer index. For every block of k:
//
//   A scratch [block_m][block_k]     panels of B [block_k][nr]    C scratch [block_m][block_n]
//   packed along k, in L2        ×   in L1, one after another  →  in L2; the sum of the blocks of k, in order
//
// and once at the end C goes through the epilogue to the output, narrowed and strided. Sums over k are sums of block_k
// long pieces (rule 19 of docs/semantics.md), the same at any thread count. Registers: microkernel.h.
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
        product_(builder, layout.dtype, layout.lanes, layout.tile, layout.k_unroll, prefix + "_product", AOrder::rows,
                 {layout.lda, layout.nr(), layout.ldc}),
        packer_(builder, step, args_layout_, layout, prefix) {}

  void pack_kernel(const std::string& symbol);
  void main_kernel(const std::string& symbol);

 private:
  Value* at(Value* base, Value* elements) { return b_.element_pointer(l_.dtype, base, elements); }
  Value* scratch(int64_t elements) { return at(b_.argument(3), b_.i64(elements)); }
  /// Where the panel of column `column` (a multiple of nr) at depths from k (of block_k) on lies.
  Value* packed_panel(Value* packed, Value* outer, Value* k, Value* padded_depth, Value* column) {
    Value* block = b_.add(b_.mul(outer, padded_k_), k);
    return at(packed, b_.add(b_.mul(block, padded_n_), b_.mul(column, padded_depth)));
  }
  void read_extents(ArgsReader& args) {
    m_ = extent(args, l_.axes.rows);
    n_ = extent(args, {l_.axes.column});
    k_ = extent(args, {l_.axes.depth});
    padded_k_ = packer_.padded(k_);
    padded_n_ = b_.mul(b_.ceil_div(n_, l_.nr()), b_.i64(l_.nr()));
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
  Value *m_ = nullptr, *n_ = nullptr, *k_ = nullptr, *padded_k_ = nullptr, *padded_n_ = nullptr;
};

/// Columns of B that one item of the packing phase moves.
int64_t pack_width(const MatmulLayout& l) { return std::max<int64_t>(l.nr(), 512 / l.nr() * l.nr()); }

/// Items are (outer, block of k, pack_width columns).
void MatmulEmitter::pack_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  b_.mark_cold();
  ArgsReader args(b_, args_layout_);
  read_extents(args);
  Value* packed = args.packed();
  Value *strips = b_.ceil_div(n_, pack_width(l_)), *blocks = b_.ceil_div(k_, l_.block_k);
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* item) {
    Value* rest = b_.ir.CreateUDiv(item, strips);
    Value* column = b_.mul(b_.sub(item, b_.mul(rest, strips)), b_.i64(pack_width(l_)));
    Value* outer = b_.ir.CreateUDiv(rest, blocks);
    Value* k = b_.mul(b_.sub(rest, b_.mul(outer, blocks)), b_.i64(l_.block_k));
    Value* depth = b_.min(b_.sub(k_, k), b_.i64(l_.block_k));
    Value* padded = packer_.padded(depth);
    packer_.pack_columns(outer, column, b_.min(b_.sub(n_, column), b_.i64(pack_width(l_))), k, depth,
                         b_.mul(padded, b_.i64(l_.nr())), scratch(l_.stage_at),
                         packed_panel(packed, outer, k, padded, column));
  });
  b_.ret();
}

/// Items are (outer, block of columns, block of rows), rows fastest: neighbours share the panels of B.
void MatmulEmitter::main_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  b_.mark_cold();
  ArgsReader args(b_, args_layout_);
  read_extents(args);
  Value* packed = args.packed();
  Value *row_blocks = b_.ceil_div(m_, l_.block_m), *column_blocks = b_.ceil_div(n_, l_.block_n);
  Value *a = scratch(l_.a_at), *c = scratch(l_.c_at), *ones = scratch(l_.ones_at);
  auto fill = [&](Value* base, int64_t count, double with) {
    b_.loop(b_.i64(0), b_.i64(count), l_.lanes,
            [&](Value* i) { b_.store_vector(l_.dtype, b_.constant(l_.dtype, with, l_.lanes), at(base, i)); });
  };
  fill(ones, l_.block_m, 1);
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* item) {
    Value* rest = b_.ir.CreateUDiv(item, row_blocks);
    Value* row = b_.mul(b_.sub(item, b_.mul(rest, row_blocks)), b_.i64(l_.block_m));
    Value* outer = b_.ir.CreateUDiv(rest, column_blocks);
    Value* column = b_.mul(b_.sub(rest, b_.mul(outer, column_blocks)), b_.i64(l_.block_n));
    Value* rows = b_.min(b_.sub(m_, row), b_.i64(l_.block_m));
    Value* columns = b_.min(b_.sub(n_, column), b_.i64(l_.block_n));
    Value* row_tiles = b_.ceil_div(rows, l_.tile.mr);
    // No depth leaves no product to write C.
    b_.when(b_.ir.CreateICmpEQ(k_, b_.i64(0)), [&] { fill(c, l_.block_m * l_.ldc, 0); });
    b_.loop(b_.i64(0), k_, l_.block_k, [&](Value* k) {
      Value* depth = b_.min(b_.sub(k_, k), b_.i64(l_.block_k));
      Value* padded = packer_.padded(depth);
      packer_.pack_rows(outer, row, rows, k, depth, scratch(l_.stage_at), a);
      Value* first = b_.ir.CreateICmpEQ(k, b_.i64(0));
      Value* factors = b_.ir.CreateSelect(first, llvm::ConstantPointerNull::get(b_.ir.getPtrTy()), ones);
      b_.loop(b_.i64(0), columns, l_.nr(), [&](Value* j) {
        Value* here = b_.add(column, j);
        Value* panel = b_.branch(
            b_.ir.CreateIsNull(packed),
            [&] {
              Value* own = scratch(l_.b_at);
              packer_.pack_columns(outer, here, b_.min(b_.sub(n_, here), b_.i64(l_.nr())), k, depth, b_.i64(0),
                                   scratch(l_.stage_at), own);
              return Values{own};
            },
            [&] { return Values{packed_panel(packed, outer, k, padded, here)}; })[0];
        product_.call({a, b_.i64(l_.lda), panel, b_.i64(l_.nr()), b_.i64(0), at(c, j), b_.i64(l_.ldc), padded,
                       b_.i64(1), row_tiles, factors});
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
  const std::vector<int> column = {layout.axes.column}, depth = {layout.axes.depth};
  launch.phases.push_back({prefix + "_pack",
                           item_count(step, layout.axes.outer, {{depth, layout.block_k}, {column, pack_width(layout)}}),
                           true});
  launch.phases.push_back(
      {prefix + "_main",
       item_count(step, layout.axes.outer, {{column, layout.block_n}, {layout.axes.rows, layout.block_m}}), false});
  emitter.pack_kernel(launch.phases[0].symbol);
  emitter.main_kernel(launch.phases[1].symbol);
  launch.scratch_bytes = layout.scratch_elements * layout.element;
  launch.workspace_bytes.set_root(launch.workspace_bytes.constant_int(0, DType::i64));
  launch.packed_bytes = packed_bytes(step, layout);
  return launch;
}

}  // namespace tilewright::cpu
