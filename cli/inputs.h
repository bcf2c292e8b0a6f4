// The tensors of a run: from NumPy files or made, and the dims they give.
#pragma once

#include "cli/cli.h"
#include "runtime/host_tensor.h"

namespace tilewright::cli {

struct RunInputs {
  DimBindings dims;
  DimBindings defaulted;  ///< dims nobody gave
  std::vector<HostTensor> tensors;
};

/// `files` are NAME=FILE options, `dim_options` NAME=SIZE. Errors: names that are no parameter, files that cannot be
/// read or do not fit the parameter's rank or dtype, a dim with two sizes.
Result<RunInputs> gather_inputs(const Graph& graph, const std::vector<std::string>& files,
                                const std::vector<std::string>& dim_options, uint64_t seed, Executor& executor);

}  // namespace tilewright::cli
