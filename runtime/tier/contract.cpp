// Products outside attention: out[…, m, n] = epilogue(Σ_k value(…, m, k) · value2(…, n, k)). An item is a block of rows
// and columns of one outer index; operands are evaluated along k and copied into tiles of the accumulation type.
//
//   A [block_m, block_k]      B [block_k, block_n]: transposed, lanes run along n      C [block_m, block_n]
#include <algorithm>

#include "compiler/contract_axes.h"
#include "runtime/tier/steps.h"

namespace tilewright::tier {
namespace {

constexpr int64_t kBlockM = 96, kBlockN = 128, kBlockK = 256;

struct ContractPlan {
  ContractPlan(const LoopStep& contract, CpuIsa isa)
      : step(contract), layout(args_layout(step)), ops(&isa_ops(isa)), axes(contract_axes(step)) {
    for (const Dim& extent : step.extents) extents.emplace_back(extent, layout.dims);
    const auto place = [&](const Expr& expr, int vary) {
      return PlacedProgram(LaneProgram(expr, static_cast<Axis>(vary), step.tensors, layout), scratch);
    };
    a = place(accumulated(step.value, step.accumulate), axes.depth);
    b = place(accumulated(step.value2, step.accumulate), axes.depth);
    Expr result = step.epilogue;
    if (result.empty()) result.set_root(result.score(step.accumulate));
    epilogue = place(result, axes.column);
    output = PlacedAccess(step.output, step.tensors, layout, scratch);
    const int64_t element = size_of(step.accumulate);
    a_at = scratch.place(kBlockM * kBlockK * element);
    b_at = scratch.place(kBlockK * kBlockN * element);
    c_at = scratch.place(kBlockM * kBlockN * element);
    rows_at = scratch.place(kTileUnit * kBlockK * element);
  }

  LoopStep step;
  ArgsLayout layout;
  const IsaOps* ops;
  ContractAxes axes;
  ScratchLayout scratch;
  std::vector<DimFormula> extents;
  PlacedProgram a, b, epilogue;
  PlacedAccess output;
  int64_t a_at = 0, b_at = 0, c_at = 0, rows_at = 0;
};

template <class T>
class ContractRun {
 public:
  ContractRun(const ContractPlan& plan, const KernelArgs& args, std::byte* scratch)
      : plan_(plan), tiles_(plan.ops->tiles<T>()), scratch_(scratch), dims_(args.meta, plan.layout.dims.size()) {
    at_.args = &args;
    rows_ = extent(plan.axes.rows);
    columns_ = extent({&plan.axes.column, 1});
    depth_ = extent({&plan.axes.depth, 1});
    for (const PlacedProgram* program : {&plan.a, &plan.b, &plan.epilogue}) evaluator(*program).start(at_);
  }

  /// Row blocks fastest: neighbours share B.
  void item(int64_t number) {
    const int64_t row_blocks = (rows_ + kBlockM - 1) / kBlockM, column_blocks = (columns_ + kBlockN - 1) / kBlockN;
    const int64_t row = number % row_blocks * kBlockM;
    const int64_t column = number / row_blocks % column_blocks * kBlockN;
    decode(plan_.axes.outer, plan_.extents, dims_, number / row_blocks / column_blocks, at_);
    const int64_t rows = std::min(kBlockM, rows_ - row), columns = std::min(kBlockN, columns_ - column);
    const int64_t width = round_up(columns, kLanes);
    T *a = at(plan_.a_at), *b = at(plan_.b_at), *c = at(plan_.c_at);
    if (depth_ == 0) std::fill(c, c + kBlockM * kBlockN, T{0});
    for (int64_t k = 0; k < depth_; k += kBlockK) {
      const int64_t depth = std::min(kBlockK, depth_ - k);
      for (int64_t i = 0; i < rows; ++i) {
        decode(plan_.axes.rows, plan_.extents, dims_, row + i, at_);
        evaluate(plan_.a, k, depth, a + i * kBlockK);
      }
      pack_columns(column, columns, width, k, depth, b);
      tiles_.multiply(rows, width, depth, a, kBlockK, b, kBlockN, c, kBlockN, k > 0);
    }
    store(row, rows, column, columns, c);
  }

 private:
  LaneEvaluator evaluator(const PlacedProgram& program) const { return program.evaluator(*plan_.ops, scratch_); }
  T* at(int64_t offset) const { return reinterpret_cast<T*>(scratch_ + offset); }
  int64_t extent(std::span<const int> axes) const {
    int64_t product = 1;
    for (const int axis : axes) product *= plan_.extents[static_cast<size_t>(axis)].evaluate(dims_);
    return product;
  }

  /// Positions k … k + depth - 1 of an operand at the axes set.
  void evaluate(const PlacedProgram& program, int64_t k, int64_t depth, T* to) {
    const LaneEvaluator lane = evaluator(program);
    lane.row(at_);
    for (int64_t i = 0; i < depth; i += kLanes) {
      at_.first = k + i;
      at_.active = std::min(kLanes, depth - i);
      lane.lanes(at_);
      std::memcpy(to + i, lane.root<T>(), static_cast<size_t>(at_.active) * sizeof(T));
    }
  }

  void pack_columns(int64_t column, int64_t columns, int64_t width, int64_t k, int64_t depth, T* b) {
    T* rows = at(plan_.rows_at);
    for (int64_t first = 0; first < width; first += kTileUnit) {
      for (int64_t i = 0; i < kTileUnit; ++i) {
        T* to = rows + i * kBlockK;
        if (first + i >= columns) {
          std::fill(to, to + depth, T{0});
          continue;
        }
        at_.axes[static_cast<size_t>(plan_.axes.column)] = column + first + i;
        evaluate(plan_.b, k, depth, to);
      }
      for (int64_t d = 0; d < depth; ++d)
        for (int64_t i = 0; i < kTileUnit; ++i) b[d * kBlockN + first + i] = rows[i * kBlockK + d];
    }
  }

  void store(int64_t row, int64_t rows, int64_t column, int64_t columns, const T* c) {
    const LaneEvaluator lane = evaluator(plan_.epilogue);
    const auto axis = static_cast<Axis>(plan_.axes.column);
    for (int64_t i = 0; i < rows; ++i) {
      decode(plan_.axes.rows, plan_.extents, dims_, row + i, at_);
      const Rows output = resolve(plan_.output, at_, *plan_.ops, scratch_, {}, axis);
      lane.row(at_);
      for (int64_t j = 0; j < columns; j += kLanes) {
        at_.first = column + j;
        at_.active = std::min(kLanes, columns - j);
        at_.products[0] = c + i * kBlockN + j;
        lane.lanes(at_);
        std::byte* to = output.base + at_.first * output.dim * size_of(output.dtype);
        store_lanes(output.dtype, to, output.dim, at_.active, plan_.epilogue.program.roots[0].lane,
                    lane.root<std::byte>());
      }
    }
  }

  const ContractPlan& plan_;
  const TileOps<T>& tiles_;
  std::byte* scratch_;
  std::span<const int64_t> dims_;
  LaneContext at_;
  int64_t rows_ = 0, columns_ = 0, depth_ = 0;
};

using ContractKernel = ItemKernel<ContractPlan, ContractRun<float>, ContractRun<double>>;

/// n / size, rounded up.
ExprId blocks(Expr& expr, ExprId n, int64_t size) {
  const ExprId padded = expr.op(Op::add, DType::i64, {n, expr.constant_int(size - 1, DType::i64)});
  return expr.op(Op::div, DType::i64, {padded, expr.constant_int(size, DType::i64)});
}

}  // namespace

TierStep make_contract(const LoopStep& contract, CpuIsa isa) {
  TW_CHECK(is_float(contract.accumulate));
  auto kernel = std::make_shared<const ContractKernel>(contract, isa);
  const ContractAxes& axes = kernel->plan().axes;
  CpuSchedule schedule = tier_schedule(isa, contract.accumulate);
  schedule.block_m = kBlockM;
  schedule.block_n = kBlockN;
  schedule.block_k = kBlockK;
  Expr items = extent_product(contract, axes.outer);
  const ExprId rows = blocks(items, items.import(extent_product(contract, axes.rows)), kBlockM);
  const ExprId columns = blocks(items, items.import(extent_product(contract, {axes.column})), kBlockN);
  items.set_root(items.op(Op::mul, DType::i64, {items.root(), items.op(Op::mul, DType::i64, {rows, columns})}));
  return make_step(std::move(schedule), std::move(items), std::move(kernel));
}

}  // namespace tilewright::tier
