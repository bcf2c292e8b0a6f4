// What a warp does together, and the copies of one thread: shuffles, ldmatrix, mma, cp.async, approximations.
#pragma once

#include <cstdint>

namespace tilewright {

class EmulatedBlock;
void install_collectives(EmulatedBlock& block);

/// Bits of a 16-bit float as f32, exactly.
float bf16_value(uint16_t bits);
float f16_value(uint16_t bits);

}  // namespace tilewright
