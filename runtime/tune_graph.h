// The search behind Engine::tune.
#pragma once

#include "runtime/kernel.h"
#include "runtime/tuner.h"
#include "runtime/tuning_store.h"

namespace tilewright {

/// A budget and a number of candidates that a search can be made with.
Result<Done> check(const SearchOptions& options);
/// YYYY-MM-DD, UTC.
std::string today();
/// The dims of a decode step beside a prefill: one query. Nothing where q_len is no named dim of its own or keys would
/// vanish with it.
std::optional<DimBindings> one_query(const Step& step, const DimBindings& dims);
/// Why no step of the program has a choice.
std::string nothing_to_tune(const Program& program);
/// Why nothing is measured where a dim of 0 leaves every step without work.
std::string nothing_to_compute(const Program& program, const DimBindings& dims);

struct TuneRequest {
  std::shared_ptr<const Kernel::State> rules;  ///< the graph, compiled by the rules
  const CpuTarget& target;
  const DimBindings& dims;
  const TuneOptions& options;
  TuningStore* store;  ///< null = the result is kept nowhere
};
Result<TuneResult> tune_graph(const TuneRequest& request);

}  // namespace tilewright
