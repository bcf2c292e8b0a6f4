// Nvrtc: NVIDIA's run-time compiler, found and loaded when the first GPU kernel is compiled. Versions 12 and 13.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ir/cuda_target.h"
#include "ir/result.h"
#include "runtime/cuda/nvrtc_api.h"

namespace tilewright {

class Nvrtc {
 public:
  /// The first of `candidates` (see nvrtc_candidates) that is NVRTC. Errors: one sentence that says what was looked at
  /// and what to do.
  static Result<Nvrtc> load(std::span<const std::string> candidates);

  const NvrtcApi& api() const { return api_; }
  int major() const { return major_; }
  int minor() const { return minor_; }
  std::string version() const { return fmt::format("{}.{}", major_, minor_); }
  /// The file that it came from, and that of its device functions; "" when those are left to NVRTC to find.
  const std::string& file() const { return file_; }
  const std::string& builtins() const { return builtins_; }
  /// 10 · major + minor, ascending.
  const std::vector<int>& capabilities() const { return capabilities_; }
  /// Errors: one sentence, when this NVRTC has no code generator for the target.
  Result<Done> check(const CudaTarget& target) const;

 private:
  Nvrtc() = default;
  NvrtcApi api_;
  int major_ = 0, minor_ = 0;
  std::string file_, builtins_;
  std::vector<int> capabilities_;
};

/// Where NVRTC may lie, in the order of preference: `cuda_home`, the loader's search path (what the process has loaded
/// already included), the toolkit's usual folder, pip's wheels under each of `python_prefixes`; at each place the newer
/// first. A driver for CUDA 12 loads nothing that NVRTC 13 makes: with `driver_major` 12 every place of NVRTC 12 comes
/// before those of 13.
std::vector<std::string> nvrtc_candidates(const std::string& cuda_home, std::span<const std::string> python_prefixes,
                                          int driver_major = 13);

/// This process's, loaded by the first call.
const Result<Nvrtc>& nvrtc();

}  // namespace tilewright
