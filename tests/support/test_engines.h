// Engines of every instruction set that this machine runs, for tests that try them all.
#pragma once

#include <vector>

#include "runtime/engine.h"

namespace tilewright::testing {

/// Best first: native tiles, AVX-512, AVX2, and at the end emulated tiles.
std::vector<Engine> engines_of_every_isa(int threads);

}  // namespace tilewright::testing
