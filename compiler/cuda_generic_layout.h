// Where the generic GPU template keeps its tiles in shared memory.
#pragma once

#include <vector>

#include "compiler/cuda_schedule.h"

namespace tilewright {

struct GenericCudaLayout {
  std::vector<int64_t> values;  ///< bytes from the base, by value of the program; -1 for those of `merge` alone
  int64_t queries = 0, keys = 0, value_rows = 0;
  int64_t head_dim = 0;  ///< Σ over the dot terms
  int64_t bytes = 0;
};
GenericCudaLayout generic_cuda_layout(const TileProgram& program, const CudaSchedule& schedule);

/// Columns of a value's tile.
int64_t tile_columns(const TileProgram& program, const CudaSchedule& schedule, TileShape shape);

}  // namespace tilewright
