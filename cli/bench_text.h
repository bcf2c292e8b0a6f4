// What a run of the benchmark looks like to people: lines of at most 120 columns.
#pragma once

#include <string>

#include "bench/comparison.h"
#include "bench/run_file.h"

namespace tilewright::cli {

/// The machine, the code, how to read the figures, and the names of the columns.
std::string heading_text(const bench::BenchRun& run);
/// The row's figures, and below them what ran; a new group gets a heading. `before` is the row above it, or nullptr.
std::string row_text(const bench::Row& row, const bench::Row* before);
/// How many bars were met, which were missed, void or skipped.
std::string summary_text(const bench::BenchRun& run);
/// `name` is the earlier run's file.
std::string comparison_text(const bench::Comparison& comparison, const bench::BenchRun& before,
                            const bench::BenchRun& after, const std::string& name);

}  // namespace tilewright::cli
