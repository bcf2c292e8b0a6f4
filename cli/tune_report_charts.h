// The drawings of a tuning report, each a figure with its caption. Pure: result in, HTML out.
#pragma once

#include <string>
#include <vector>

#include "bench/published.h"
#include "runtime/tuner.h"

namespace tilewright::cli {

/// Middle and spread of single runs, in ms.
struct RunTimes {
  double median = 0, low = 0, high = 0;  ///< 10th and 90th percentile
};
RunTimes times_of(const std::vector<double>& seconds);

/// Ran and gave the right result.
bool was_measured(const TunedCandidate& candidate);
/// 1234.5, 12.35, 0.1235: four digits or so.
std::string short_number(double value);
/// Values of integers in which the schedule differs from the rules': "block_q 192, block_kv 512"; "the rules'".
std::string difference_text(const TunedStep& step, const CpuSchedule& schedule);
/// "172.1 GFLOP/s", or ms where the step has no FLOPs to count.
std::string speed_text(const TunedStep& step, const TunedCandidate& candidate);

/// The integers of a step that tell most: block_q and block_kv where both were varied, else those whose values explain
/// most of how the times vary. As many as there are, two at most.
std::vector<ScheduleAxis> telling_axes(const TunedStep& step);

/// Over the telling axes the best measured speed, or what the model says of what was not measured.
std::string heat_map(const TunedStep& step);
/// The limits measured in the run, the chosen schedule and the rules' with their spread, published rates as labelled
/// lines.
std::string roofline(const TunedStep& step, const std::vector<bench::PublishedRate>& peers);
/// Measured candidates from fast to slow, with spreads.
std::string candidate_chart(const TunedStep& step);

/// "B 1, Sq 4096".
std::string dims_text(const DimBindings& dims);
/// Which part of what was asked for candidates ran, and how the chosen one does on all of it; empty where they ran all.
std::string part_text(const TunedStep& step);

/// A schedule in sentences: what a work item takes and what stays in registers and caches.
std::vector<std::string> schedule_sentences(const CpuSchedule& schedule);

}  // namespace tilewright::cli
