// The benchmark's rows: what the project promises, measured as a ratio to a limit of the same run.
#pragma once

#include <functional>
#include <string>

#include "runtime/engine.h"

namespace tilewright::bench {

struct Row {
  std::string group, name;
  std::string measured;  ///< "186.3 GFLOP/s", with its unit
  std::string limit;     ///< "of 239.1 FMA peak"
  double value = 0;      ///< the ratio or figure that is judged
  double target = 0;
  bool at_least = true;   ///< value >= target is met; else value <= target
  std::string unit;       ///< "%", "x", "ms", "us"
  double spread = 0;      ///< of the measured series, relative
  std::string kernel;     ///< the template that ran
  std::string fall_back;  ///< why this row is void: another template ran than the row is about

  bool met() const { return fall_back.empty() && (at_least ? value >= target : value <= target); }
};

struct RowOptions {
  std::string filter;          ///< rows whose "group/name" contains it
  double seconds = 1.5;        ///< per row, about
  bool force_generic = false;  ///< the generic templates in place of the fast ones: what is void without them
};

/// Calls `sink` after each row. Errors: a graph of ours that does not compile or data that cannot be allocated.
Result<Done> measure_rows(const Engine& engine, const RowOptions& options, const std::function<void(const Row&)>& sink);

}  // namespace tilewright::bench
