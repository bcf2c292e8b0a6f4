// The generic templates for GPUs: tiles in shared memory, of any program.
#pragma once

#include "compiler/cuda_schedule.h"
#include "ir/result.h"

namespace tilewright {

/// Error: one sentence that names the integer and the bound that it breaks.
Result<Done> validate_cuda_generic(const TileProgram& program, const CudaSchedule& schedule, const CudaTarget& target);
Result<Done> validate_cuda_backward(const BackwardSpec& spec, const CudaSchedule& schedule, const CudaTarget& target);

}  // namespace tilewright
