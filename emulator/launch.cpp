#include "emulator/launch.h"

#include <algorithm>

namespace tilewright {

EmulatedBuffer buffer_of(const TensorView& view, bool writable, std::string name) {
  if (view.element_count() == 0) return {view.data, 0, writable, std::move(name)};
  int64_t first = 0, last = 0;  // in elements, of view.data
  for (size_t axis = 0; axis < static_cast<size_t>(view.rank); ++axis)
    (view.strides[axis] < 0 ? first : last) += (view.shape[axis] - 1) * view.strides[axis];
  const auto size = static_cast<int64_t>(size_of(view.dtype));
  return {static_cast<const std::byte*>(view.data) + first * size, static_cast<size_t>((last - first + 1) * size),
          writable, std::move(name)};
}

EmulatorStatistics& EmulatorStatistics::operator+=(const EmulatorStatistics& other) {
  using Counter = int64_t EmulatorStatistics::*;
  for (const Counter counter :
       {&EmulatorStatistics::blocks, &EmulatorStatistics::switches, &EmulatorStatistics::barriers,
        &EmulatorStatistics::shuffles, &EmulatorStatistics::mma, &EmulatorStatistics::wgmma,
        &EmulatorStatistics::ldmatrix, &EmulatorStatistics::cp_async, &EmulatorStatistics::tma_loads,
        &EmulatorStatistics::tma_stores})
    this->*counter += other.*counter;
  peak_registers = std::max(peak_registers, other.peak_registers);
  for (const auto kind : {&EmulatorStatistics::loads, &EmulatorStatistics::stores, &EmulatorStatistics::matrix_loads}) {
    (this->*kind).accesses += (other.*kind).accesses;
    (this->*kind).passes += (other.*kind).passes;
  }
  return *this;
}

}  // namespace tilewright
