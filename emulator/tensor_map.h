// What the emulator's tensor memory accelerator reads: a box that moves over a tensor in global memory.
#pragma once

#include <array>
#include <cstdint>

namespace tilewright {

/// In place of a CUtensorMap: 128 bytes, opaque to kernels.
struct alignas(64) EmulatedTensorMap {
  std::array<uint64_t, 16> words{};
};

}  // namespace tilewright
