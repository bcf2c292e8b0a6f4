// The race, with clocks of its own: who wins, who ties, what ends it. No real time is measured here.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "runtime/successive_halving.h"

namespace tilewright {
namespace {

/// Candidates whose runs take what `true_seconds` says, give or take `noise`, times a drift that all of them share.
class Machine {
 public:
  Machine(std::vector<double> true_seconds, double noise, double drift = 0)
      : true_(std::move(true_seconds)), noise_(noise), drift_(drift), count_(true_.size(), 0) {}

  std::optional<WarmCold> measure(size_t candidate) {
    order_.push_back(candidate);
    ++count_[candidate];
    std::normal_distribution<double> jitter(0, noise_);
    const double slow = 1 + drift_ * clock_;
    clock_ += 1;
    const double warm = true_[candidate] * slow * (1 + std::abs(jitter(random_)));
    return WarmCold{warm, 1.1 * warm};
  }
  HalvingResult race(HalvingOptions options = {}) {
    return tilewright::race(true_.size(), [this](size_t i) { return measure(i); }, options);
  }

  const std::vector<size_t>& order() const { return order_; }
  int count(size_t candidate) const { return count_[candidate]; }
  double clock() const { return clock_; }

 private:
  std::vector<double> true_;
  double noise_, drift_, clock_ = 0;
  std::vector<int> count_;
  std::vector<size_t> order_;
  std::mt19937 random_{7};
};

std::vector<double> field(size_t count, size_t best, double how_much) {
  std::vector<double> seconds(count, 1.0);
  for (size_t i = 1; i < count; ++i) seconds[i] = 1.05 + 0.01 * static_cast<double>(i);
  seconds[best] = how_much;
  return seconds;
}

TEST(SuccessiveHalving, FindsTheFastestUnderNoiseAndDrift) {
  for (const size_t best : {1u, 7u, 18u, 31u})
    for (const double drift : {0.0, 0.002}) {
      Machine machine(field(32, best, 0.8), 0.03, drift);
      EXPECT_EQ(machine.race().winner, best);
    }
}

TEST(SuccessiveHalving, MeasuresTheSlowLessOften) {
  Machine machine(field(32, 5, 0.8), 0.01);
  const HalvingResult result = machine.race();
  EXPECT_GT(machine.count(5), 4 * machine.count(31));
  EXPECT_EQ(machine.count(0), machine.count(5)) << "the default stays to the end";
  EXPECT_EQ(result.rounds[31], 1);
  EXPECT_EQ(result.rounds[5], result.rounds[0]);
  EXPECT_GE(result.rounds[5], 4);
}

TEST(SuccessiveHalving, InterleavesAndRotates) {
  Machine machine({1, 2, 3}, 0);
  HalvingOptions options;
  options.final_repeats = 3;
  machine.race(options);
  EXPECT_EQ(machine.order(), (std::vector<size_t>{0, 1, 2, 1, 2, 0, 2, 0, 1}));
}

TEST(SuccessiveHalving, TiesGoToTheDefault) {
  // Half a percent is under the least noise, and two percent are under a noise of thirty.
  for (const auto& [gain, noise] : {std::pair{0.995, 0.0}, {0.98, 0.3}}) {
    Machine machine({1.0, gain, gain, gain}, noise);
    const HalvingResult result = machine.race();
    EXPECT_EQ(result.winner, 0u) << gain;
    EXPECT_GE(result.noise, 0.01);
  }
  Machine exact({1, 1, 1, 1, 1, 1}, 0);
  const HalvingResult equal = exact.race();
  EXPECT_EQ(equal.winner, 0u);
  EXPECT_FALSE(equal.tied);
  Machine near({1.0, 0.995}, 0);
  EXPECT_TRUE(near.race().tied);
}

TEST(SuccessiveHalving, EndsWithItsTimeAndDecidesByWhatItHas) {
  for (const double seconds : {0.0, 1.0, 5.0, 40.0, 100.0}) {
    Machine machine(field(32, 3, 0.5), 0.01);
    HalvingOptions options;
    options.seconds_left = [&] { return seconds - machine.clock(); };
    const HalvingResult result = machine.race(options);
    EXPECT_TRUE(result.out_of_time);
    EXPECT_LE(machine.clock(), seconds + 1);
    if (seconds < 2) {
      EXPECT_EQ(result.winner, 0u);
    }
    if (seconds >= 40) {
      EXPECT_EQ(result.winner, 3u) << seconds;
    }
  }
}

TEST(SuccessiveHalving, OneLuckySampleIsNoVictory) {
  Machine machine({1.0, 0.95}, 0);
  HalvingOptions options;
  options.seconds_left = [&] { return 2 - machine.clock(); };
  EXPECT_EQ(machine.race(options).winner, 0u);
}

TEST(SuccessiveHalving, WhoCannotRunIsOut) {
  std::map<size_t, int> runs;
  const auto measure = [&](size_t candidate) -> std::optional<WarmCold> {
    if (++runs[candidate] == 2 && candidate == 1) return {};
    return WarmCold{candidate == 1 ? 0.1 : 1.0, 1.0};
  };
  const HalvingResult result = race(4, measure, {});
  EXPECT_EQ(runs[1], 2);
  EXPECT_EQ(result.winner, 0u);
}

TEST(SuccessiveHalving, NobodyElseIsNoRace) {
  Machine machine({1}, 0);
  EXPECT_EQ(machine.race().winner, 0u);
  EXPECT_EQ(machine.count(0), 0);
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
}

}  // namespace
}  // namespace tilewright
