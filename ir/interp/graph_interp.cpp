// The graph interpreter: needs go backwards from the wanted elements, then each needed value is computed once.
#include "ir/interp.h"
#include "ir/interp/evaluate.h"
#include "ir/interp/needs.h"

namespace tilewright {

using interp::Grid;
using interp::IndexSet;
using interp::NodeJob;
using interp::PreparedGraph;
using interp::Storage;
using interp::Value;

struct GraphOracle::State {
  PreparedGraph prepared;
  DimBindings dims;
  std::vector<TensorView> params;
};

namespace {

class Evaluation {
 public:
  Evaluation(const PreparedGraph& prepared, const DimBindings& dims, std::span<const TensorView> params,
             const GraphOracle::Options& options)
      : prepared_(prepared), dims_(dims), params_(params), options_(options) {}

  template <class Real>
  std::vector<long double> run(ValueId target, const Grid& wanted) {
    find_needs(target, wanted);
    values_.resize(needs_.size());
    for (size_t i = 0; i < needs_.size(); ++i)
      if (needs_[i]) compute<Real>(ValueId{static_cast<int32_t>(i)});
    return collect<Real>(*values_.back(), wanted);
  }

 private:
  static size_t at(ValueId id) { return static_cast<size_t>(raw(id)); }

  void find_needs(ValueId target, const Grid& wanted) {
    needs_.assign(at(target) + 1, std::nullopt);
    uses_.assign(needs_.size(), 0);
    needs_[at(target)] = wanted;
    uses_[at(target)] = 1;
    for (size_t i = needs_.size(); i-- > 0;) {
      if (!needs_[i]) continue;
      const ValueId id{static_cast<int32_t>(i)};
      needs_[i] = interp::computed_grid(prepared_, id, *needs_[i]);
      const Node& node = prepared_.graph.nodes[i];
      for (size_t k = 0; k < node.operands.size(); ++k) {
        if (node.operands[k] == kNoValue) continue;
        const size_t operand = at(node.operands[k]);
        const Grid grid = interp::needed_of_operand(prepared_, dims_, id, k, *needs_[i]);
        if (!needs_[operand]) needs_[operand] = Grid{};
        interp::unite(*needs_[operand], grid);
        ++uses_[operand];
      }
    }
  }

  Value param_value(ValueId id, const Grid& grid) const {
    size_t position = 0;
    while (prepared_.graph.params[position] != id) ++position;
    const TensorView& view = params_[position];
    Value value;
    value.grid = grid;
    value.shape = prepared_.shapes[at(id)];
    value.dtype = value.memory_dtype = view.dtype;
    value.storage = Storage::memory;
    value.flush_subnormals = options_.flush_subnormals;
    value.data = view.data;
    for (size_t axis = 0; axis < grid.size(); ++axis) {
      value.offsets.emplace_back(static_cast<size_t>(grid[axis].size()));
      for (int64_t i = 0; i < grid[axis].size(); ++i)
        value.offsets[axis][static_cast<size_t>(i)] = grid[axis][i] * view.strides[axis];
    }
    return value;
  }

  template <class Real>
  Value dispatch(const NodeJob& job) const {
    const Node& node = job.node();
    if (node.op == Op::param) return param_value(job.id, job.grid);
    if (node.op == Op::load) return interp::evaluate_load<Real>(job);
    if (node.op == Op::scatter_add) return interp::evaluate_scatter<Real>(job);
    switch (info(node.op).group) {
      case OpGroup::leaf: return interp::evaluate_leaf<Real>(job);
      case OpGroup::pointwise: return interp::evaluate_pointwise<Real>(job);
      case OpGroup::view: return interp::evaluate_view<Real>(job);
      case OpGroup::reduce: return interp::evaluate_reduction<Real>(job);
      case OpGroup::contract: return interp::evaluate_matmul<Real>(job);
      case OpGroup::sugar: return interp::evaluate_sugar<Real>(job);
    }
    return {};
  }

  template <class Real>
  void compute(ValueId id) {
    const Node& node = prepared_.graph[id];
    NodeJob job{prepared_, dims_, id, *needs_[at(id)], {}, options_.precision == Precision::naive};
    for (ValueId operand : node.operands)
      job.operands.push_back(operand == kNoValue ? nullptr : &*values_[at(operand)]);
    values_[at(id)] = dispatch<Real>(job);
    for (ValueId operand : node.operands)
      if (operand != kNoValue && --uses_[at(operand)] == 0) values_[at(operand)].reset();
  }

  template <class Real>
  static std::vector<long double> collect(const Value& value, const Grid& wanted) {
    std::vector<long double> out;
    Grid grid = wanted;
    if (grid.empty()) grid.push_back(IndexSet::range(0, 1));
    const interp::Tables tables = interp::aligned_offsets(value, grid);
    const interp::Tables* pointers[] = {&tables};
    const auto copy = [&](auto reader) {
      interp::for_each_outer(interp::sizes(grid), 1, pointers, [&](const int64_t* bases, const auto&) {
        const auto* row = reader.row(bases[0]);
        out.insert(out.end(), row, row + grid.back().size());
      });
    };
    out.reserve(static_cast<size_t>(interp::element_count(grid)));
    if (is_float(value.dtype))
      copy(interp::RowReader<Real>(value, tables.back()));
    else
      copy(interp::RowReader<int64_t>(value, tables.back()));
    return out;
  }

  const PreparedGraph& prepared_;
  const DimBindings& dims_;
  std::span<const TensorView> params_;
  GraphOracle::Options options_;
  std::vector<std::optional<Grid>> needs_;
  std::vector<int> uses_;
  std::vector<std::optional<Value>> values_;
};

}  // namespace

Result<GraphOracle> GraphOracle::create(const Graph& graph, const DimBindings& dims,
                                        std::span<const TensorView> params) {
  auto prepared = interp::prepare(graph, dims, params);
  if (!prepared) return prepared.error();
  auto state = std::make_shared<State>();
  state->prepared = std::move(*prepared);
  state->dims = dims;
  state->params.assign(params.begin(), params.end());
  return GraphOracle(std::move(state));
}

std::vector<long double> GraphOracle::evaluate(ValueId value, const IndexLists& lists, const Options& options) const {
  Grid wanted;
  for (const std::vector<int64_t>& list : lists) wanted.push_back(IndexSet::of(list));
  TW_CHECK(wanted.size() == shape(value).size());
  Evaluation evaluation(state_->prepared, state_->dims, state_->params, options);
  const bool wide = state_->prepared.holds_f64 && options.precision == Precision::oracle;
  return wide ? evaluation.run<long double>(value, wanted) : evaluation.run<double>(value, wanted);
}

const std::vector<int64_t>& GraphOracle::shape(ValueId value) const {
  return state_->prepared.shapes[static_cast<size_t>(raw(value))];
}

const Graph& GraphOracle::graph() const { return state_->prepared.graph; }

Result<OracleTensor> interpret(const Graph& graph, const DimBindings& dims, std::span<const TensorView> params,
                               size_t result, const std::optional<Box>& box, Precision precision) {
  if (result >= graph.results.size())
    return invalid("graph @{} has {} results, there is no result {}", graph.name, graph.results.size(), result);
  auto oracle = GraphOracle::create(graph, dims, params);
  if (!oracle) return oracle.error();
  const ValueId value = graph.results[result];
  const std::vector<int64_t>& shape = oracle->shape(value);
  OracleTensor out;
  out.box = box.value_or(Box{std::vector<int64_t>(shape.size(), 0), shape});
  if (out.box.begin.size() != shape.size() || out.box.end.size() != shape.size())
    return invalid("the box has rank {}, result {} has rank {}", out.box.begin.size(), result, shape.size());
  IndexLists lists;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    const int64_t begin = out.box.begin[axis], end = out.box.end[axis];
    if (begin < 0 || end < begin || end > shape[axis])
      return invalid("the box [{}, {}) leaves axis {} of size {}", begin, end, axis, shape[axis]);
    std::vector<int64_t>& list = lists.emplace_back();
    for (int64_t i = begin; i < end; ++i) list.push_back(i);
  }
  out.values = oracle->evaluate(value, lists, {precision, false});
  return out;
}

}  // namespace tilewright
