// The rules of each GPU template, one file each: which programs it takes and with what schedule.
#pragma once

#include <variant>

#include "compiler/cuda_schedule.h"

namespace tilewright {

/// A template's answer to a program.
using CudaOffer = std::variant<CudaPlan::Choice, CudaPlan::Refusal>;

CudaOffer plan_cuda_decode(const TileProgram& program, const CudaTarget& target);
CudaOffer plan_cuda_sm80_prefill(const TileProgram& program, const CudaTarget& target);
CudaOffer plan_cuda_generic(const TileProgram& program, const CudaTarget& target);
CudaOffer plan_cuda_sm90_prefill(const TileProgram& program, const CudaTarget& target);
CudaOffer plan_cuda_backward(const BackwardSpec& spec, const CudaTarget& target);

/// The condition of a choice that runs whenever no earlier one does.
Expr always_cuda();

}  // namespace tilewright
