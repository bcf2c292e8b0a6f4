// Figures that several drawings share, and which integers tell most.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "cli/tune_report_charts.h"

namespace tilewright::cli {
namespace {

/// How much of the variance of log(seconds) the values of an integer explain, 0 to 1.
double explained_variance(const TunedStep& step, int64_t CpuSchedule::* field) {
  std::map<int64_t, std::vector<double>> groups;
  double sum = 0, count = 0;
  for (const TunedCandidate& candidate : step.candidates) {
    if (!was_measured(candidate)) continue;
    const double value = std::log(candidate.seconds());
    groups[candidate.schedule.*field].push_back(value);
    sum += value;
    ++count;
  }
  const double mean = count > 0 ? sum / count : 0;
  double total = 0, between = 0;
  for (const auto& [key, values] : groups) {
    double own = 0;
    for (const double value : values) {
      own += value;
      total += (value - mean) * (value - mean);
    }
    own /= static_cast<double>(values.size());
    between += static_cast<double>(values.size()) * (own - mean) * (own - mean);
  }
  return total > 0 && groups.size() > 1 ? between / total : 0;
}

bool varied(const TunedStep& step, int64_t CpuSchedule::* field) {
  return std::any_of(step.candidates.begin(), step.candidates.end(), [&](const TunedCandidate& candidate) {
    return candidate.schedule.*field != step.rules().schedule.*field;
  });
}

}  // namespace

RunTimes times_of(const std::vector<double>& seconds) {
  if (seconds.empty()) return {};
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double share) {
    return 1e3 * sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5)];
  };
  return {at(0.5), at(0.1), at(0.9)};
}

bool was_measured(const TunedCandidate& candidate) {
  using Fate = TunedCandidate::Fate;
  return !candidate.warm.empty() && candidate.seconds() > 0 && candidate.fate != Fate::wrong &&
         candidate.fate != Fate::failed;
}

std::string short_number(double value) {
  const double size = std::abs(value);
  return fmt::format("{:.{}f}", value, size >= 999.5 ? 0 : size >= 99.95 ? 1 : size >= 0.9995 ? 2 : 3);
}

std::string difference_text(const TunedStep& step, const CpuSchedule& schedule) {
  std::string text;
  for (const ScheduleAxis& axis : step.axes)
    if (schedule.*axis.member != step.rules().schedule.*axis.member)
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", axis.name, schedule.*axis.member);
  return text.empty() ? "the rules'" : text;
}

std::string speed_text(const TunedStep& step, const TunedCandidate& candidate) {
  if (step.flops > 0) return short_number(step.gflops(candidate)) + " GFLOP/s";
  return short_number(candidate.seconds() * 1e3) + " ms";
}

std::vector<ScheduleAxis> telling_axes(const TunedStep& step) {
  std::vector<ScheduleAxis> usual, found;
  for (const ScheduleAxis& axis : step.axes) {
    if (!varied(step, axis.member)) continue;
    found.push_back(axis);
    if (axis.name == "block_q" || axis.name == "block_kv") usual.push_back(axis);
  }
  if (usual.size() == 2) {
    if (usual[0].name == "block_kv") std::swap(usual[0], usual[1]);  // queries down, keys across, as in a score matrix
    return usual;
  }
  std::stable_sort(found.begin(), found.end(), [&](const ScheduleAxis& a, const ScheduleAxis& b) {
    return explained_variance(step, a.member) > explained_variance(step, b.member);
  });
  if (found.size() > 2) found.resize(2);
  return found;
}

}  // namespace tilewright::cli
