// Views: new offset tables over the operand's storage; concat and irregular reshapes copy.
#include "ir/interp/evaluate.h"
#include "ir/interp/needs.h"

namespace tilewright::interp {
namespace {

/// Offsets of the operand's axis at `wanted` positions of it.
template <class Map>
std::vector<int64_t> offsets_at(const Value& operand, size_t axis, const IndexSet& wanted, Map map) {
  std::vector<int64_t> out(static_cast<size_t>(wanted.size()));
  for (int64_t i = 0; i < wanted.size(); ++i)
    out[static_cast<size_t>(i)] =
        operand.offsets[axis][static_cast<size_t>(operand.grid[axis].position(map(wanted[i])))];
  return out;
}

Value shell(const NodeJob& job) {
  Value result = *job.operands[0];
  result.dtype = job.node().type.dtype;
  result.grid = job.grid;
  result.shape = job.shape();
  result.offsets.assign(job.grid.size(), {});
  return result;
}

template <class T>
Value copy(const NodeJob& job, const Grid& pieces, const Tables& tables) {
  T* out = nullptr;
  Value result = make_dense<T>(job.grid, job.shape(), job.node().type.dtype, &out);
  const Tables* pointers[] = {&tables};
  RowReader<T> reader(*job.operands[0], tables.back());
  const auto length = static_cast<int64_t>(tables.back().size());
  for_each_outer(sizes(pieces), 1, pointers, [&](const int64_t* bases, const auto&) {
    const T* row = reader.row(bases[0]);
    out = std::copy(row, row + length, out);
  });
  return result;
}

/// Offsets of every needed element of one reshape group, in the result's row-major order.
std::vector<int64_t> group_offsets(const NodeJob& job, const ReshapeGroup& group) {
  const Value& operand = *job.operands[0];
  std::vector<int64_t> positions{0};
  for (size_t axis = group.begin; axis < group.end; ++axis) {
    std::vector<int64_t> next;
    for (int64_t position : positions)
      for (int64_t i = 0; i < job.grid[axis].size(); ++i)
        next.push_back(position * job.shape()[axis] + job.grid[axis][i]);
    positions = std::move(next);
  }
  for (int64_t& position : positions) {
    int64_t offset = 0;
    for (size_t axis = group.operand_end; axis-- > group.operand_begin;) {
      const int64_t index = position % operand.shape[axis];
      position /= operand.shape[axis];
      offset += operand.offsets[axis][static_cast<size_t>(operand.grid[axis].position(index))];
    }
    position = offset;
  }
  return positions;
}

/// Writes one table per axis of the group when offset(i, j, …) = f(i) + g(j) + …; false when it is not so.
bool separate(const NodeJob& job, const ReshapeGroup& group, const std::vector<int64_t>& offsets, Value& result) {
  int64_t inner = 1;
  for (size_t axis = group.end; axis-- > group.begin;) {
    auto& table = result.offsets[axis];
    table.resize(static_cast<size_t>(job.grid[axis].size()));
    for (size_t i = 0; i < table.size(); ++i) {
      table[i] = offsets[i * static_cast<size_t>(inner)] - (axis == group.begin ? 0 : offsets[0]);
    }
    inner *= job.grid[axis].size();
  }
  for (size_t flat = 0; flat < offsets.size(); ++flat) {
    size_t rest = flat;
    int64_t sum = 0;
    for (size_t axis = group.end; axis-- > group.begin;) {
      const auto& table = result.offsets[axis];
      sum += table[rest % table.size()];
      rest /= table.size();
    }
    if (sum != offsets[flat]) return false;
  }
  return true;
}

template <class Real>
Value reshape(const NodeJob& job) {
  Value result = shell(job);
  if (element_count(job.grid) == 0) {
    for (size_t axis = 0; axis < job.grid.size(); ++axis)
      result.offsets[axis].assign(static_cast<size_t>(job.grid[axis].size()), 0);
    return result;
  }
  Tables tables;
  Grid pieces;
  bool regular = true;
  int64_t base = 0;  // of operand axes of size 1 that no result axis stands for
  for (const ReshapeGroup& group : reshape_groups(job.operands[0]->shape, job.shape())) {
    std::vector<int64_t> offsets = group_offsets(job, group);
    pieces.push_back(IndexSet::range(0, static_cast<int64_t>(offsets.size())));
    if (group.begin == group.end)
      base += offsets[0];
    else
      regular = separate(job, group, offsets, result) && regular;
    tables.push_back(std::move(offsets));
  }
  if (regular) {
    if (!result.offsets.empty())
      for (int64_t& offset : result.offsets[0]) offset += base;
    if (!result.offsets.empty() || base == 0) return result;
  }
  if (tables.empty()) {
    tables.push_back({0});
    pieces.push_back(IndexSet::range(0, 1));
  }
  return is_float(result.dtype) ? copy<Real>(job, pieces, tables) : copy<int64_t>(job, pieces, tables);
}

template <class T>
Value concatenate(const NodeJob& job) {
  T* out = nullptr;
  Value result = make_dense<T>(job.grid, job.shape(), job.node().type.dtype, &out);
  const auto axis = static_cast<size_t>(job.node().attributes.axis);
  int64_t before = 0;
  for (const Value* part : job.operands) {
    const IndexSet here = job.grid[axis].within(before, before + part->shape[axis]);
    if (here.size() > 0 && element_count(job.grid) > 0) {
      Tables from(job.grid.size()), to = result.offsets;
      Grid grid = job.grid;
      grid[axis] = here;
      for (size_t i = 0; i < grid.size(); ++i) {
        const int64_t shift = i == axis ? before : 0;
        from[i] = offsets_at(*part, i, grid[i], [shift](int64_t index) { return index - shift; });
      }
      to[axis] = offsets_at(result, axis, here, [](int64_t index) { return index; });
      const Tables* pointers[] = {&from, &to};
      RowReader<T> reader(*part, from.back());
      for_each_outer(sizes(grid), 1, pointers, [&](const int64_t* bases, const auto&) {
        const T* row = reader.row(bases[0]);
        for (size_t i = 0; i < to.back().size(); ++i) out[bases[1] + to.back()[i]] = row[i];
      });
    }
    before += part->shape[axis];
  }
  return result;
}

/// First row that an update replaces in one batch, moved so that all new rows fit.
int64_t update_begin(const NodeJob& job, int64_t batch) {
  const auto axis = static_cast<size_t>(job.node().attributes.axis);
  const Value& position = *job.operands[2];
  const int64_t offset = position.offsets.empty() ? 0 : position.offsets[0][static_cast<size_t>(batch)];
  int64_t at = 0;
  read_integers(position, 0, &offset, 1, &at);
  return std::max<int64_t>(0, std::min(at, job.shape()[axis] - job.operands[1]->shape[axis]));
}

template <class T>
Value updated(const NodeJob& job) {
  T* out = nullptr;
  Value result = make_dense<T>(job.grid, job.shape(), job.node().type.dtype, &out);
  const auto axis = static_cast<size_t>(job.node().attributes.axis);
  const Value &before = *job.operands[0], &rows = *job.operands[1];
  std::vector<int64_t> at(job.grid.size(), 0);
  const int64_t count = element_count(job.grid);
  for (int64_t flat = 0; flat < count; ++flat) {
    int64_t rest = flat;
    for (size_t i = at.size(); i-- > 0;) {
      at[i] = job.grid[i][rest % job.grid[i].size()];
      rest /= job.grid[i].size();
    }
    const int64_t begin = update_begin(job, axis > 0 ? at[0] : 0);
    const bool fresh = at[axis] >= begin && at[axis] < begin + rows.shape[axis];
    const Value& source = fresh ? rows : before;
    int64_t offset = 0;
    for (size_t i = 0; i < at.size(); ++i)
      offset +=
          source.offsets[i][static_cast<size_t>(source.grid[i].position(at[i] - (fresh && i == axis ? begin : 0)))];
    const std::vector<int64_t> last{0};
    out[flat] = *RowReader<T>(source, last).row(offset);
  }
  return result;
}

}  // namespace

template <class Real>
Value evaluate_view(const NodeJob& job) {
  const Node& node = job.node();
  const Value& operand = *job.operands[0];
  const auto same = [](int64_t index) { return index; };
  if (node.op == Op::reshape) return reshape<Real>(job);
  if (node.op == Op::concat) return is_float(node.type.dtype) ? concatenate<Real>(job) : concatenate<int64_t>(job);
  if (node.op == Op::update) return is_float(node.type.dtype) ? updated<Real>(job) : updated<int64_t>(job);
  Value result = shell(job);
  if (node.op == Op::broadcast) {
    result.offsets = aligned_offsets(operand, job.grid);
    return result;
  }
  const int64_t begin = node.op == Op::slice ? node.attributes.begin.evaluate(job.dims).value_or(0) : 0;
  for (size_t i = 0; i < job.grid.size(); ++i) {
    if (node.op == Op::transpose)
      result.offsets[i] = offsets_at(operand, static_cast<size_t>(node.attributes.perm[i]), job.grid[i], same);
    else if (node.op == Op::slice && i == static_cast<size_t>(node.attributes.axis))
      result.offsets[i] = offsets_at(operand, i, job.grid[i], [begin](int64_t index) { return index + begin; });
    else if (node.op == Op::repeat_heads && i + 3 == job.grid.size())
      result.offsets[i] = offsets_at(operand, i, job.grid[i], [&node](int64_t h) { return h / node.attributes.times; });
    else
      result.offsets[i] = offsets_at(operand, i, job.grid[i], same);
  }
  return result;
}

template Value evaluate_view<double>(const NodeJob&);
template Value evaluate_view<long double>(const NodeJob&);

}  // namespace tilewright::interp
