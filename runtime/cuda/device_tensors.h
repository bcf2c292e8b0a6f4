// DeviceTensors: copies of host tensors on a device.
#pragma once

#include <memory>
#include <vector>

#include "runtime/cuda/cuda_device.h"
#include "runtime/signature.h"

namespace tilewright {

/// Gaps and alignment included; the host's tensors themselves where the device shares its memory.
class DeviceTensors {
 public:
  explicit DeviceTensors(const CudaDevice& device) : device_(device) {}

  /// Errors: no memory, strides beyond 64 bits.
  Result<Done> add(const TensorView& host);
  /// What the host has by now.
  Result<Done> send(size_t i) const;
  Result<Done> copy_back(size_t i) const;
  std::span<const TensorView> views() const { return views_; }

 private:
  std::byte* begin(size_t i) const { return static_cast<std::byte*>(memory_[i].get()) + ranges_[i].begin % kAlignment; }
  int64_t bytes(size_t i) const { return static_cast<int64_t>(ranges_[i].end - ranges_[i].begin); }

  static constexpr uintptr_t kAlignment = 256;
  const CudaDevice& device_;
  std::vector<TensorView> views_;
  std::vector<ByteRange> ranges_;
  std::vector<std::shared_ptr<void>> memory_;
};

}  // namespace tilewright
