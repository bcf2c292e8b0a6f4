// Timing against a limit: subject and yardstick are measured in turn, so that both see the same machine.
#pragma once

#include <functional>
#include <vector>

namespace tilewright::bench {

struct Series {
  std::vector<double> values;
  double median() const;
  double best() const;    ///< smallest
  double spread() const;  ///< (90th − 10th percentile) / median
};

struct TimingBudget {
  double seconds = 1.0;  ///< stop after this much, but
  int at_least = 3;      ///< not before so many repeats
  int at_most = 1000;
};

/// Calls each of `tasks` in turn, again and again; every task returns its own measure (seconds, GFLOP/s, …).
std::vector<Series> measure_interleaved(const std::vector<std::function<double()>>& tasks, const TimingBudget& budget);

/// Seconds of one call.
double seconds_of(const std::function<void()>& task);

}  // namespace tilewright::bench
