#include "codegen/cpu/matmul_layout.h"

#include <algorithm>

#include "codegen/cpu/row_copy.h"

namespace tilewright::cpu {
namespace {
int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/// i64 expressions over dims.
class Sizes {
 public:
  explicit Sizes(const LoopStep& step) : step_(step) {}
  ExprId constant(int64_t value) { return expr_.constant_int(value, DType::i64); }
  ExprId extent(const std::vector<int>& axes) { return expr_.import(tilewright::extent_product(step_, axes)); }
  ExprId op(Op op, ExprId a, ExprId b) { return expr_.op(op, DType::i64, {a, b}); }
  ExprId blocks(ExprId extent, int64_t block) {
    return op(Op::div, op(Op::add, extent, constant(block - 1)), constant(block));
  }
  ExprId rounded(ExprId extent, int64_t unit) { return op(Op::mul, blocks(extent, unit), constant(unit)); }
  Expr take(ExprId root) {
    expr_.set_root(root);
    return expr_.pruned();
  }
  Expr& expr() { return expr_; }

 private:
  const LoopStep& step_;
  Expr expr_;
};

}  // namespace

MatmulLayout::MatmulLayout(const LoopStep& step, const CpuSchedule& s)
    : axes(contract_axes(step)),
      dtype(step.accumulate),
      element(size_of(step.accumulate)),
      lanes(s.lanes),
      tile{s.mr, s.nv},
      k_unroll(s.k_unroll) {
  const int64_t line = 64 / element;
  k_unit = std::max(k_unroll, transpose_step(dtype));
  block_m = round_up(s.block_m, tile.mr);
  block_n = round_up(s.block_n, nr());
  block_k = round_up(s.block_k, std::max(k_unit, lanes));
  lda = block_k + line;
  ldc = block_n + line;
  const bool along_row = innermost(step.value, axes.rows.back()) && !innermost(step.value, axes.depth);
  transpose_a = along_row && axes.rows.size() == 1;
  transpose_b = innermost(step.value2, axes.depth) && !innermost(step.value2, axes.column);

  int64_t at = 0;
  auto take = [&](int64_t count) {
    const int64_t here = at;
    at += round_up(count, line);
    return here;
  };
  stage_width = round_up(std::max(block_m, block_k), lanes) + line;
  a_at = take(round_up(block_m, transpose_step(dtype)) * lda);
  b_at = take(block_k * nr());
  c_at = take(block_m * ldc);
  ones_at = take(round_up(block_m, lanes));
  stage_at = take(transpose_a || transpose_b ? lanes * stage_width : 0);
  scratch_elements = at;
}

std::vector<int> MatmulLayout::inner() const {
  std::vector<int> walked = axes.rows;
  walked.insert(walked.end(), {axes.column, axes.depth});
  return walked;
}

Expr item_count(const LoopStep& step, const std::vector<int>& outer, const std::vector<Blocked>& blocked) {
  Sizes sizes(step);
  ExprId items = sizes.extent(outer);
  for (const auto& [axes, block] : blocked) items = sizes.op(Op::mul, items, sizes.blocks(sizes.extent(axes), block));
  return sizes.take(items);
}

Expr packed_bytes(const LoopStep& step, const MatmulLayout& l) {
  Sizes sizes(step);
  const ExprId depth = sizes.rounded(sizes.extent({l.axes.depth}), l.k_unit);
  const ExprId columns = sizes.rounded(sizes.extent({l.axes.column}), l.nr());
  ExprId bytes = sizes.op(Op::mul, sizes.extent(l.axes.outer), sizes.op(Op::mul, depth, columns));
  bytes = sizes.op(Op::mul, bytes, sizes.constant(l.element));
  const ExprId several =
      sizes.expr().op(Op::gt, DType::boolean, {sizes.extent(l.axes.rows), sizes.constant(l.block_m)});
  return sizes.take(sizes.expr().op(Op::select, DType::i64, {several, bytes, sizes.constant(0)}));
}

}  // namespace tilewright::cpu
