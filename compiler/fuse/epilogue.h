// Pointwise work on the result of a product that the product's own step does while it stores.
#pragma once

#include <optional>

#include "compiler/fuse/tracer.h"

namespace tilewright::fusion {

struct Epilogue {
  ValueId contract = kNoValue;  ///< the product
  ValueId output = kNoValue;    ///< what its step writes instead
  std::vector<bool> members;    ///< by value: computed on the way, and nowhere else
};

/// The farthest value that pointwise ops of the product's own shape make of it while nothing else reads what lies
/// between (activations read it several times). By value: `claimed` ones are computed by other steps, `read` ones must
/// be in memory for one.
std::optional<Epilogue> find_epilogue(const GraphFacts& facts, ValueId contract, const std::vector<bool>& claimed,
                                      const std::vector<bool>& read);

}  // namespace tilewright::fusion
