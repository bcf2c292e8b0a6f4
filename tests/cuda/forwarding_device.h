// ForwardingDevice: the emulator, for devices of tests that change some of what it does.
#pragma once

#include "emulator/emulator_device.h"

namespace tilewright::testing {

class ForwardingDevice : public CudaDevice {
 public:
  explicit ForwardingDevice(const CudaTarget& target) : emulator_(target) {}

  const CudaTarget& target() const override { return emulator_.target(); }
  Result<std::shared_ptr<const CudaModule>> load(const CudaSource& source) const override {
    auto real = emulator_.load(source);
    if (!real) return real.error();
    return wrap(std::move(*real), source.launch.schedule);
  }
  Result<Done> check_stream(void* stream) const override { return emulator_.check_stream(stream); }
  Result<Done> check_memory(const std::string& name, const void* data) const override {
    return emulator_.check_memory(name, data);
  }
  void* zeros() const override { return emulator_.zeros(); }
  bool shares_host_memory() const override { return true; }
  Result<std::shared_ptr<void>> allocate(int64_t bytes) const override { return emulator_.allocate(bytes); }
  Result<Done> copy_in(void* device, const void* host, int64_t bytes) const override {
    return emulator_.copy_in(device, host, bytes);
  }
  Result<Done> copy_out(void* host, const void* device, int64_t bytes) const override {
    return emulator_.copy_out(host, device, bytes);
  }

 protected:
  /// What stands before the emulator's module.
  virtual std::shared_ptr<const CudaModule> wrap(std::shared_ptr<const CudaModule> real,
                                                 const CudaSchedule& schedule) const = 0;

 private:
  EmulatorDevice emulator_;
};

}  // namespace tilewright::testing
