// Random graphs of all ops with no attention in mind: views, reductions, products, loads, now and then an attention.
#pragma once

#include "ir/graph.h"

namespace tilewright::testing {

/// Twenty steps over f64 parameters; dims N and M, small enough for the oracle at N = 2, M = 3. Three results.
Graph random_program(uint64_t seed);

}  // namespace tilewright::testing
