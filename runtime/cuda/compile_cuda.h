// CUDA C++ text → cubin, through NVRTC. Needs no GPU. Safe from several threads at once.
#pragma once

#include <string>
#include <vector>

#include "codegen/cuda/cuda_source.h"
#include "runtime/cuda/nvrtc.h"

namespace tilewright {

struct CudaBinary {
  std::string architecture;  ///< "sm_90a"
  std::string cubin;         ///< an ELF file
  std::string ptx;
  std::string log;          ///< of NVRTC and ptxas, with what the latter says of registers and spills
  double milliseconds = 0;  ///< text to cubin, loading of NVRTC left out
  bool from_disk = false;   ///< made by an earlier process
};

/// Text longer than this is refused: generated kernels have some ten thousands.
inline constexpr size_t kLargestCudaText = size_t{4} << 20;

/// Errors: an architecture that this NVRTC does not know, a text that is too long or that it does not take (the first
/// complaint is named).
Result<CudaBinary> compile_cuda_text(const std::string& text, const CudaTarget& target, const Nvrtc& compiler);
/// The same with this process's NVRTC; none is an error as well.
Result<CudaBinary> compile_cuda(const CudaSource& source, const CudaTarget& target);

}  // namespace tilewright
