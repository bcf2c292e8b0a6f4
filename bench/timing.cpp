#include "bench/timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace tilewright::bench {
namespace {

double percentile(std::vector<double> values, double fraction) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(fraction * static_cast<double>(values.size() - 1) + 0.5)];
}

}  // namespace

double Figure::spread() const { return median == 0 ? 0 : (high - low) / std::abs(median); }

double Series::median() const { return percentile(values, 0.5); }
double Series::best() const { return percentile(values, 0); }
double Series::spread() const {
  const double middle = median();
  return middle == 0 ? 0 : (percentile(values, 0.9) - percentile(values, 0.1)) / middle;
}

Figure Series::figure(double scale) const {
  return {scale * percentile(values, 0.5), scale * percentile(values, 0.1), scale * percentile(values, 0.9)};
}

Figure figure_of(size_t repeats, const std::function<double(size_t)>& of) {
  Series series;
  for (size_t i = 0; i < repeats; ++i) series.values.push_back(of(i));
  return series.figure();
}

std::vector<Series> measure_interleaved(const std::vector<std::function<double()>>& tasks, const TimingBudget& budget) {
  std::vector<Series> series(tasks.size());
  double spent = 0;
  for (int repeat = 0; repeat < budget.at_most && (repeat < budget.at_least || spent < budget.seconds); ++repeat)
    spent += seconds_of([&] {
      for (size_t i = 0; i < tasks.size(); ++i) series[i].values.push_back(tasks[i]());
    });
  return series;
}

double seconds_of(const std::function<void()>& task) {
  const auto start = std::chrono::steady_clock::now();
  task();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace tilewright::bench
