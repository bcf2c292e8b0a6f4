// Words that primitives are given and what is computed of them: halves two to a word, products as f32 bits.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "emulator/conformance.h"

namespace tilewright {

using Words = std::vector<uint32_t>;

inline Words random_words(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  Words words(count);
  for (uint32_t& word : words) word = static_cast<uint32_t>(random());
  return words;
}
inline auto random_input(size_t count) {
  return [=](uint32_t seed) { return random_words(count, seed); };
}
inline float as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t as_bits(float value) { return std::bit_cast<uint32_t>(value); }
inline void append_bits(Words& words, double value) {
  const auto bits = std::bit_cast<uint64_t>(value);
  words.insert(words.end(), {static_cast<uint32_t>(bits), static_cast<uint32_t>(bits >> 32)});
}
inline uint16_t half_of(const Words& words, size_t i) { return static_cast<uint16_t>(words[i / 2] >> (16 * (i % 2))); }

/// Floats of every exponent, and those that tests forget.
inline Words float_input(uint32_t seed) {
  Words words = random_words(1024, seed);
  const Words special = {0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x00000001,
                         0x007fffff, 0x00800000, 0x3f800000, 0xbf800000, 0x477fe000, 0x477fefff,
                         0x477ff000, 0x33000000, 0x33000001, 0x387fc000, 0x38800000, 0x3f808000,
                         0x3f818000, 0x7f7fffff, 0x7f7f8000, 0x33800000, 0x34400000, 0x42fe0000};
  std::copy(special.begin(), special.end(), words.begin());
  return words;
}
/// Floats about N(0,1).
inline std::function<Words(uint32_t)> finite_floats(size_t count) {
  return [=](uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    Words words(count);
    for (uint32_t& word : words) word = as_bits(normal(random));
    return words;
  };
}
/// -8 … 8 as bf16 or f16: products and sums of hundreds of them are exact in f32.
inline std::function<Words(uint32_t)> small_integers(size_t halves, bool is_bf16) {
  return [=](uint32_t seed) {
    std::mt19937 random(seed);
    Words words(halves / 2);
    for (size_t i = 0; i < halves; ++i) {
      const auto value = static_cast<float>(static_cast<int>(random() % 17) - 8);
      uint32_t bits = as_bits(value) >> 16;
      if (!is_bf16) {
        const int exponent = static_cast<int>(as_bits(value) >> 23 & 0xff) - 127 + 15;
        bits = value == 0 ? 0
                          : (as_bits(value) >> 31) << 15 | static_cast<uint32_t>(exponent) << 10 |
                                (as_bits(value) >> 13 & 0x3ff);
      }
      words[i / 2] |= bits << (16 * (i % 2));
    }
    return words;
  };
}
/// The value of a small integer, or of any finite 16-bit float.
inline float half_value(const Words& words, size_t i, bool is_bf16) {
  const uint32_t bits = half_of(words, i);
  if (is_bf16) return as_float(bits << 16);
  const float magnitude = (bits >> 10 & 31) == 0 ? std::ldexp(static_cast<float>(bits & 1023), -24)
                                                 : std::ldexp(static_cast<float>(1024 + (bits & 1023)),
                                                              static_cast<int>(bits >> 10 & 31) - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

/// To the nearest multiple of the 16-bit type's last place there, ties to even, through doubles.
inline uint32_t rounded_half(float x, bool is_bf16) {
  if (std::isnan(x)) return 0x7fff;
  const uint32_t sign = as_bits(x) >> 31 << 15;
  const double magnitude = std::fabs(static_cast<double>(x));
  const int bits = is_bf16 ? 8 : 11, lowest = is_bf16 ? -126 : -14, highest = is_bf16 ? 127 : 15;
  if (magnitude == 0) return sign;
  if (std::isinf(x)) return sign | static_cast<uint32_t>(highest - lowest + 2) << (bits - 1);
  const int exponent = std::max(std::ilogb(magnitude), lowest);
  const double place = std::ldexp(1.0, exponent - bits + 1);
  const auto units = static_cast<uint32_t>(std::nearbyint(magnitude / place));
  // A carry out of the units goes into the exponent by itself; beyond the largest it makes infinity.
  uint32_t result = units + (static_cast<uint32_t>(exponent - lowest) << (bits - 1));
  const uint32_t infinity = static_cast<uint32_t>(highest - lowest + 2) << (bits - 1);
  return sign | std::min(result, infinity);
}

/// About N(0,1), as bf16 or f16.
inline std::function<Words(uint32_t)> normal_halves(size_t halves, bool is_bf16) {
  return [=](uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    Words words(halves / 2);
    for (size_t i = 0; i < halves; ++i) words[i / 2] |= rounded_half(normal(random), is_bf16) << (16 * (i % 2));
    return words;
  };
}

/// A [rows][steps] · B [columns][steps]ᵀ, as f32 bits, row-major.
inline Words product(const Words& input, size_t a, size_t rows, size_t b, size_t columns, size_t steps, bool is_bf16) {
  Words words;
  for (size_t m = 0; m < rows; ++m)
    for (size_t n = 0; n < columns; ++n) {
      double sum = 0;
      for (size_t k = 0; k < steps; ++k)
        sum += double{half_value(input, a + m * steps + k, is_bf16)} * half_value(input, b + n * steps + k, is_bf16);
      words.push_back(as_bits(static_cast<float>(sum)));
    }
  return words;
}

/// The cases of level sm90: TMA, mbarriers, wgmma, registers.
void add_hopper_cases(std::vector<ConformanceCase>& all);

}  // namespace tilewright
