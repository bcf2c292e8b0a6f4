// Random backward specs: every option of the backward cases, and score spaces and sums that no attention has.
#pragma once

#include "tests/support/backward_case.h"

namespace tilewright::testing {

/// Beyond random options: random predicates of b, h, q, kv and captured tensors among what is kept, and captured sums
/// of random weights at random indices, which may leave their tensor. No weight jumps where a score does not, so that
/// rounding stays small.
BackwardCase random_backward_case(uint64_t seed);

}  // namespace tilewright::testing
