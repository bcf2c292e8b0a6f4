// Products of f32 operands as sums of products of bf16 parts. x = x0 + x1 + x2, each part the nearest bf16 of what the
// ones before it left, so that three parts hold all 24 bits of a float in the range below and two hold 16.
//
//   products  parts  terms                                        left out, at most, of Σ|a·b|
//   1         1      a0b0                                         2·2^-8   (nothing where the operands are bf16)
//   3         2      a1b0 + a0b0 + a0b1                           3·2^-16
//   4         2      a1b1 + a1b0 + a0b0 + a0b1                    2·2^-16  (nothing where they are f16)
//   6         3      a2b0 + a1b0 + a0b0 + a0b2 + a0b1 + a1b1      2·2^-24
//
// A sum of n products rounds, besides, in two chains of 16 and once for each 32 of n and each term (amx_tiles.h): see
// split_error_bound. With six products that is less than the n·2^-24 of a plain chain in f32 from n = 32 on, and about
// 0.4 of its mean error.
//
// Small terms come first within a piece of the sum, and neighbours share an operand, so that a tile of either is loaded
// again only when it changes: 8 loads for 12 products of 2×2 tiles, 14 for 24.
#pragma once

#include <cstdint>
#include <span>

namespace tilewright::cpu {

struct SplitTerm {
  int a, b;
};

inline std::span<const SplitTerm> split_terms(int64_t products) {
  static constexpr SplitTerm kOne[] = {{0, 0}};
  static constexpr SplitTerm kThree[] = {{1, 0}, {0, 0}, {0, 1}};
  static constexpr SplitTerm kFour[] = {{1, 1}, {1, 0}, {0, 0}, {0, 1}};
  static constexpr SplitTerm kSix[] = {{2, 0}, {1, 0}, {0, 0}, {0, 2}, {0, 1}, {1, 1}};
  if (products == 1) return kOne;
  if (products == 3) return kThree;
  if (products == 4) return kFour;
  return kSix;
}

inline int64_t split_parts(int64_t products) { return products == 1 ? 1 : products <= 4 ? 2 : 3; }

/// Of Σ|a·b|: the terms that are left out, and what the parts themselves do not hold.
inline double split_left_out(int64_t products) {
  return products == 1 ? 0x1p-7 : products == 3 ? 3 * 0x1p-16 : products == 4 ? 0x1p-15 : 0x1p-23;
}
/// Of Σ|a·b|: the roundings of a sum of n products. All there is where the parts hold the operands.
inline double split_rounding_bound(int64_t products, int64_t n) {
  return static_cast<double>(products * ((n + 31) / 32) + 18) * 0x1.04p-24;
}

/// |computed - exact| <= split_error_bound(products, n) · Σ|a·b| for a sum of n products of operands in range, but for
/// products of parts below the smallest normal, which count as zero: 2^-126 each.
inline double split_error_bound(int64_t products, int64_t n) {
  return 1.01 * split_left_out(products) + split_rounding_bound(products, n);
}

// What may be split: zero, or a magnitude in [2^-103, 2^58). Below, the last part would be subnormal, which tiles
// flush; above, a sum of up to 2^9 products of parts could overflow where that of the whole operands does not.
// Infinities and NaN are outside.
inline constexpr uint32_t kSmallestSplit = uint32_t{127 - 103} << 23, kSplitEnd = uint32_t{127 + 58} << 23;
// Weights that a backward pass computes reach down to zero beside any others, so that of those the largest of a strip
// counts: all are zero, or it is in [2^-64, 2^58). What smaller ones lose, 2^-126 each, is then 2^-62 of it at most.
inline constexpr uint32_t kSmallestLargest = uint32_t{127 - 64} << 23;

}  // namespace tilewright::cpu
