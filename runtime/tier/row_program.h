// Computed rows of Q and K (ir/row_program.h): sums along the row, then its pieces, lanes along the columns.
#pragma once

#include "ir/row_program.h"
#include "runtime/tier/steps.h"

namespace tilewright::tier {

class PlacedRow {
 public:
  PlacedRow(const RowProgram& row, DType accumulate, const std::vector<SpecTensor>& tensors, const ArgsLayout& layout,
            ScratchLayout& scratch);
  void start(const LaneContext& context, const IsaOps& ops, std::byte* scratch) const;
  /// The row at the axes of the context.
  template <class T>
  void evaluate(LaneContext context, const IsaOps& ops, std::byte* scratch, T* to) const;

 private:
  struct Part {
    PlacedProgram program;
    int64_t begin = 0, step = 1, count = 0;
  };
  std::vector<Part> sums_, pieces_;
  int64_t products_at_ = 0;  ///< the sums found so far, on all lanes
};

}  // namespace tilewright::tier
