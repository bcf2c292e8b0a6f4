// What is known about the nodes of an Expr before any code is emitted: integer ranges, and how a value runs along the
// varying axis.
#pragma once

#include <vector>

#include "ir/expr.h"

namespace tilewright::cpu {

/// Axes and dims are below 2^31.
constexpr int64_t kMaxExtent = (int64_t{1} << 31) - 1;

struct IntRange {
  int64_t low = INT64_MIN, high = INT64_MAX;
  bool fits_i32() const { return low >= INT32_MIN && high <= INT32_MAX; }
};

/// How lanes of a node relate to each other.
enum class LaneForm : uint8_t {
  uniform,    ///< one value for all lanes
  affine,     ///< rest + factor · position, integer, proven not to wrap
  threshold,  ///< position compared with a uniform value, bool
  strided,    ///< load with uniform and affine indices; when they are clamped, one affine one of factor 1
  vector      ///< anything else
};

struct NodeFacts {
  IntRange range;      ///< integer and bool nodes
  bool wraps = false;  ///< the op may leave the declared width
  LaneForm form = LaneForm::uniform;
  int64_t factor = 0;  ///< affine
};

/// `lanes` == 1: everything is uniform.
std::vector<NodeFacts> analyze_nodes(const Expr& expr, int64_t lanes, Axis vary);

}  // namespace tilewright::cpu
