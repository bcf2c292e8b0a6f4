// What Engine::tune takes and gives, and what it has in common with tuning on a GPU (runtime/cuda/tune_cuda.h).
//
// A step's legal schedules are ranked by the cost model; the best few are compiled, each is checked against the oracle
// on fresh outputs, and successive halving over interleaved warm and cold runs finds the fastest. Whatever is not
// faster than the rules' schedule by more than the noise loses to it.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "compiler/cost_model.h"
#include "runtime/engine.h"

namespace tilewright {

/// What became of a schedule that a search considered.
struct TunedOutcome {
  enum class Fate : uint8_t {
    pruned,   ///< others are likelier to be fast; never compiled
    failed,   ///< it did not compile or run; `why` says so
    wrong,    ///< its outputs are not the oracle's; `why` says where
    dropped,  ///< measured and slower than those that went on
    tied,     ///< within the noise of the rules' schedule, which therefore stays
    chosen
  };
  Fate fate = Fate::pruned;
  std::string why;                 ///< one sentence
  std::vector<double> warm, cold;  ///< seconds of single runs of the step: caches as the last run left them; flushed
  double seconds() const;          ///< what decides: the mean of the two medians; 0 when it was not measured
  double spread() const;           ///< half the distance of the quartiles of the warm runs, relative to their median
};
std::string_view to_string(TunedOutcome::Fate fate);

/// One schedule for a CPU that was compiled, or that the model left out.
struct TunedCandidate : TunedOutcome {
  CpuSchedule schedule;
  CostEstimate cost;
  std::vector<double> whole;  ///< seconds of runs of all that was asked for, where the race ran a part of it
};

/// The search over the schedules of one step at one class of shapes, on any device.
template <class Candidate>
struct TunedSearch {
  std::string name;         ///< of the step
  std::string shape_class;  ///< the key in the database: what shapes the result is for
  DimBindings dims;         ///< what was asked for
  double flops = 0;         ///< of one run that was measured: by the rule of docs/performance-log.md
  int64_t legal = 0;        ///< schedules in the legal space
  /// [0] is the rules' schedule; then by rank. Pruned ones are listed up to a few hundred.
  std::vector<Candidate> candidates;
  size_t chosen = 0;         ///< into candidates; 0 when the rules' schedule stays
  double noise = 0;          ///< relative difference under which two schedules are equal here
  bool out_of_time = false;  ///< the budget ended before the search did

  const Candidate& best() const { return candidates[chosen]; }
  const Candidate& rules() const { return candidates[0]; }
  /// 0 when it was not measured.
  double gflops(const TunedOutcome& candidate) const {
    const double seconds = candidate.seconds();
    return seconds > 0 ? flops / seconds * 1e-9 : 0;
  }
};

/// One step on a CPU.
struct TunedStep : TunedSearch<TunedCandidate> {
  DimBindings measured_at;  ///< smaller dims of the same class where the ones asked for run too long
  WorkSlice slice;          ///< of an attention at those dims: the (batch, KV head) pairs that ran
  int workers = 1;
  double bytes = 0;        ///< operands and results once, of one run of the slice at measured_at
  double whole_flops = 0;  ///< of one run of all that was asked for, where candidates ran that as well
  double fma_peak_gflops = 0, read_gbs = 0;  ///< limits measured between the candidates, all workers together
  double amx_peak_gflops = 0;                ///< of a step that runs on native tiles, likewise; else 0
  std::vector<ScheduleAxis> axes;            ///< the legal space, integer by integer
  std::string assembly;                      ///< of the chosen kernel; empty unless TuneOptions::want_assembly

  /// How many times as fast as the rules' schedule the chosen one is: of all that was asked for, where both ran that.
  double speedup() const;
};

/// The searches of one graph.
template <class Step>
struct TunedGraph {
  std::string graph;
  std::string device;    ///< fingerprint: features, caches, cores
  std::string compiler;  ///< its version and the code generator's
  std::string date;      ///< YYYY-MM-DD
  std::vector<Step> steps;
  std::vector<std::string> notes;  ///< steps with nothing to choose and other things worth a line
  double seconds = 0;              ///< the whole search
  std::string database;            ///< the file that holds the result; empty when none does
  std::string not_saved;           ///< why no file holds it, one sentence
};
struct TuneResult : TunedGraph<TunedStep> {};

/// Where the search stands, after every measurement or so.
struct TuneProgress {
  std::string step, kernel, stage;             ///< "o", "prefill", "round 2"
  int candidates = 0, left = 0;                ///< at the start; still in the race
  double rules_seconds = 0, best_seconds = 0;  ///< 0 when not known yet
  double seconds_left = 0;                     ///< of the budget
};

/// What any search is told.
struct SearchOptions {
  double budget_seconds = 60;  ///< for the whole graph; more than 0
  int candidates = 32;         ///< compiled per step, the rules' own among them; at least 2
  bool twins = true;           ///< a step that decodes as well as prefills is tuned for one query, too
  bool save = true;            ///< in the user's database, when there is one
  std::function<void(const TuneProgress&)> progress;
};

struct TuneOptions : SearchOptions {
  bool want_assembly = false;
  bool for_family = false;  ///< results are kept for every device of device_family()

  /// How a candidate is run; empty means kernel.run. For tests, which plant faults here.
  using Run =
      std::function<Result<Done>(const Kernel& kernel, const CpuSchedule& schedule, std::span<const TensorView> inputs,
                                 std::span<const TensorView> outputs, const RunOptions& options)>;
  Run run;
};

}  // namespace tilewright
