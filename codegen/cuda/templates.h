// The GPU templates, one file each; generate_cuda chooses by CudaSchedule::kernel.
#pragma once

#include <string>

#include "codegen/cuda/cuda_source.h"

namespace tilewright::cuda {

Result<CudaSource> generate_generic(const TileProgram& program, const CudaSchedule& schedule, const CudaTarget& target,
                                    const std::string& symbol_prefix);
Result<CudaSource> generate_sm80_prefill(const WorkspaceRows& rows, const CudaSchedule& schedule,
                                         const CudaTarget& target, const std::string& symbol_prefix);
Result<CudaSource> generate_sm90_prefill(const WorkspaceRows& rows, const CudaSchedule& schedule,
                                         const CudaTarget& target, const std::string& symbol_prefix);
Result<CudaSource> generate_decode(const WorkspaceRows& rows, const CudaSchedule& schedule, const CudaTarget& target,
                                   const std::string& symbol_prefix);

/// The phase before all others that computes rows, where there are any, its text and its part of the workspace.
void add_row_phase(CudaSource& source, const WorkspaceRows& rows, const std::string& symbol_prefix);

/// "struct Parts { … };": in how many parts operands of mma.sync are multiplied.
std::string write_sm80_parts(const TileProgram& program, const CudaSchedule& schedule);

Result<CudaSource> generate_generic_backward(const BackwardSpec& spec, const CudaSchedule& schedule,
                                             const std::string& symbol_prefix);
Result<CudaSource> generate_loop(const LoopStep& step, const CudaSchedule& schedule, const CudaTarget& target,
                                 const std::string& symbol_prefix);

/// Workspace and phases of kernels that need none.
Expr zero_bytes();

}  // namespace tilewright::cuda
