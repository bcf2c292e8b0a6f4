#include "runtime/tier/row_program.h"

#include <algorithm>

namespace tilewright::tier {

PlacedRow::PlacedRow(const RowProgram& row, DType, const std::vector<SpecTensor>& tensors, const ArgsLayout& layout,
                     ScratchLayout& scratch) {
  const auto place = [&](ExprId root) {
    return PlacedProgram(LaneProgram(row.values, {root}, Axis::d, tensors, layout), scratch);
  };
  for (const RowSum& sum : row.sums) sums_.push_back({place(sum.value), 0, 1, sum.count});
  for (const RowPiece& piece : row.pieces)
    pieces_.push_back({place(piece.value), piece.begin, piece.step, piece.count});
  products_at_ = scratch.place(kMaxRowSums * kRegisterBytes);
}

void PlacedRow::start(const LaneContext& context, const IsaOps& ops, std::byte* scratch) const {
  for (const auto* parts : {&sums_, &pieces_})
    for (const Part& part : *parts) part.program.evaluator(ops, scratch).start(context);
}

template <class T>
void PlacedRow::evaluate(LaneContext context, const IsaOps& ops, std::byte* scratch, T* to) const {
  const auto each = [&](const Part& part, const auto& take) {
    const LaneEvaluator lane = part.program.evaluator(ops, scratch);
    lane.row(context);
    for (int64_t first = 0; first < part.count; first += kLanes) {
      context.first = first;
      context.active = std::min(kLanes, part.count - first);
      lane.lanes(context);
      take(lane.root<T>(), first, context.active);
    }
  };
  for (size_t i = 0; i < kMaxRowSums; ++i)
    context.products[i] = scratch + products_at_ + static_cast<int64_t>(i) * kRegisterBytes;
  for (size_t i = 0; i < sums_.size(); ++i) {
    std::array<T, kLanes> partial{};
    each(sums_[i], [&](const T* values, int64_t, int64_t count) {
      for (int64_t lane = 0; lane < count; ++lane) partial[static_cast<size_t>(lane)] += values[lane];
    });
    T sum = 0;
    for (const T part : partial) sum += part;
    auto* product = reinterpret_cast<T*>(scratch + products_at_ + static_cast<int64_t>(i) * kRegisterBytes);
    std::fill(product, product + kLanes, sum);
  }
  for (const Part& piece : pieces_)
    each(piece, [&](const T* values, int64_t first, int64_t count) {
      T* out = to + piece.begin + first * piece.step;
      for (int64_t lane = 0; lane < count; ++lane) out[lane * piece.step] = values[lane];
    });
}

template void PlacedRow::evaluate(LaneContext, const IsaOps&, std::byte*, float*) const;
template void PlacedRow::evaluate(LaneContext, const IsaOps&, std::byte*, double*) const;

}  // namespace tilewright::tier
