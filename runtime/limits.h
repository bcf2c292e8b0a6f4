// The machine's limits, measured: speeds are reported as shares of these, taken in the same run.
#pragma once

#include <span>

#include "ir/dtype.h"
#include "ir/target.h"
#include "runtime/executor.h"

namespace tilewright {

/// What time is: the wall's, or that which the measuring thread spent on a core. With one worker the two agree on an
/// idle machine, and the latter leaves out what other processes take.
enum class TimeOf : uint8_t { wall, thread };

/// Seconds on the calling thread's clock, from an arbitrary start.
double now(TimeOf clock);

/// GFLOP/s of fused multiply-adds on independent accumulators, all workers of `executor` together, over about
/// `seconds`. dtype is f32 or f64; 0 when the ISA level is not there.
double measure_fma_peak(CpuIsa isa, DType dtype, Executor& executor, double seconds, TimeOf clock = TimeOf::wall);

/// GFLOP/s of bf16 products with f32 sums on AMX tiles, sustained on N(0,1) data in L1, all workers together; 0 when
/// the target has no AMX or the operating system refuses this process tiles. The target is what detect_cpu says.
double measure_amx_peak(const CpuTarget& target, Executor& executor, double seconds, TimeOf clock = TimeOf::wall);

struct MemoryRange {
  const void* data = nullptr;
  int64_t bytes = 0;
};
/// Reads every byte once in wide loads, split over the workers; returns seconds. The floor of anything that must read
/// these buffers.
double time_read(std::span<const MemoryRange> ranges, Executor& executor, TimeOf clock = TimeOf::wall);

}  // namespace tilewright
