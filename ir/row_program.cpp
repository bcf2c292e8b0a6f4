#include "ir/row_program.h"

namespace tilewright {

std::vector<ExprId*> roots(RowProgram& row) {
  std::vector<ExprId*> out;
  for (RowSum& sum : row.sums) out.push_back(&sum.value);
  for (RowPiece& piece : row.pieces) out.push_back(&piece.value);
  return out;
}

std::vector<ExprId> roots(const RowProgram& row) {
  std::vector<ExprId> out;
  for (const RowSum& sum : row.sums) out.push_back(sum.value);
  for (const RowPiece& piece : row.pieces) out.push_back(piece.value);
  return out;
}

}  // namespace tilewright
