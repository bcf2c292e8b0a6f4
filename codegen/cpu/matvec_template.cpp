// The matvec template: out = epilogue(A · B) for few rows of A. B is read from memory once, where it lies:
//
//   neighbours along n: a group of 8 rows of B at a time      neighbours along k: 4 columns of B at a time
//        n →                                                       k →
//     k  ────────────→  b0 … b7 in registers                    n  ────────────→  s0 … s3 in registers,
//     ↓  ────────────→  for each row m of A:                    ↓  ────────────→  for each row m of A;
//        ────────────→    C[m][n] += Σ_u A[m][k+u] · b_u           ────────────→  C[m][n + i] += sum over lanes of s_i
//
// while the lines of the next group are asked for. An item is block_n columns of one outer index; A goes packed to
// scratch block_k at a time, C [rows][block_n] lives there too. A B that is no plain strided read in the expected
// direction is packed panel by panel and then swept along n.
#include <algorithm>

#include "codegen/cpu/matmul_pack.h"
#include "codegen/cpu/matmul_templates.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {

constexpr int64_t kDepths = 8;   ///< of one group along n
constexpr int64_t kColumns = 4;  ///< of one group along k

class MatvecEmitter {
 public:
  MatvecEmitter(LlvmBuilder& builder, const LoopStep& step, const MatmulLayout& layout, const std::string& prefix)
      : b_(builder),
        step_(step),
        l_(layout),
        args_layout_(args_layout(step)),
        weights_(plain_access(step.value2, {layout.axes.column, layout.axes.depth})),
        packer_(builder, step, args_layout_, layout, prefix) {
    if (weights_) {
      type_ = step.tensors[static_cast<size_t>(weights_->tensor)].type.dtype;
      direct_ = l_.transpose_b ? emit_dots(prefix + "_dots") : emit_sweep(prefix + "_sweep", type_);
    }
    const bool same = direct_ && !l_.transpose_b && type_ == l_.dtype;
    packed_ = same ? direct_ : emit_sweep(prefix + "_sweep_packed", l_.dtype);
  }
  void kernel(const std::string& symbol);

 private:
  Value* at(Value* base, Value* elements) { return b_.element_pointer(l_.dtype, base, elements); }
  Value* scratch(int64_t elements) { return at(b_.argument(3), b_.i64(elements)); }
  Value* load_b(DType type, Value* pointer, Value* mask) {
    return to_accumulator(b_, b_.load_vector(type, pointer, l_.lanes, mask), l_.dtype);
  }
  void prefetch(Value* pointer) {
    auto* function = llvm::Intrinsic::getDeclaration(&b_.module(), llvm::Intrinsic::prefetch, {b_.pointer_type()});
    b_.ir.CreateCall(function, {pointer, b_.ir.getInt32(0), b_.ir.getInt32(3), b_.ir.getInt32(1)});
  }
  llvm::Function* start(const std::string& name) {
    llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
    llvm::Function* function = b_.begin_internal(name, b_.ir.getVoidTy(), {p, i, p, i, p, i, i});
    for (unsigned pointer : {0, 2, 4}) function->addParamAttr(pointer, llvm::Attribute::NoAlias);
    return function;
  }
  llvm::Function* emit_sweep(const std::string& name, DType type);
  llvm::Function* emit_dots(const std::string& name);
  LlvmBuilder& b_;
  const LoopStep& step_;
  const MatmulLayout& l_;
  ArgsLayout args_layout_;
  std::optional<Access> weights_;  ///< B, read in place
  DType type_ = DType::f32;
  MatmulPacker packer_;
  /// void (b, b's long stride, a, depth, c, columns, rows): C += A · B
  llvm::Function *direct_ = nullptr, *packed_ = nullptr;
};

llvm::Function* MatvecEmitter::emit_sweep(const std::string& name, DType type) {
  llvm::Function* function = start(name);
  auto arg = [&](unsigned n) { return b_.argument(n); };
  Value *w = arg(0), *stride = arg(1), *a = arg(2), *depth = arg(3), *c = arg(4), *columns = arg(5), *rows = arg(6);
  auto group = [&](Value* k, int64_t depths) {
    Value* from = b_.element_pointer(type, w, b_.mul(k, stride));
    Values row = {from};
    for (int64_t u = 1; u < depths; ++u) row.push_back(b_.element_pointer(type, row.back(), stride));
    Value* ahead = b_.mul(stride, b_.i64(depths));
    for_each_vector(b_, columns, l_.lanes, [&](Value* n, Value* mask) {
      Values vectors;
      for (Value* base : row) {
        Value* here = b_.element_pointer(type, base, n);
        vectors.push_back(load_b(type, here, mask));
        if (!mask && depths > 1) prefetch(b_.element_pointer(type, here, ahead));
      }
      b_.loop_nonempty(b_.i64(0), rows, 1, {}, [&](Value* m, const Values&) {
        Value* slot = at(c, b_.add(b_.mul(m, b_.i64(l_.ldc)), n));
        Value* factors = at(a, b_.add(b_.mul(m, b_.i64(l_.lda)), k));
        Value* sum = nullptr;
        for (int64_t u = 0; u < depths; ++u) {
          Value* factor = b_.splat(b_.load(l_.dtype, at(factors, b_.i64(u))), l_.lanes);
          Value* vector = vectors[static_cast<size_t>(u)];
          sum = sum ? b_.fma(factor, vector, sum) : b_.ir.CreateFMul(factor, vector);
        }
        b_.store_vector(l_.dtype, b_.ir.CreateFAdd(b_.load_vector(l_.dtype, slot, l_.lanes), sum), slot);
        return Values{};
      });
    });
  };
  Value* whole = b_.ir.CreateAnd(depth, b_.i64(-kDepths));
  b_.loop(b_.i64(0), whole, kDepths, [&](Value* k) { group(k, kDepths); });
  b_.loop(whole, depth, 1, [&](Value* k) { group(k, 1); });
  b_.ret();
  return function;
}

llvm::Function* MatvecEmitter::emit_dots(const std::string& name) {
  llvm::Function* function = start(name);
  auto arg = [&](unsigned n) { return b_.argument(n); };
  Value *w = arg(0), *stride = arg(1), *a = arg(2), *depth = arg(3), *c = arg(4), *columns = arg(5), *rows = arg(6);
  auto group = [&](Value* n, int64_t count) {
    Values row = {b_.element_pointer(type_, w, b_.mul(n, stride))};
    for (int64_t i = 1; i < count; ++i) row.push_back(b_.element_pointer(type_, row.back(), stride));
    Value* ahead = b_.mul(stride, b_.i64(count));
    b_.loop_nonempty(b_.i64(0), rows, 1, {}, [&](Value* m, const Values&) {
      Value* factors = at(a, b_.mul(m, b_.i64(l_.lda)));
      auto step = [&](Value* k, Value* mask, Values sums) {
        Value* factor = b_.load_vector(l_.dtype, at(factors, k), l_.lanes);  // zero padded
        for (size_t i = 0; i < row.size(); ++i) {
          Value* here = b_.element_pointer(type_, row[i], k);
          sums[i] = b_.fma(factor, load_b(type_, here, mask), sums[i]);
          if (!mask && count > 1) prefetch(b_.element_pointer(type_, here, ahead));
        }
        return sums;
      };
      Values sums(row.size(), b_.constant(l_.dtype, 0, l_.lanes));
      Value* rest = b_.ir.CreateURem(depth, b_.i64(l_.lanes));
      Value* whole = b_.sub(depth, rest);
      sums = b_.loop(b_.i64(0), whole, l_.lanes, sums, [&](Value* k, const Values& s) { return step(k, nullptr, s); });
      sums = b_.branch(
          b_.ir.CreateICmpSGT(rest, b_.i64(0)), [&] { return step(whole, b_.lane_mask(rest, l_.lanes), sums); },
          [&] { return sums; });
      Value* slots = at(c, b_.add(b_.mul(m, b_.i64(l_.ldc)), n));
      for (size_t i = 0; i < sums.size(); ++i) {
        Value* slot = at(slots, b_.i64(static_cast<int64_t>(i)));
        b_.store(l_.dtype, b_.ir.CreateFAdd(b_.load(l_.dtype, slot), b_.reduce_add(sums[i])), slot);
      }
      return Values{};
    });
  };
  Value* whole = b_.ir.CreateAnd(columns, b_.i64(-kColumns));
  b_.loop(b_.i64(0), whole, kColumns, [&](Value* n) { group(n, kColumns); });
  b_.loop(whole, columns, 1, [&](Value* n) { group(n, 1); });
  b_.ret();
  return function;
}

/// Items are (outer, block of columns).
void MatvecEmitter::kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  b_.mark_cold();
  ArgsReader args(b_, args_layout_);
  LoopFrame frame(b_, args, step_, l_.inner());
  Value* rows = b_.i64(1);
  for (int axis : l_.axes.rows) rows = b_.mul(rows, frame.extent(axis));
  Value *n = frame.extent(l_.axes.column), *k = frame.extent(l_.axes.depth);
  Value* blocks = b_.ceil_div(n, l_.block_n);
  Value *a = scratch(l_.a_at), *c = scratch(l_.c_at), *panel = scratch(l_.b_at), *stage = scratch(l_.stage_at);
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* item) {
    Value* outer = b_.ir.CreateUDiv(item, blocks);
    Value* column = b_.mul(b_.sub(item, b_.mul(outer, blocks)), b_.i64(l_.block_n));
    Value* columns = b_.min(b_.sub(n, column), b_.i64(l_.block_n));
    frame.decode(outer);
    b_.loop(b_.i64(0), b_.mul(rows, b_.i64(l_.ldc)), l_.lanes,
            [&](Value* i) { b_.store_vector(l_.dtype, b_.constant(l_.dtype, 0, l_.lanes), at(c, i)); });
    LoopFrame::Place along_k{}, along_n{};
    Value* in_place = b_.ir.getFalse();
    if (direct_) {
      frame.set(l_.axes.depth, b_.i64(0));
      along_n = frame.place(*weights_, l_.axes.column);
      frame.set(l_.axes.column, b_.i64(0));
      along_k = frame.place(*weights_, l_.axes.depth);
      in_place = b_.ir.CreateICmpEQ(l_.transpose_b ? along_k.stride : along_n.stride, b_.i64(1));
    }
    b_.loop(b_.i64(0), k, l_.block_k, [&](Value* k0) {
      Value* depth = b_.min(b_.sub(k, k0), b_.i64(l_.block_k));
      packer_.pack_rows(outer, rows, k0, depth, a);
      auto through_panels = [&] {
        b_.loop(b_.i64(0), columns, l_.nr(), [&](Value* j) {
          Value* width = b_.min(b_.sub(columns, j), b_.i64(l_.nr()));
          packer_.pack_panel(outer, b_.add(column, j), k0, depth, stage, panel);
          b_.ir.CreateCall(packed_, {panel, b_.i64(l_.nr()), a, depth, at(c, j), width, rows});
        });
        return Values{};
      };
      if (!direct_) {
        through_panels();
        return;
      }
      b_.branch(
          in_place,
          [&] {
            Value* offset = b_.add(b_.mul(k0, along_k.stride), b_.mul(column, along_n.stride));
            Value* w = b_.element_pointer(type_, along_k.pointer, offset);
            Value* stride = l_.transpose_b ? along_n.stride : along_k.stride;
            b_.ir.CreateCall(direct_, {w, stride, a, depth, c, columns, rows});
            return Values{};
          },
          through_panels);
    });
    packer_.store(outer, b_.i64(0), rows, column, columns, c);
  });
  b_.ret();
}

}  // namespace

LaunchInfo emit_matvec(LlvmBuilder& builder, const LoopStep& step, const CpuSchedule& schedule,
                       const std::string& prefix) {
  const MatmulLayout layout(step, schedule);
  MatvecEmitter emitter(builder, step, layout, prefix);
  LaunchInfo launch;
  launch.schedule = schedule;
  launch.phases.push_back(
      {prefix + "_main", item_count(step, layout.axes.outer, {{{layout.axes.column}, layout.block_n}}), false});
  emitter.kernel(launch.phases[0].symbol);
  launch.scratch_bytes = layout.scratch_elements * layout.element;
  launch.workspace_bytes.set_root(launch.workspace_bytes.constant_int(0, DType::i64));
  launch.packed_bytes = launch.workspace_bytes;
  return launch;
}

}  // namespace tilewright::cpu
