// Families of inputs that show what Gaussian ones hide (field bug R23).
#pragma once

#include <array>
#include <string_view>

#include "tests/support/test_tensor.h"

namespace tilewright::testing {

enum class Family : uint8_t {
  gaussian,
  heavy_tailed,  ///< Student's t with two degrees of freedom
  spiky,         ///< zeros with a rare ±100
  constant,
  huge_logits,     ///< amplitude 100: scores reach ±1e4
  subnormal,       ///< around the smallest normal of the dtype and far below
  correlated_keys  ///< rows that differ by a thousandth
};
inline constexpr std::array kFamilies = {Family::gaussian,       Family::heavy_tailed, Family::spiky,
                                         Family::constant,       Family::huge_logits,  Family::subnormal,
                                         Family::correlated_keys};
std::string_view to_string(Family family);

void fill_family(TestTensor& tensor, Family family, std::mt19937_64& random);

}  // namespace tilewright::testing
