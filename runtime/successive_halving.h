// Successive halving: a race in rounds, the slower half of which ends each. Knows nothing of kernels or clocks.
//
// Every repeat measures each candidate that is still in the race once, in an order that rotates, so that all of them
// see the same machine. Candidate 0 is the default: it stays to the end, and nobody beats it by less than the noise.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

namespace tilewright {

/// Seconds of one run right after another of the same candidate, and of one after the caches were flushed.
struct WarmCold {
  double warm = 0, cold = 0;
};

struct HalvingOptions {
  int finalists = 4;          ///< the last round begins with at most so many, the default among them
  int first_repeats = 3;      ///< of the first round; each later one has twice as many
  int final_repeats = 24;     ///< of the last round at most
  double least_noise = 0.01;  ///< relative differences below this are none, however steady the clock
  /// Seconds until the race must be over; asked before each measurement.
  std::function<double()> seconds_left;
  /// Called after each measurement: the round, from 1, and how many are still in the race.
  std::function<void(int round, size_t left)> progress;
};

struct HalvingResult {
  size_t winner = 0;
  double noise = 0;                            ///< relative: what the winner has to be faster by
  std::vector<std::vector<WarmCold>> samples;  ///< per candidate, in the order of measuring
  std::vector<int> rounds;                     ///< per candidate, how many it ran in
  bool tied = false;                           ///< somebody was faster than the default, but not by more than the noise
  bool out_of_time = false;
};

/// Races `count` candidates. `measure` gives nothing for a candidate that cannot be run any more: it is out.
HalvingResult race(size_t count, const std::function<std::optional<WarmCold>(size_t candidate)>& measure,
                   const HalvingOptions& options);

/// The middle one; of two middle ones their mean. 0 of none.
double median(std::vector<double> values);
/// What candidates are compared by: the mean of the medians of their warm and their cold runs; 0 of none.
double score(const std::vector<WarmCold>& samples);

}  // namespace tilewright
