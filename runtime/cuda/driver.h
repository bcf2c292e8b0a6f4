// CudaDriver: libcuda, found and loaded when it is first asked for; its errors as sentences.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ir/cuda_target.h"
#include "ir/result.h"
#include "runtime/cuda/driver_api.h"

namespace tilewright {

struct CudaDeviceFacts {
  int ordinal = 0;
  CuDevice handle = 0;
  std::string name;
  CudaTarget target;  ///< with the device's own figures
  int64_t memory_bytes = 0;
};

class CudaDriver {
 public:
  /// The first of `candidates` that opens, initialised. Errors: one sentence that tells a missing driver, the
  /// toolkit's stub, a driver that is too old and a machine without a device apart, and says what to do.
  static Result<CudaDriver> load(std::span<const std::string> candidates);

  const DriverApi& api() const { return api_; }
  /// 1000 · major + 10 · minor of the newest CUDA that it knows.
  int version() const { return version_; }
  const std::string& file() const { return file_; }
  const std::vector<CudaDeviceFacts>& devices() const { return devices_; }

  /// "cuLaunchKernelEx failed: CUDA_ERROR_… (701), too many resources requested for launch": what failed, the driver's
  /// own name and words.
  Diagnostic error(const std::string& what, CuResult result) const;

 private:
  CudaDriver() = default;
  Result<Done> read_devices();
  DriverApi api_;
  int version_ = 0;
  std::string file_;
  std::vector<CudaDeviceFacts> devices_;
};

/// "12.8" of 12080.
std::string cuda_version_text(int version);

/// This process's, loaded by the first call.
const Result<CudaDriver>& cuda_driver();

}  // namespace tilewright
