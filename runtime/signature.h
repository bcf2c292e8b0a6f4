// Signature: what a kernel's arguments must be. Everything is checked before any work starts.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "ir/tensor_view.h"
#include "runtime/launch_expr.h"

namespace tilewright {

struct ByteRange {
  uintptr_t begin = 0, end = 0;  ///< empty when equal
};
/// Bytes that a view can touch; false when the distances overflow.
bool byte_range(const TensorView& view, ByteRange& range);

class Signature {
 public:
  /// Of a verified graph.
  explicit Signature(const Graph& graph);

  /// The named dims, sorted; values of dims are listed in this order everywhere in the runtime.
  const std::vector<std::string>& dims() const { return dims_; }
  size_t inputs() const { return param_types_.size(); }
  size_t outputs() const { return result_types_.size(); }
  const std::vector<TensorType>& result_types() const { return result_types_; }

  /// Solves dims from the inputs and checks inputs alone. `values` has dims().size() places. Allocates only on errors.
  Result<Done> bind(std::span<const TensorView> inputs, std::span<int64_t> values) const;
  /// Checks outputs and inout parameters that are written against dims, themselves and the inputs.
  Result<Done> check_outputs(std::span<const TensorView> inputs, std::span<const TensorView> outputs,
                             std::span<const int64_t> values) const;
  bool has_inout() const;
  /// Whether output `output` lies on an inout parameter; arguments have been checked.
  bool aliases_inout(std::span<const TensorView> inputs, const TensorView& output) const;
  /// Values of dims() from a map. Errors: a missing or negative dim, a tensor whose size overflows.
  Result<std::vector<int64_t>> from_bindings(const DimBindings& bindings) const;
  DimBindings to_bindings(std::span<const int64_t> values) const;

  /// Shape of one result; dims have been checked.
  std::vector<int64_t> result_shape(size_t result, std::span<const int64_t> values) const;

 private:
  struct Solution {  // values[dim] = (size of params[param] axis - rest) / coefficient
    size_t dim, param, axis;
    int64_t coefficient;
    DimFormula rest;
  };
  Result<Done> check_written(std::span<const TensorView> inputs) const;
  bool solve(std::span<const TensorView> inputs, std::span<int64_t> values) const;
  Diagnostics explain(std::span<const TensorView> inputs) const;

  std::vector<std::string> dims_;
  std::vector<TensorType> param_types_, result_types_;
  std::vector<std::string> param_names_, result_names_;
  std::vector<bool> inout_;
  std::vector<bool> written_;  ///< inout params that an update writes
  std::vector<std::vector<DimFormula>> param_shapes_, result_shapes_;
  std::vector<Solution> solutions_;
  bool solvable_ = true;
};

}  // namespace tilewright
