#include <fmt/format.h>

#include <algorithm>

#include "cli/tune_report_charts.h"
#include "cli/tune_report_svg.h"

namespace tilewright::cli {
namespace {

constexpr double kLabel = 400, kPlot = 450, kFate = 230, kRow = 20, kHead = 44;

/// Slower than this, relative to the fastest, is drawn at the edge with an arrow.
constexpr double kShownRange = 2.5;

std::string shortened(std::string text, size_t most) {
  return text.size() <= most ? text : text.substr(0, most - 3) + "...";
}

void draw_run(SvgDrawing& svg, const AxisScale& scale, const TunedCandidate& candidate, double y, bool chosen) {
  const RunTimes warm = times_of(candidate.warm), cold = times_of(candidate.cold);
  if (!scale.covers(warm.median)) {
    svg.text(scale(1e300), y + 4, fmt::format("{} ms \xe2\x86\x92", short_number(warm.median)), "tick", Anchor::end);
    return;
  }
  if (!candidate.cold.empty()) {
    svg.line(scale(cold.low), y, scale(cold.high), y, "whisker cold");
    svg.diamond(scale(cold.median), y, 4.5, "dot cold");
  }
  svg.line(scale(warm.low), y, scale(warm.high), y, "whisker");
  for (const double end : {warm.low, warm.high}) svg.line(scale(end), y - 4, scale(end), y + 4, "whisker");
  const std::string tip =
      fmt::format("{}: warm {} ms, 10th to 90th percentile {} to {} ms, {} runs", print(candidate.schedule),
                  short_number(warm.median), short_number(warm.low), short_number(warm.high), candidate.warm.size());
  if (chosen) svg.star(scale(warm.median), y, 8, "star", tip);
  if (!chosen) svg.circle(scale(warm.median), y, 4, "dot", tip);
}

}  // namespace

std::string candidate_chart(const TunedStep& step) {
  std::vector<const TunedCandidate*> shown;
  for (const TunedCandidate& candidate : step.candidates)
    if (was_measured(candidate)) shown.push_back(&candidate);
  if (shown.empty()) return "<p>No candidate was measured.</p>\n";
  std::stable_sort(shown.begin(), shown.end(),
                   [](const auto* a, const auto* b) { return a->seconds() < b->seconds(); });
  double low = 1e300, high = 0;
  for (const TunedCandidate* candidate : shown) {
    const RunTimes warm = times_of(candidate->warm), cold = times_of(candidate->cold);
    low = std::min(low, candidate->cold.empty() ? warm.low : std::min(warm.low, cold.low));
    high = std::max({high, warm.high, cold.high});
  }
  const double fastest = 1e3 * shown.front()->seconds();
  high = std::min(high, kShownRange * fastest);
  const double margin = std::max(0.04 * (high - low), 1e-3 * high);
  const AxisScale scale = AxisScale::linear(std::max(0.0, low - margin), high + margin, kLabel, kLabel + kPlot);
  const double bottom = kHead + kRow * static_cast<double>(shown.size());

  SvgDrawing svg(kLabel + kPlot + kFate, bottom + 12,
                 fmt::format("{} measured candidates from {} to {} ms", shown.size(), short_number(fastest),
                             short_number(1e3 * shown.back()->seconds())));
  if (was_measured(step.rules()) && step.noise > 0) {
    const double middle = times_of(step.rules().warm).median, half = middle * step.noise;
    const double from = scale(middle - half), to = scale(middle + half);
    svg.rectangle(from, kHead - 6, to - from, bottom - kHead + 6, "noise", "within the noise of the rules' schedule");
  }
  for (const double tick : scale.ticks(6)) {
    svg.line(scale(tick), kHead - 6, scale(tick), bottom, "grid");
    svg.text(scale(tick), kHead - 12, fmt::format("{:g}", tick), "tick", Anchor::middle);
  }
  svg.text(kLabel + kPlot / 2, 14, "ms for one run", "axis-name", Anchor::middle);
  svg.text(kLabel - 12, 14, "differs from the rules' schedule in", "axis-name", Anchor::end);
  for (size_t i = 0; i < shown.size(); ++i) {
    const TunedCandidate& candidate = *shown[i];
    const bool chosen = &candidate == &step.best(), rules = &candidate == &step.rules();
    const double y = kHead + kRow * (static_cast<double>(i) + 0.5);
    const std::string label = shortened(difference_text(step, candidate.schedule), 54);
    svg.text(kLabel - 12, y + 4, label, chosen || rules ? "label strong" : "label", Anchor::end);
    draw_run(svg, scale, candidate, y, chosen);
    std::string fate = speed_text(step, candidate);
    if (chosen || rules)
      fate += chosen && rules ? ", rules, chosen" : chosen ? ", chosen" : ", rules";
    else
      fate += fmt::format(", {}", to_string(candidate.fate));
    svg.text(kLabel + kPlot + 12, y + 4, fate, chosen || rules ? "label strong" : "label");
  }
  const std::string caption = fmt::format(
      "<b>Every measured candidate.</b> Dots are medians of runs with warm caches, diamonds with flushed ones; bars "
      "run "
      "from the 10th to the 90th percentile. The band is the noise around the rules' schedule ({:.1f} %): whatever "
      "lies "
      "in it ties, and ties go to the rules.",
      100 * step.noise);
  return fmt::format("<figure class=\"full\"><figcaption>{}</figcaption>\n<div class=\"wide\">{}</div></figure>\n",
                     caption, svg.take());
}

}  // namespace tilewright::cli
