// The search behind Engine::tune.
#pragma once

#include "runtime/kernel.h"
#include "runtime/tuner.h"
#include "runtime/tuning_store.h"

namespace tilewright {

/// A budget and a number of candidates that a search can be made with.
Result<Done> check(const TuneOptions& options);

struct TuneRequest {
  std::shared_ptr<const Kernel::State> rules;  ///< the graph, compiled by the rules
  const CpuTarget& target;
  const DimBindings& dims;
  const TuneOptions& options;
  TuningStore* store;  ///< null = the result is kept nowhere
};
Result<TuneResult> tune_graph(const TuneRequest& request);

}  // namespace tilewright
