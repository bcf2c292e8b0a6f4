// Philox4x32-10's constants, and a block of it for one counter (semantics 13). Generated code spells the rounds over
// lanes (codegen/cpu/expr_emitter_random.cpp).
#pragma once

#include <array>
#include <cstdint>

namespace tilewright {

constexpr int kPhiloxRounds = 10;
constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53, kPhiloxMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kPhiloxKeyStep0 = 0x9E3779B9, kPhiloxKeyStep1 = 0xBB67AE85;

/// Words 0 … 3 of the counter (c0, c1, c2, c3) under the key `seed`.
inline std::array<uint32_t, 4> philox_block(uint64_t seed, std::array<uint32_t, 4> c) {
  auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round, k0 += kPhiloxKeyStep0, k1 += kPhiloxKeyStep1) {
    const uint64_t p0 = uint64_t{kPhiloxMultiplier0} * c[0], p1 = uint64_t{kPhiloxMultiplier1} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
  }
  return c;
}

}  // namespace tilewright
