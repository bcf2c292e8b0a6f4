// Timing against a limit: subject and yardstick are measured in turn, so that both see the same machine.
#pragma once

#include <functional>
#include <vector>

namespace tilewright::bench {

/// One measured figure: the middle of its repeats, and how far they lie apart.
struct Figure {
  double median = 0;
  double low = 0, high = 0;  ///< 10th and 90th percentile

  static Figure exactly(double value) { return {value, value, value}; }
  double spread() const;  ///< (high − low) / |median|, 0 where the median is 0
};

struct Series {
  std::vector<double> values;
  double median() const;
  double best() const;    ///< smallest
  double spread() const;  ///< (90th − 10th percentile) / median
  Figure figure(double scale = 1) const;
};

/// of(i) for every repeat i of an interleaved measurement: what is compared within a repeat saw the same machine.
Figure figure_of(size_t repeats, const std::function<double(size_t)>& of);

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
