// What one compiled and run graph looks like to people and to scripts; `run` and `demo` print the same.
#pragma once

#include <optional>

#include "bench/timing.h"
#include "cli/cli.h"
#include "ir/accuracy.h"
#include "runtime/host_tensor.h"
#include "runtime/work.h"

namespace tilewright::cli {

/// The same graph with every value in memory, timed in the same run at the same dims.
struct Materialised {
  double seconds = 0;
  double fused_seconds = 0;
  std::string reduced;  ///< which dims had to be smaller and why, empty when none
  double speed_up() const { return seconds / fused_seconds; }
};

struct Report {
  std::string file;
  DimBindings dims, defaulted;
  std::shared_ptr<const Kernel> kernel;
  std::vector<size_t> choices;
  int workers = 1;
  MemoryEstimate memory;
  Work work;
  bench::Series seconds, peak_gflops;  ///< measured in turn
  std::vector<AccuracyReport> accuracy;
  double verify_seconds = 0;
  Diagnostics failure;
  std::string dump;  ///< folder, when it is not the kernel's own
  std::optional<Materialised> materialised;

  bool passed() const;
  double gflops() const;
  const std::string& dump_path() const { return dump.empty() ? kernel->dump_path() : dump; }
};

/// Runs kernel and peak in turn within the budget and fills seconds, peak_gflops, work, memory, choices.
Result<Done> measure(Report& report, std::span<const TensorView> inputs, std::span<const TensorView> outputs,
                     const RunOptions& options, Executor& executor, const bench::TimingBudget& budget);

/// Sizes of query blocks that ran, for the rows that verification samples.
std::vector<int64_t> block_rows(const Report& report);

std::string text(const Report& report);
Json json(const Report& report);

}  // namespace tilewright::cli
