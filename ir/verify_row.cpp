// Checks of the rows that a dot term computes.
#include <algorithm>

#include "ir/verify_space.h"

namespace tilewright {

bool SpaceVerifier::check_operand(std::string_view what, const Access& stored, const std::optional<RowProgram>& row,
                                  uint32_t axes, int64_t columns) {
  const size_t before = errors_.list.size();
  if (row)
    check_row(what, *row, axes | bit(Axis::d), columns);
  else if (check_access(what, stored, axes | bit(Axis::d), columns))
    check_input(what, stored);
  return errors_.list.size() == before;
}

void SpaceVerifier::check_row(std::string_view what, const RowProgram& row, uint32_t axes, int64_t columns) {
  const std::string where = fmt::format("the {} row", what);
  if (!check_nodes(where, row.values)) return;
  check_rounding(where, row.dtype);
  if (columns > kMaxRowColumns) return fail("{} has {} columns, more than {}", where, columns, kMaxRowColumns);
  if (row.sums.size() > kMaxRowSums)
    return fail("{} has {} sums, but at most {} may be", where, row.sums.size(), kMaxRowSums);
  // Sum n may read the sums before it, a piece all of them.
  constexpr uint32_t kReads[] = {0, kDependsOnScore, kDependsOnScore | kDependsOnT};
  const auto check = [&](ExprId value, size_t sums) {
    if (!check_root(where, row.values, value, space_.accumulate, axes | kReads[kMaxRowSums])) return;
    const uint32_t used = dependencies(row.values)[static_cast<size_t>(raw(value))];
    if (used & kReads[kMaxRowSums] & ~kReads[sums])
      fail("{} reads {} before there is such a sum", where, sums == 0 && !(used & kDependsOnT) ? "s" : "t");
  };
  for (size_t i = 0; i < row.sums.size(); ++i) {
    if (row.sums[i].count < 1 || row.sums[i].count > kMaxRowColumns)
      fail("{} sums over {} columns", where, row.sums[i].count);
    check(row.sums[i].value, i);
  }
  for (const RowPiece& piece : row.pieces) check(piece.value, row.sums.size());
  check_pieces(where, row.pieces, columns);
}

void SpaceVerifier::check_rounding(std::string_view what, DType dtype) {
  if (dtype != DType::f32 && compute_type(dtype) == dtype)
    fail("{} may be rounded to {}; f16 and bf16 are what values are rounded to, f32 is for none", what,
         to_string(dtype));
}

void SpaceVerifier::check_pieces(std::string_view where, const std::vector<RowPiece>& pieces, int64_t columns) {
  std::vector<bool> written(static_cast<size_t>(columns), false);
  for (const RowPiece& piece : pieces) {
    const bool small = std::max({piece.begin, piece.step, piece.count}) <= kMaxRowColumns;
    const int64_t last = small ? piece.begin + piece.step * (piece.count - 1) : columns;
    if (piece.begin < 0 || piece.step < 1 || piece.count < 1 || last >= columns)
      return fail("{} writes {} columns from {} on in steps of {}, but there are {}", where, piece.count, piece.begin,
                  piece.step, columns);
    for (int64_t column = piece.begin; column <= last; column += piece.step) {
      if (written[static_cast<size_t>(column)]) return fail("{} writes column {} twice", where, column);
      written[static_cast<size_t>(column)] = true;
    }
  }
  for (int64_t column = 0; column < columns; ++column)
    if (!written[static_cast<size_t>(column)]) return fail("{} does not write column {}", where, column);
}

}  // namespace tilewright
