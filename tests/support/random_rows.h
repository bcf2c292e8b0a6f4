// What models do to rows of Q and K before the product: rotations and norms in their spellings.
#pragma once

#include "tests/support/random_parts.h"

namespace tilewright::testing {

/// x, or x normalised, rotated or both; x is [B, H, S, D]. Three of four are left as they are. `dice` is not that of
/// the parts, so that graphs of older seeds keep their other choices.
ValueId random_rows(RandomParts& parts, const std::string& name, ValueId x, std::mt19937_64& dice);

}  // namespace tilewright::testing
