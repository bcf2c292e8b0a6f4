// The search over the schedules of one step: rank, compile, judge, race.
#pragma once

#include "compiler/shape_class.h"
#include "runtime/tune_graph.h"
#include "runtime/tune_scene.h"

namespace tilewright {

/// A step of a compiled graph at certain dims, and the choice of its plan that runs there.
struct StepSearch {
  const TuneRequest& request;
  size_t step = 0, choice = 0;
  DimBindings dims;
  double seconds = 0;  ///< for this search
};

/// What a step's schedules are for; keeps what that refers to.
class SearchSubject {
 public:
  explicit SearchSubject(const Step& step);
  ScheduledStep step() const;

 private:
  const Step& step_;
  std::optional<TileProgram> program_;
};

/// The length that the step's class is a bucket of.
int64_t length_at(const ClassTemplate& kernel, const ScheduledStep& step, const DimBindings& dims);
/// FLOPs before there is any data: masks that read tensors count as keeping all.
double guess_flops(const Program& program, const Step& step, const DimBindings& dims);

/// The candidates of a search, the rules' first, by the model's rank. Fills axes, legal and, in `candidates`, what the
/// model leaves out.
std::vector<TunedCandidate> rank_candidates(const CpuSchedule& rules, const ScheduledStep& step,
                                            const CpuTarget& target, const DimBindings& dims, int workers, int wanted,
                                            TunedStep& out);

Result<TunedStep> search_step(const StepSearch& search);

}  // namespace tilewright
