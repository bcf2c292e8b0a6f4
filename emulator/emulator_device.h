// EmulatorDevice: GPU kernels executed on the CPU, behind the same interface as the driver's device.
#pragma once

#include <mutex>

#include "emulator/module.h"
#include "runtime/cuda/cuda_device.h"

namespace tilewright {

/// What the driver encodes for a GPU.
Result<EmulatedTensorMap> encode_tensor_map(const TensorMapView& view);

/// What launches are told and what they told. Whoever holds it may change the options between runs.
struct EmulatedExecution {
  EmulatorOptions options;
  EmulatorStatistics statistics;  ///< of the launches so far
  std::mutex telling;             ///< of statistics
};

/// Kernels read and write the host's memory; launches have ended when they return, streams mean nothing.
class EmulatorDevice final : public CudaDevice {
 public:
  EmulatorDevice(const CudaTarget& target, std::shared_ptr<EmulatedExecution> execution,
                 EmulatedBuildOptions build = {})
      : target_(target), execution_(std::move(execution)), build_(std::move(build)) {}
  /// `options` are those of every launch.
  explicit EmulatorDevice(const CudaTarget& target, EmulatorOptions options = {}, EmulatedBuildOptions build = {})
      : EmulatorDevice(target, std::make_shared<EmulatedExecution>(), std::move(build)) {
    execution_->options = std::move(options);
  }

  const CudaTarget& target() const override { return target_; }
  Result<std::shared_ptr<const CudaModule>> load(const CudaSource& source) const override;
  Result<Done> check_stream(void*) const override { return Done{}; }
  Result<Done> check_memory(const std::string&, const void*) const override { return Done{}; }
  void* zeros() const override;
  bool shares_host_memory() const override { return true; }
  Result<std::shared_ptr<void>> allocate(int64_t bytes) const override;
  Result<Done> copy_in(void* device, const void* host, int64_t bytes) const override;
  Result<Done> copy_out(void* host, const void* device, int64_t bytes) const override;
  Result<std::unique_ptr<CudaClock>> make_clock() const override {
    return unsupported("the emulator has no clock: what it takes says nothing of a GPU's time (--target cuda does)");
  }

 private:
  CudaTarget target_;
  std::shared_ptr<EmulatedExecution> execution_;
  EmulatedBuildOptions build_;
};

}  // namespace tilewright
