// What `tilewright tune` measures and prints besides graph files.
#pragma once

#include <string>
#include <vector>

#include "cli/cli.h"
#include "runtime/tuner.h"

namespace tilewright::cli {

/// One shape that the project promises figures for.
struct SuiteShape {
  std::string name;  ///< "f32 h8 d64 S4096 causal"
  Graph graph;
  DimBindings dims;
};
/// Prefill, decode, backward and products whose names contain `filter`.
std::vector<SuiteShape> suite_shapes(const std::string& filter);

/// How rules and tuned schedules compare over many searches: a line each, and what the project promises of them all.
class SuiteTable {
 public:
  void add(const std::string& shape, const TunedStep& step);
  /// The loss of the rules to the tuned choice: worst, mean, mean of the worst third.
  std::string summary() const;
  Json json() const;

 private:
  struct Line {
    std::string name;
    double gain;  ///< tuned over rules, 1 where the rules stay
    double noise, rules_gflops, tuned_gflops;
    std::string schedule;
  };
  std::vector<Line> lines_;
};

}  // namespace tilewright::cli
