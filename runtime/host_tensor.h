// Tensors for measuring and trying: owned memory, seeded data.
#pragma once

#include <string>
#include <vector>

#include "ir/graph.h"
#include "runtime/aligned_buffer.h"
#include "runtime/engine.h"

namespace tilewright {

struct HostTensor {
  AlignedBuffer buffer;
  TensorView view;
};

/// Contiguous memory, uninitialised. Errors: the size overflows or cannot be allocated.
Result<HostTensor> make_tensor(DType dtype, const std::vector<int64_t>& shape);

/// N(0,1) for floats (rounded to the dtype), the same numbers for any number of threads; other dtypes are not touched.
void fill_gaussian(const TensorView& contiguous, uint64_t seed, Executor& executor);

/// A value in [0, 1), by counter.
double uniform(uint64_t seed, uint64_t counter);

/// Data for every parameter of a graph: floats N(0,1), bools true with probability 0.7, integers in the range that
/// their use asks for (see integer_data.h). Errors: a dim without a size, sizes that do not fit.
Result<std::vector<HostTensor>> make_inputs(const Graph& graph, const DimBindings& dims, uint64_t seed,
                                            Executor& executor);
Result<HostTensor> make_input(const Graph& graph, ValueId param, const DimBindings& dims, uint64_t seed,
                              Executor& executor);
Result<std::vector<HostTensor>> make_outputs(const Kernel& kernel, const DimBindings& dims);

std::vector<TensorView> views(const std::vector<HostTensor>& tensors);

}  // namespace tilewright
