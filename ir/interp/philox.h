// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011), as dropout uses it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tilewright::interp {

/// Ten rounds over a counter of four words, lowest first.
inline std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = uint64_t{0xD2511F53} * counter[0], second = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(second >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(second),
               static_cast<uint32_t>(first >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(first)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

/// The op random_bits (semantics 13): word kv mod 4 of the block at counter (floor(kv / 4), q, bh, offset), each modulo
/// 2^32, under the key (low word of the seed, high word).
inline int64_t random_bits(int64_t seed, int64_t offset, int64_t bh, int64_t q, int64_t kv) {
  const auto word = [](int64_t value) { return static_cast<uint32_t>(static_cast<uint64_t>(value)); };
  const auto block = philox4x32_10({word(kv >> 2), word(q), word(bh), word(offset)}, {word(seed), word(seed >> 32)});
  return block[static_cast<size_t>(kv & 3)];
}

}  // namespace tilewright::interp
