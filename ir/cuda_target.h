// CudaTarget: facts of NVIDIA GPUs as data, by architecture. Nothing here touches a machine; a driver that is present
// replaces the figures of its device.
// Source: CUDA C++ Programming Guide, "Compute Capabilities".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tilewright {

struct CudaTarget {
  int capability = 80;                 ///< 10 · major + minor: 80, 86, 89, 90, 100, 120
  bool architecture_specific = false;  ///< sm_90a: wgmma and setmaxnreg; code for no other capability
  int multiprocessors = 108;
  int64_t shared_bytes_per_block = 163 << 10;           ///< dynamic shared memory that one block may opt in to
  int64_t shared_bytes_per_multiprocessor = 164 << 10;  ///< of it the driver keeps 1 KiB per block
  int64_t registers_per_multiprocessor = 64 << 10;      ///< of 32 bits
  int64_t l2_bytes = 40 << 20;
  int64_t threads_per_multiprocessor = 2048;
  int64_t blocks_per_multiprocessor = 32;

  /// "sm_80", "sm_90a": what NVRTC's --gpu-architecture takes.
  std::string architecture() const;
  bool has_wgmma() const { return capability == 90 && architecture_specific; }
  friend bool operator==(const CudaTarget&, const CudaTarget&) = default;
};

/// Every architecture that kernels are generated for, ascending.
std::span<const CudaTarget> cuda_targets();
/// "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"; nothing for any other text.
std::optional<CudaTarget> parse_cuda_target(std::string_view architecture);

}  // namespace tilewright
