// How much a result's sums add up before they cancel.
#pragma once

#include <optional>

#include "ir/graph.h"

namespace tilewright::interp {

struct Magnitudes {
  Graph graph;
  DType accumulation;  ///< f32 where any of the sums is accumulated in it (semantics 2)
};
/// `graph` is the given one with one more result, as its last: of float result `result` the sum of |terms|, sums and
/// products multiplied out as far as they go. A difference of sums counts with all terms of both; what another op
/// computes (exp, softmax, tanh, …), a parameter and a divisor count with their absolute value. Shape and dtype are the
/// result's. Nothing for a result that is no sum of sums: what it adds up was not rounded before.
std::optional<Magnitudes> with_magnitudes(Graph graph, size_t result);

}  // namespace tilewright::interp
