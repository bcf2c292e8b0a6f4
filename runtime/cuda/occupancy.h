// How many blocks of a kernel one multiprocessor holds at a time, from facts alone.
// Source: CUDA C++ Programming Guide, "Compute Capabilities"; tests/cuda compares with the toolkit's cuda_occupancy.h.
#pragma once

#include "ir/cuda_target.h"
#include "runtime/cuda/cubin.h"

namespace tilewright {

struct Occupancy {
  int64_t blocks = 0;           ///< per multiprocessor; 0: not one fits
  int64_t warps = 0;            ///< of those blocks
  std::string_view limited_by;  ///< "registers", "shared memory", "threads" or "blocks"
};
Occupancy occupancy(const KernelFacts& facts, int64_t threads, int64_t dynamic_shared, const CudaTarget& target);

}  // namespace tilewright
