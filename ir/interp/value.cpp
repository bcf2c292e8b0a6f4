#include "ir/interp/value.h"

namespace tilewright::interp {

Tables aligned_offsets(const Value& operand, const Grid& grid) {
  Tables tables(grid.size());
  TW_CHECK(operand.grid.size() <= grid.size());
  const size_t missing = grid.size() - operand.grid.size();
  for (size_t axis = 0; axis < grid.size(); ++axis) {
    const auto count = static_cast<size_t>(grid[axis].size());
    if (axis < missing) {
      tables[axis].assign(count, 0);
      continue;
    }
    const std::vector<int64_t>& offsets = operand.offsets[axis - missing];
    const IndexSet& set = operand.grid[axis - missing];
    const bool repeated = operand.shape[axis - missing] == 1;
    tables[axis].resize(count);
    for (size_t i = 0; i < count; ++i)
      tables[axis][i] = offsets[static_cast<size_t>(set.position(repeated ? 0 : grid[axis][static_cast<int64_t>(i)]))];
  }
  return tables;
}

}  // namespace tilewright::interp
