#include "codegen/cpu/matmul_layout.h"

#include <algorithm>

#include "codegen/cpu/row_copy.h"
#include "compiler/schedule.h"

namespace tilewright::cpu {
namespace {
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
  Expr take(ExprId root) {
    expr_.set_root(root);
    return expr_.pruned();
  }

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
  a_in_tiles = s.kernel == CpuTemplate::matmul;
  lda = a_in_tiles ? tile.mr : block_k + line;
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
  a_at = take(a_in_tiles ? block_m * block_k + lanes : block_m * lda);
  b_at = take(block_k * nr());
  c_at = take(block_m * ldc);
  ones_at = take(round_up(block_m, lanes));
  stage_at = take(lanes * stage_width);
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

}  // namespace tilewright::cpu
