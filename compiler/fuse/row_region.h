// What of the graph between an operand and memory a computed row may absorb.
#pragma once

#include "compiler/fuse/tracer.h"

namespace tilewright::fusion {

struct RowRegion {
  std::vector<bool> absorbed;   ///< by value: computed with the row
  std::vector<bool> in_memory;  ///< by value: computed by a step, although a tracer could inline it
  bool has_work = false;        ///< more than views and loads is absorbed
  ValueId shared = kNoValue;    ///< part of a rotation or norm that would be absorbed, but `other` reads it, too
  ValueId other = kNoValue;     ///< kNoValue: `shared` is a result
};

/// From the last value of `path`, the operand's root, back to memory. `path` leads there from the product's operand;
/// nothing else may read what lies on it.
RowRegion find_row_region(const GraphFacts& facts, ValueId product, const std::vector<ValueId>& path);

}  // namespace tilewright::fusion
