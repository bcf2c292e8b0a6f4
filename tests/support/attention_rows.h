// Computed rows for attention cases: the program that a spec gets, and the same in plain loops.
#pragma once

#include "tests/support/attention_case.h"

namespace tilewright::testing {

/// Tensors that computed rows read, by name: `cos` and `sin`, f32 [P, D/2], and `weight`, f32 [D].
struct RowTables {
  int cos = -1, sin = -1, weight = -1;
};
/// Positions shift by this much, so that queries run past the tables' ends, where loads clamp.
constexpr int64_t kRowShift = 2;

RowProgram make_row(Rows rows, const AttentionSpec& spec, const Access& stored, Axis position, int64_t columns,
                    const RowTables& tables);

/// One stored row in place, at its position.
void compute_row(Rows rows, std::vector<double>& row, int64_t position, const AttentionCase& test);

}  // namespace tilewright::testing
