// A model of what a schedule costs, good enough to leave out the ones that cannot win. It orders candidates; the clock
// decides.
//
//   cycles = max(arithmetic, traffic) · imbalance
//
//   arithmetic  issue slots of the micro-kernel's tiles over padded rows, keys and head dims, softmax per score
//   traffic     K and V (or B) per work item from L2, L3 or memory, spills of tiles that outgrow L1 or L2
//   imbalance   whole rounds of work items over the cores
#pragma once

#include <string>
#include <vector>

#include "compiler/schedule_space.h"

namespace tilewright {

struct CostEstimate {
  double cycles = 0;                 ///< of all cores together, until the last one is done
  std::vector<std::string> reasons;  ///< what it is made of, one sentence each
};

/// How long the step takes at these dims by the model. Dims that are not bound count as 1024. `workers` threads.
CostEstimate estimate_cost(const CpuSchedule& schedule, const ScheduledStep& step, const CpuTarget& target,
                           const DimBindings& dims, int workers);

}  // namespace tilewright
