// DriverDevice: kernels on a GPU, through the driver API, in one CUDA context.
#pragma once

#include "runtime/cache_writer.h"
#include "runtime/cuda/cuda_device.h"
#include "runtime/cuda/driver.h"

namespace tilewright {

class DriverDevice final : public CudaDevice {
 public:
  /// The context that is current on this thread, as a host that uses CUDA (PyTorch, say) has made it. Errors: no
  /// driver, no current context, a device that no kernels are generated for. `cache_dir`: where cubins are kept between
  /// processes, "" for nowhere. `driver` outlives the device.
  static Result<std::shared_ptr<const DriverDevice>> of_current_context(
      const std::string& cache_dir, const Result<CudaDriver>& driver = cuda_driver());
  /// The primary context of a device, made current on this thread: for programs that use no CUDA themselves.
  static Result<std::shared_ptr<const DriverDevice>> open(int ordinal, const std::string& cache_dir,
                                                          const Result<CudaDriver>& driver = cuda_driver());
  ~DriverDevice() override;

  const CudaTarget& target() const override { return target_; }
  Result<std::shared_ptr<const CudaModule>> load(const CudaSource& source) const override;
  Result<Done> check_stream(void* stream) const override;
  Result<Done> check_memory(const std::string& name, const void* data) const override;
  void* zeros() const override { return zeros_.get(); }
  bool shares_host_memory() const override { return false; }
  Result<std::shared_ptr<void>> allocate(int64_t bytes) const override;
  Result<Done> copy_in(void* device, const void* host, int64_t bytes) const override;
  Result<Done> copy_out(void* host, const void* device, int64_t bytes) const override;

  /// Events of the driver's.
  Result<std::unique_ptr<CudaClock>> make_clock() const override;
  MeasuredWith measured_with() const override;

  const CudaDriver& driver() const { return *driver_; }

 private:
  DriverDevice() = default;
  static Result<std::shared_ptr<const DriverDevice>> create(const CudaDriver& driver, CuContext context, int ordinal,
                                                            bool is_ours, const std::string& cache_dir);

  const CudaDriver* driver_ = nullptr;
  CuContext context_ = nullptr;
  int ordinal_ = 0;
  bool releases_primary_ = false;
  CudaTarget target_;
  std::shared_ptr<void> zeros_;
  std::unique_ptr<CacheWriter> cache_;
};

/// Whose code a device runs: the newest architecture of its generation that kernels are generated for, with the
/// device's own sizes. Errors: none, one sentence.
Result<CudaTarget> code_target(const CudaDeviceFacts& device);

/// What measurements on such a device depend on, with the NVRTC of this process.
MeasuredWith measured_with(const CudaDeviceFacts& device);

}  // namespace tilewright
