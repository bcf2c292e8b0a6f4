// Evaluation of one node over a grid, by group of ops. Real is double, or long double for graphs with f64.
#pragma once

#include <vector>

#include "ir/interp/prepare.h"
#include "ir/interp/scalar_ops.h"
#include "ir/interp/value.h"

namespace tilewright::interp {

struct NodeJob {
  const PreparedGraph& prepared;
  const DimBindings& dims;
  ValueId id;
  Grid grid;
  std::vector<const Value*> operands;  ///< null where left out
  bool naive = false;

  const Node& node() const { return prepared.graph[id]; }
  const std::vector<int64_t>& shape() const { return prepared.shapes[static_cast<size_t>(raw(id))]; }
  const Value* operand(size_t k) const { return k < operands.size() ? operands[k] : nullptr; }
  /// Naive arithmetic happens in f32 unless the values are f64.
  bool in_float() const { return naive && operands[0]->dtype != DType::f64; }
};

/// Naive values are rounded to the dtype they are declared with.
template <class Real>
void round_row(const NodeJob& job, Real* row, int64_t count) {
  const DType dtype = job.node().type.dtype;
  if (!job.naive || !is_float(dtype) || dtype == DType::f64) return;
  for (int64_t i = 0; i < count; ++i) row[i] = static_cast<Real>(round_to(dtype, static_cast<double>(row[i])));
}

template <class Real>
Value evaluate_leaf(const NodeJob& job);
template <class Real>
Value evaluate_pointwise(const NodeJob& job);
template <class Real>
Value evaluate_load(const NodeJob& job);
template <class Real>
Value evaluate_scatter(const NodeJob& job);
template <class Real>
Value evaluate_sugar(const NodeJob& job);
template <class Real>
Value evaluate_reduction(const NodeJob& job);
template <class Real>
Value evaluate_matmul(const NodeJob& job);
/// Views share the operand's storage where its elements lie regularly enough.
template <class Real>
Value evaluate_view(const NodeJob& job);
/// The operand itself under another float dtype (a cast that does not round).
Value alias(const NodeJob& job);

}  // namespace tilewright::interp
