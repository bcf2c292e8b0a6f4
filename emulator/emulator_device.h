// EmulatorDevice: GPU kernels executed on the CPU, behind the same interface as the driver's device.
#pragma once

#include "emulator/module.h"
#include "runtime/cuda/cuda_device.h"

namespace tilewright {

/// What the driver encodes for a GPU.
Result<EmulatedTensorMap> encode_tensor_map(const TensorMapView& view);

/// Kernels read and write the host's memory; launches have ended when they return, streams mean nothing.
class EmulatorDevice final : public CudaDevice {
 public:
  /// `options` are those of every launch.
  explicit EmulatorDevice(const CudaTarget& target, EmulatorOptions options = {}, EmulatedBuildOptions build = {})
      : target_(target), options_(std::move(options)), build_(std::move(build)) {}

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
  EmulatorOptions options_;
  EmulatedBuildOptions build_;
};

}  // namespace tilewright
