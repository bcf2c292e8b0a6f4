#include "runtime/cuda/device_tensors.h"

namespace tilewright {

Result<Done> DeviceTensors::add(const TensorView& host) {
  views_.push_back(host);
  ranges_.emplace_back();
  memory_.emplace_back();
  if (host.element_count() == 0 || device_.shares_host_memory()) return Done{};
  ByteRange& range = ranges_.back();
  if (!byte_range(host, range)) return invalid("a tensor's strides reach beyond 64-bit offsets");
  const size_t i = views_.size() - 1;
  auto memory = device_.allocate(bytes(i) + static_cast<int64_t>(range.begin % kAlignment));
  if (!memory) return memory.error();
  memory_.back() = std::move(*memory);
  views_.back().data = begin(i) + (reinterpret_cast<uintptr_t>(host.data) - range.begin);
  return send(i);
}

Result<Done> DeviceTensors::send(size_t i) const {
  if (!memory_[i]) return Done{};
  return device_.copy_in(begin(i), reinterpret_cast<const void*>(ranges_[i].begin), bytes(i));
}

Result<Done> DeviceTensors::copy_back(size_t i) const {
  if (!memory_[i]) return Done{};
  return device_.copy_out(reinterpret_cast<void*>(ranges_[i].begin), begin(i), bytes(i));
}

}  // namespace tilewright
