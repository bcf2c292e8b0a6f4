// --output NAME=FILE.npy: which tensors a run writes to files.
#pragma once

#include "cli/cli.h"

namespace tilewright::cli {

/// What an --output writes: a result, or an inout parameter as the kernel leaves it.
struct OutputFile {
  bool is_param = false;
  size_t position = 0;  ///< in the results, or in the parameters
  std::string path;
};

/// Errors: a name that is neither a result nor an inout parameter.
Result<std::vector<OutputFile>> find_outputs(const Graph& graph, const std::vector<std::string>& options);

/// After the run, from its tensors on the host.
Result<Done> write_outputs(std::span<const OutputFile> files, std::span<const TensorView> inputs,
                           std::span<const TensorView> results);

}  // namespace tilewright::cli
