#include "runtime/successive_halving.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tilewright {
namespace {

double percentile(std::vector<double> values, double fraction) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(fraction * static_cast<double>(values.size() - 1) + 0.5)];
}

class Race {
 public:
  Race(size_t count, const std::function<std::optional<WarmCold>(size_t)>& measure, const HalvingOptions& options)
      : measure_(measure), options_(options), left_(count) {
    result_.samples.resize(count);
    result_.rounds.resize(count, 0);
    std::iota(left_.begin(), left_.end(), size_t{0});
  }

  HalvingResult run() {
    int repeats = options_.first_repeats;
    for (int round = 1; left_.size() > 1; ++round) {
      const bool final = left_.size() <= static_cast<size_t>(options_.finalists);
      run_round(round, final ? std::max(repeats, options_.final_repeats) : repeats);
      if (final || result_.out_of_time) break;
      halve();
      repeats *= 2;
    }
    decide();
    return std::move(result_);
  }

 private:
  bool in_time() {
    if (!options_.seconds_left || options_.seconds_left() > 0) return true;
    result_.out_of_time = true;
    return false;
  }

  void run_round(int round, int repeats) {
    for (const size_t candidate : left_) result_.rounds[candidate] = round;
    for (int repeat = 0; repeat < repeats && left_.size() > 1; ++repeat) {
      std::vector<size_t> order = left_;
      std::rotate(order.begin(), order.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(repeat) % order.size()),
                  order.end());
      for (const size_t candidate : order) {
        if (!in_time()) return;
        if (const auto sample = measure_(candidate))
          result_.samples[candidate].push_back(*sample);
        else
          std::erase(left_, candidate);
        if (options_.progress) options_.progress(round, left_.size());
      }
    }
  }

  /// The faster half and the default, but no fewer than the finalists.
  void halve() {
    std::vector<size_t> others;
    for (const size_t candidate : left_)
      if (candidate != 0) others.push_back(candidate);
    std::ranges::stable_sort(others, {}, [&](size_t candidate) { return score(result_.samples[candidate]); });
    const size_t keep = std::max(others.size() / 2, static_cast<size_t>(std::max(options_.finalists - 1, 1)));
    others.resize(std::min(others.size(), keep));
    std::ranges::sort(others);
    left_ = {0};
    left_.insert(left_.end(), others.begin(), others.end());
  }

  /// How many times as long as the default, repeat by repeat: what drifts cancels. The last samples of both are of the
  /// same repeats.
  std::vector<double> ratios(size_t candidate) const {
    const auto &own = result_.samples[candidate], &base = result_.samples[0];
    const size_t count = std::min(own.size(), base.size());
    std::vector<double> out;
    for (size_t i = 0; i < count; ++i) {
      const WarmCold &a = own[own.size() - count + i], &b = base[base.size() - count + i];
      out.push_back((a.warm + a.cold) / (b.warm + b.cold));
    }
    return out;
  }

  void decide() {
    result_.noise = options_.least_noise;
    double best = 1;
    size_t fastest = 0;
    for (const size_t candidate : left_) {
      if (candidate == 0) continue;
      const std::vector<double> found = ratios(candidate);
      if (found.empty()) continue;
      const double middle = median(found);
      if (middle < best) {
        best = middle;
        fastest = candidate;
      }
    }
    if (fastest == 0) return;
    // How well a median is known, from the quartiles: 1.57 · IQR / sqrt(n) holds two of them apart at 95 %. Few samples
    // say little of the quartiles.
    const std::vector<double> found = ratios(fastest);
    const auto count = static_cast<double>(found.size());
    const double quartiles = percentile(found, 0.75) - percentile(found, 0.25);
    result_.noise = std::max({options_.least_noise, 1.57 * quartiles / std::sqrt(count), 0.1 / count});
    if (1 - best > result_.noise)
      result_.winner = fastest;
    else
      result_.tied = true;
  }

  const std::function<std::optional<WarmCold>(size_t)>& measure_;
  const HalvingOptions& options_;
  std::vector<size_t> left_;  ///< ascending
  HalvingResult result_;
};

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double score(const std::vector<WarmCold>& samples) {
  std::vector<double> warm, cold;
  for (const WarmCold& sample : samples) {
    warm.push_back(sample.warm);
    cold.push_back(sample.cold);
  }
  return (median(std::move(warm)) + median(std::move(cold))) / 2;
}

HalvingResult race(size_t count, const std::function<std::optional<WarmCold>(size_t)>& measure,
                   const HalvingOptions& options) {
  return Race(count, measure, options).run();
}

}  // namespace tilewright
