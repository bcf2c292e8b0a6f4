// The tuner on a GPU: the search of docs/tuning.md over a CudaDevice, which brings the clock.
//
// A step's legal schedules, the nearest to the rules' first, compile on several threads; each is judged against the
// oracle on fresh outputs before it is timed; successive halving over interleaved warm and cold runs finds the fastest.
// Whoever is not faster than the rules' schedule by more than the noise loses to it.
#pragma once

#include "runtime/cuda/cuda_device.h"
#include "runtime/tuner.h"
#include "runtime/tuning_store.h"

namespace tilewright {

struct CudaTunedCandidate : TunedOutcome {
  CudaSchedule schedule;
};
struct CudaTunedStep : TunedSearch<CudaTunedCandidate> {
  /// How many times as fast as the rules' schedule the chosen one is.
  double speedup() const {
    const double base = rules().seconds(), own = best().seconds();
    return base > 0 && own > 0 ? base / own : 1;
  }
};
struct CudaTuneResult : TunedGraph<CudaTunedStep> {};

/// Searches the legal schedules of every attention and backward pass of the graph at these dims. The result is kept in
/// `store` (null = nowhere) under what the device is measured with, for kernels of the same shape classes. Errors: a
/// device without a clock, nothing to tune, a budget of 0, dims that are missing, rules that are wrong.
Result<CudaTuneResult> tune_cuda(const Graph& graph, const std::shared_ptr<const CudaDevice>& device,
                                 const DimBindings& dims, const SearchOptions& options, TuningStore* store);

}  // namespace tilewright
