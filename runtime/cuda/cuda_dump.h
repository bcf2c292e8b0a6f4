// Dumps of GPU kernels: stages after the emitted text, and the manifest.
#pragma once

#include "runtime/cuda/compile_report.h"
#include "runtime/cuda/cuda_program.h"

namespace tilewright {

/// One choice of one step as NVRTC made it.
struct CompiledCudaChoice {
  size_t step = 0, choice = 0;
  CudaBinary binary;
  CudaCompileReport report;
};

/// Everything that a program may launch, compiled, on several threads. Needs NVRTC and no GPU.
Result<std::vector<CompiledCudaChoice>> compile_choices(const CudaProgram& program);

/// 06_opt….ptx, and 07_machine….sass where nvdisasm is at hand, else 07_machine….census.txt, which says so.
std::vector<StageText> machine_texts(const CudaProgram& program, const std::vector<CompiledCudaChoice>& compiled);

/// JSON text: times, templates and why, refusals, registers, shared memory, occupancy, census. `compiled` may be empty,
/// `note` then says why.
std::string cuda_manifest(const CudaProgram& program, const std::vector<CompiledCudaChoice>& compiled,
                          const std::string& note);

/// The program's texts, those of `compiled` where NVRTC is there, and manifest.json in <directory>/<graph
/// name>-<hash>/; returns that folder.
Result<std::string> write_cuda_dump(const std::string& directory, const CudaProgram& program);

}  // namespace tilewright
