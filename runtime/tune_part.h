// How much of a shape a race runs. Many candidates, each judged and timed again and again, cannot all run a large shape
// within the budget; but its work items are alike, so some of them stand for all.
//
//   batch            shrinks to 1
//   heads            of an attention: the first few (batch, KV head) pairs alone run, at the lengths asked for, unless
//                    steps before and after it take most of the time
//   lengths          shrink within their class
//   candidates       fewer, where all that is not enough
//
// What wins on a part must win on the whole, too (tune_step.cpp).
#pragma once

#include <functional>

#include "runtime/engine.h"
#include "runtime/tune_step.h"

namespace tilewright {

struct RacePart {
  DimBindings dims;
  WorkSlice slice;
  int candidates = 0;
};

/// What the step costs at other dims, before anything has run.
class StepCost {
 public:
  StepCost(const Program& program, const Step& source, const ScheduledStep& step, const CpuSchedule& rules, int workers)
      : program_(program), source_(source), step_(step), rules_(rules), workers_(workers) {}

  /// Of one run of the step, and of all the others, which run as well whenever it does: six tenths of two FMAs a cycle
  /// at 2.5 GHz.
  double seconds(const DimBindings& dims) const;
  double others(const DimBindings& dims) const;
  /// Named dims that decide how long a run takes: batches, lengths.
  std::vector<std::string> batches() const;
  std::vector<std::string> lengths() const;
  /// Pairs of batch and KV head, whose work items follow each other in every phase; 1 where that does not hold.
  int64_t pairs(const DimBindings& dims) const;

 private:
  const ScoreSpace* space() const;
  double rate() const { return 0.6 * static_cast<double>(4 * rules_.lanes) * 2.5e9 * workers_; }

  const Program& program_;
  const Step& source_;
  const ScheduledStep& step_;
  const CpuSchedule& rules_;
  int workers_;
};

/// The part of step number `step` at `dims` that lets `candidates` run within `seconds`. `same_kernel` says whether
/// smaller dims run the same choice of the plan in the same class.
RacePart choose_part(const StepCost& cost, size_t step, const DimBindings& dims, int candidates, double seconds,
                     int workers, const std::function<bool(const DimBindings&)>& same_kernel);

}  // namespace tilewright
