// Reductions, softmax and logsumexp along one axis (semantics 5, 6, 12).
#include "ir/interp/evaluate.h"

namespace tilewright::interp {
namespace {

template <class T>
constexpr T kMinusInfinity = -std::numeric_limits<T>::infinity();

/// The operand's elements along the reduced axis, cell by cell: grid of the other axes (this one has size 1) and where
/// each cell's elements begin.
struct Cells {
  explicit Cells(const NodeJob& job) {
    const Value& operand = *job.operands[0];
    axis = static_cast<size_t>(job.node().attributes.axis);
    const bool dropped = job.grid.size() < operand.grid.size();
    grid = job.grid;
    if (dropped)
      grid.insert(grid.begin() + job.node().attributes.axis, IndexSet::range(0, 1));
    else if (grid[axis].size() > 0)
      grid[axis] = IndexSet::range(0, 1);
    length = operand.shape[axis];
    line = operand.offsets[axis];
    bases.resize(grid.size());
    for (size_t i = 0; i < grid.size(); ++i) {
      bases[i].assign(static_cast<size_t>(grid[i].size()), 0);
      for (int64_t k = 0; i != axis && k < grid[i].size(); ++k)
        bases[i][static_cast<size_t>(k)] =
            operand.offsets[i][static_cast<size_t>(operand.grid[i].position(grid[i][k]))];
    }
  }
  Grid grid;
  size_t axis = 0;
  int64_t length = 0;
  std::vector<int64_t> line;
  Tables bases;
};

/// Where the sink of each cell lies: [H] goes with axis rank-3, anything else broadcasts right-aligned.
Tables sink_offsets(const Value& sink, const Cells& cells, const Value& scores) {
  const size_t rank = cells.grid.size();
  const bool per_head =
      sink.shape.size() == 1 && rank >= 3 && cells.axis + 1 == rank && sink.shape[0] == scores.shape[rank - 3];
  if (!per_head) return aligned_offsets(sink, cells.grid);
  Tables tables(rank);
  for (size_t i = 0; i < rank; ++i) {
    tables[i].assign(static_cast<size_t>(cells.grid[i].size()), 0);
    for (int64_t k = 0; i + 3 == rank && k < cells.grid[i].size(); ++k)
      tables[i][static_cast<size_t>(k)] = sink.offsets[0][static_cast<size_t>(cells.grid[i][k])];
  }
  return tables;
}

/// Softmax of one row in T; `out` may be null. Returns the logsumexp. T is float for naive f32 and narrower values.
template <class T, class Real>
Real normalise(const std::vector<Real>& row, const Real* sink, Real* out) {
  T max = kMinusInfinity<T>;
  bool has_nan = false;
  for (Real x : row) {
    has_nan |= std::isnan(x);
    max = std::max(max, static_cast<T>(x));
  }
  if (max == kMinusInfinity<T> && !has_nan) {
    if (out) std::fill(out, out + row.size(), Real{0});
    return sink ? *sink : kMinusInfinity<Real>;
  }
  if (has_nan) max = std::numeric_limits<T>::quiet_NaN();
  if (sink) max = max_propagating_nan(max, static_cast<T>(*sink));
  T sum = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const T e = std::exp(static_cast<T>(row[i]) - max);
    sum += e;
    if (out) out[i] = static_cast<Real>(e);
  }
  if (sink) sum += std::exp(static_cast<T>(*sink) - max);
  if (out)
    for (size_t i = 0; i < row.size(); ++i) out[i] = static_cast<Real>(static_cast<T>(out[i]) / sum);
  return static_cast<Real>(max + std::log(sum));
}

template <class T, class Real>
Real fold(Op op, const std::vector<Real>& row) {
  T sum = 0, low = -kMinusInfinity<T>, high = kMinusInfinity<T>;
  for (Real element : row) {
    const T x = static_cast<T>(element);
    sum += x;
    low = min_propagating_nan(low, x);
    high = max_propagating_nan(high, x);
  }
  switch (op) {
    case Op::reduce_max: return static_cast<Real>(high);
    case Op::reduce_min: return static_cast<Real>(low);
    case Op::reduce_mean: return static_cast<Real>(sum / static_cast<T>(row.size()));
    default: return static_cast<Real>(sum);
  }
}

template <class Real>
Value reduce_reals(const NodeJob& job) {
  Real* out = nullptr;
  Value result = make_dense<Real>(job.grid, job.shape(), job.node().type.dtype, &out);
  const Cells cells(job);
  const bool is_softmax = job.node().op == Op::softmax, is_lse = job.node().op == Op::logsumexp;
  Tables to = result.offsets;
  if (to.size() < cells.grid.size()) to.insert(to.begin() + job.node().attributes.axis, {0});
  std::vector<const Tables*> tables{&cells.bases, &to};
  const Value* sink = job.operand(1);
  Tables sink_tables;
  if (sink) tables.push_back(&(sink_tables = sink_offsets(*sink, cells, *job.operands[0])));
  std::vector<Real> row(static_cast<size_t>(cells.length)), weights(row.size());
  for_each_outer(sizes(cells.grid), 0, tables, [&](const int64_t* bases, const auto&) {
    read_reals(*job.operands[0], bases[0], cells.line.data(), cells.length, row.data());
    Real sink_value = 0;
    const int64_t zero = 0;
    if (sink) read_reals(*sink, bases[2], &zero, 1, &sink_value);
    const Real* extra = sink ? &sink_value : nullptr;
    if (is_softmax) {
      if (job.in_float())
        normalise<float>(row, extra, weights.data());
      else
        normalise<Real>(row, extra, weights.data());
      round_row(job, weights.data(), cells.length);
      const std::vector<int64_t>& line = result.offsets[cells.axis];
      for (size_t i = 0; i < line.size(); ++i) out[bases[1] + line[i]] = weights[i];
    } else {
      Real value = 0;
      if (is_lse)
        value =
            job.in_float() ? normalise<float, Real>(row, extra, nullptr) : normalise<Real, Real>(row, extra, nullptr);
      else
        value = job.in_float() ? fold<float>(job.node().op, row) : fold<Real>(job.node().op, row);
      round_row(job, &value, 1);
      out[bases[1]] = value;
    }
  });
  return result;
}

Value reduce_integers(const NodeJob& job) {
  int64_t* out = nullptr;
  const DType dtype = job.node().type.dtype;
  Value result = make_dense<int64_t>(job.grid, job.shape(), dtype, &out);
  const Cells cells(job);
  const Tables* tables[] = {&cells.bases};
  std::vector<int64_t> row(static_cast<size_t>(cells.length));
  for_each_outer(sizes(cells.grid), 0, tables, [&](const int64_t* bases, const auto&) {
    read_integers(*job.operands[0], bases[0], cells.line.data(), cells.length, row.data());
    int64_t sum = 0, low = max_int(dtype), high = min_int(dtype);
    for (int64_t x : row) {
      sum = wrapping_add(sum, x);
      low = std::min(low, x);
      high = std::max(high, x);
    }
    switch (job.node().op) {
      case Op::reduce_max: *out++ = high; break;
      case Op::reduce_min: *out++ = low; break;
      case Op::reduce_mean: *out++ = wrap(dtype, floor_div(sum, cells.length)); break;
      default: *out++ = wrap(dtype, sum); break;
    }
  });
  return result;
}

}  // namespace

template <class Real>
Value evaluate_reduction(const NodeJob& job) {
  return is_float(job.node().type.dtype) ? reduce_reals<Real>(job) : reduce_integers(job);
}

template Value evaluate_reduction<double>(const NodeJob&);
template Value evaluate_reduction<long double>(const NodeJob&);

}  // namespace tilewright::interp
