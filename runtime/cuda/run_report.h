// What a run on a GPU took: per step the choice that was launched, and why not the ones before it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/cuda/cuda_program.h"

namespace tilewright {

struct CudaStepRun {
  size_t choice = 0;                     ///< of CudaStep::choices
  std::vector<std::string> passed_over;  ///< one sentence for each choice before it
};

/// JSON text: an array of name, fused, template, schedule, because, passed_over and refused, per step.
std::string print_run(const CudaProgram& program, std::span<const CudaStepRun> taken);

}  // namespace tilewright
