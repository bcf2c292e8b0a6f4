// scatter_add: the updates one after another, in row-major order.
#include "ir/interp/evaluate.h"

namespace tilewright::interp {
namespace {

/// Sum is float in naive f32, where every addition rounds.
template <class T, class Sum>
Value scatter(const NodeJob& job) {
  const Value& updates = *job.operands[0];
  T* out = nullptr;
  Value result = make_dense<T>(job.grid, job.shape(), job.node().type.dtype, &out);
  const int64_t count = element_count(job.grid);
  std::fill(out, out + count, T{0});
  Grid grid = updates.grid;
  if (grid.empty()) grid.push_back(IndexSet::range(0, 1));
  std::vector<Tables> tables;
  for (const Value* operand : job.operands) tables.push_back(aligned_offsets(*operand, grid));
  std::vector<const Tables*> pointers;
  for (const Tables& t : tables) pointers.push_back(&t);
  const int64_t length = grid.back().size();
  RowReader<T> values(updates, tables[0].back());
  std::vector<RowReader<int64_t>> indices;
  for (size_t k = 1; k < job.operands.size(); ++k) indices.emplace_back(*job.operands[k], tables[k].back());
  if (count == 0) return result;
  std::vector<int64_t> at(static_cast<size_t>(length));
  for_each_outer(sizes(grid), 1, pointers, [&](const int64_t* bases, const auto&) {
    std::fill(at.begin(), at.end(), 0);
    for (size_t k = 0; k < indices.size(); ++k) {
      const int64_t* row = indices[k].row(bases[k + 1]);
      const int64_t size = job.shape()[k];
      for (int64_t i = 0; i < length; ++i)
        at[static_cast<size_t>(i)] = at[static_cast<size_t>(i)] * size + std::clamp<int64_t>(row[i], 0, size - 1);
    }
    const T* row = values.row(bases[0]);
    for (int64_t i = 0; i < length; ++i) {
      T& sum = out[at[static_cast<size_t>(i)]];
      if constexpr (std::is_same_v<T, int64_t>)
        sum = wrap(job.node().type.dtype, wrapping_add(sum, row[i]));
      else
        sum = static_cast<T>(static_cast<Sum>(sum) + static_cast<Sum>(row[i]));
    }
  });
  return result;
}

}  // namespace

template <class Real>
Value evaluate_scatter(const NodeJob& job) {
  if (!is_float(job.node().type.dtype)) return scatter<int64_t, int64_t>(job);
  return job.in_float() ? scatter<Real, float>(job) : scatter<Real, Real>(job);
}

template Value evaluate_scatter<double>(const NodeJob&);
template Value evaluate_scatter<long double>(const NodeJob&);

}  // namespace tilewright::interp
