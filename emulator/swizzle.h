// Swizzles of shared memory: XOR of 16-byte chunk numbers with row numbers, by address.
#pragma once

#include <cstdint>

namespace tilewright {

/// `bytes`: 128, 64, 32, or 0 for none. Chunks of 16 bytes stay whole.
constexpr uint32_t swizzled(uint32_t address, uint32_t bytes) {
  const uint32_t chunks = bytes / 16;
  return chunks < 2 ? address : address ^ (((address >> 7) & (chunks - 1)) << 4);
}

}  // namespace tilewright
