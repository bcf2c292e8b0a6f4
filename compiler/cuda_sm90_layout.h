// What a schedule of the sm_90a prefill template takes of a multiprocessor, and which of its paths a program goes.
#pragma once

#include "compiler/cuda_schedule.h"
#include "compiler/tensor_map_access.h"

namespace tilewright {

struct Sm90CudaLayout {
  int64_t consumers = 2;  ///< warpgroups of 64 query rows
  int64_t blocks_per_multiprocessor = 1;
  int64_t producer_registers = 40, consumer_registers = 232;
  int64_t sums = 0;  ///< registers of a consumer thread that hold O, S and P
  /// Scores of a thread that are computed in one unrolled body: all, or a few where their expressions load from tables.
  int64_t sums_at_once = 0;
  bool tma_store = false;     ///< O goes through shared memory
  bool clear_values = false;  ///< rows of V that are hidden, or beyond the last, become zeros in shared memory
  bool longest_first = false, persistent = false;
  int64_t bytes = 0;  ///< of shared memory
};
/// `spec` is one that plan_cuda_sm90_prefill takes.
Sm90CudaLayout sm90_cuda_layout(const AttentionSpec& spec, const CudaSchedule& schedule);

}  // namespace tilewright
