#include "emulator/emulator_device.h"

#include <cstdlib>
#include <cstring>

namespace tilewright {
namespace {

constexpr int64_t kAlignment = 256;

TensorMapGeometry geometry(const TensorMapView& view) {
  TensorMapGeometry out;
  out.base = view.address;
  out.element_bytes = size_of(view.dtype);
  out.extents.assign(view.sizes.begin(), view.sizes.begin() + view.rank);
  out.stride_bytes.assign(view.byte_strides.begin() + 1, view.byte_strides.begin() + view.rank);
  out.box.assign(view.box.begin(), view.box.begin() + view.rank);
  return out;
}

}  // namespace

Result<EmulatedTensorMap> encode_tensor_map(const TensorMapView& view) { return encode_tensor_map(geometry(view)); }

namespace {

class EmulatorModule final : public CudaModule {
 public:
  EmulatorModule(EmulatedModule module, CudaLaunch launch, std::shared_ptr<EmulatedExecution> execution)
      : module_(std::move(module)), launch_(std::move(launch)), execution_(std::move(execution)) {}

  Result<Done> launch(const CudaKernelCall& call) const override {
    const CudaPhase& phase = launch_.phases[call.phase];
    if (phase.cluster > 1)
      return unsupported("{} launches clusters of {} blocks, and the emulator runs every block by itself", phase.symbol,
                         phase.cluster);
    std::vector<EmulatedTensorMap> maps;
    for (const TensorMapView& view : call.tensor_maps) {
      auto map = encode_tensor_map(view);
      if (!map) return map.error();
      maps.push_back(*map);
    }
    auto done = module_.launch({phase.symbol, call.blocks, phase.threads, phase.shared_bytes, call.args, maps,
                                phase.blocks_per_multiprocessor},
                               execution_->options);
    if (!done) return done.error();
    const std::lock_guard lock(execution_->telling);
    execution_->statistics += *done;
    return Done{};
  }

 private:
  EmulatedModule module_;
  CudaLaunch launch_;
  std::shared_ptr<EmulatedExecution> execution_;
};

}  // namespace

Result<std::shared_ptr<const CudaModule>> EmulatorDevice::load(const CudaSource& source) const {
  auto module = EmulatedModule::build(source, build_);
  if (!module) return module.error();
  return std::shared_ptr<const CudaModule>(
      std::make_shared<EmulatorModule>(std::move(*module), source.launch, execution_));
}

void* EmulatorDevice::zeros() const {
  alignas(kAlignment) static constexpr std::byte kZeros[kAlignment] = {};
  return const_cast<std::byte*>(kZeros);
}

Result<std::shared_ptr<void>> EmulatorDevice::allocate(int64_t bytes) const {
  const int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* memory = std::aligned_alloc(kAlignment, static_cast<size_t>(rounded));
  if (!memory) return Diagnostic{ErrorKind::io, fmt::format("{} bytes cannot be allocated", bytes), {}, 0};
  std::memset(memory, 0xff, static_cast<size_t>(rounded));  // NaN, so that what is read before it is written shows
  return std::shared_ptr<void>(memory, std::free);
}

Result<Done> EmulatorDevice::copy_in(void* device, const void* host, int64_t bytes) const {
  std::memcpy(device, host, static_cast<size_t>(bytes));
  return Done{};
}

Result<Done> EmulatorDevice::copy_out(void* host, const void* device, int64_t bytes) const {
  std::memcpy(host, device, static_cast<size_t>(bytes));
  return Done{};
}

}  // namespace tilewright
