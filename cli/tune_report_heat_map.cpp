#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "cli/tune_report_charts.h"
#include "cli/tune_report_svg.h"

namespace tilewright::cli {
namespace {

using Fate = TunedCandidate::Fate;

constexpr double kCellWidth = 78, kCellHeight = 44, kMapLeft = 74, kMapTop = 52;
constexpr size_t kMostValues = 12;
constexpr int kShades = 7;

struct Cell {
  const TunedCandidate* shown = nullptr;  ///< the best of those measured, else the most promising
  int measured = 0, all = 0;
  bool chosen = false, rules = false;
};

int64_t value_of(const TunedCandidate& candidate, const ScheduleAxis& axis) { return candidate.schedule.*axis.member; }

/// Values that occur; where there are too many, those that nothing measured has go first.
std::vector<int64_t> values_of(const TunedStep& step, const ScheduleAxis& axis) {
  std::set<int64_t> all, measured;
  for (const TunedCandidate& candidate : step.candidates) {
    all.insert(value_of(candidate, axis));
    if (candidate.fate != Fate::pruned) measured.insert(value_of(candidate, axis));
  }
  const std::set<int64_t>& kept = all.size() > kMostValues && !measured.empty() ? measured : all;
  std::vector<int64_t> values(kept.begin(), kept.end());
  if (values.size() > kMostValues) values.resize(kMostValues);
  return values;
}

/// Measured before anything else, faster before slower, what the model likes before what it does not.
bool shown_before(const TunedCandidate& a, const TunedCandidate& b) {
  if (was_measured(a) != was_measured(b)) return was_measured(a);
  if (was_measured(a)) return a.seconds() < b.seconds();
  const bool tried_a = a.fate != Fate::pruned, tried_b = b.fate != Fate::pruned;
  return tried_a != tried_b ? tried_a : a.cost.cycles < b.cost.cycles;
}

class HeatMap {
 public:
  HeatMap(const TunedStep& step, const std::vector<ScheduleAxis>& axes)
      : step_(step), axes_(axes), columns_(values_of(step, axes[axes.size() - 1])) {
    if (axes.size() == 2) rows_ = values_of(step, axes[0]);
    for (const TunedCandidate& candidate : step.candidates) {
      if (!was_measured(candidate)) continue;
      fastest_ = fastest_ == 0 ? candidate.seconds() : std::min(fastest_, candidate.seconds());
      slowest_ = std::max(slowest_, candidate.seconds());
    }
  }

  std::string draw() {
    const auto columns = static_cast<double>(columns_.size()), rows = static_cast<double>(row_count());
    const double height = kMapTop + rows * kCellHeight + 46;
    SvgDrawing svg(std::max(kMapLeft + columns * kCellWidth + 12, 480.0), height, summary());
    svg.text(kMapLeft + columns * kCellWidth / 2, 16, axes_.back().name, "axis-name", Anchor::middle);
    if (axes_.size() == 2) svg.text(kMapLeft - 10, kMapTop - 12, axes_[0].name, "axis-name", Anchor::end);
    for (size_t c = 0; c < columns_.size(); ++c)
      svg.text(x_of(c) + kCellWidth / 2, kMapTop - 12, fmt::format("{}", columns_[c]), "tick", Anchor::middle);
    for (size_t r = 0; r < row_count(); ++r) {
      if (axes_.size() == 2)
        svg.text(kMapLeft - 10, y_of(r) + kCellHeight / 2 + 4, fmt::format("{}", rows_[r]), "tick", Anchor::end);
      for (size_t c = 0; c < columns_.size(); ++c) draw_cell(svg, r, c);
    }
    for (size_t r = 0; r < row_count(); ++r)  // over the neighbours' borders
      for (size_t c = 0; c < columns_.size(); ++c) draw_marks(svg, r, c);
    draw_legend(svg, kMapTop + rows * kCellHeight + 16);
    return svg.take();
  }

 private:
  size_t row_count() const { return rows_.empty() ? 1 : rows_.size(); }
  static double x_of(size_t column) { return kMapLeft + static_cast<double>(column) * kCellWidth; }
  static double y_of(size_t row) { return kMapTop + static_cast<double>(row) * kCellHeight; }

  Cell cell(size_t row, size_t column) const {
    Cell cell;
    for (size_t i = 0; i < step_.candidates.size(); ++i) {
      const TunedCandidate& candidate = step_.candidates[i];
      if (value_of(candidate, axes_.back()) != columns_[column]) continue;
      if (!rows_.empty() && value_of(candidate, axes_[0]) != rows_[row]) continue;
      ++cell.all;
      cell.measured += was_measured(candidate);
      cell.rules |= i == 0;
      cell.chosen |= i == step_.chosen;
      if (!cell.shown || shown_before(candidate, *cell.shown)) cell.shown = &candidate;
    }
    return cell;
  }

  /// Of speed, so that equal steps of shade are equal steps of GFLOP/s. What differs by noise alone gets one shade.
  int shade(double seconds) const {
    const double low = 1 / slowest_, high = 1 / fastest_;
    const double span = std::max(high - low, 4 * step_.noise * high);
    const double share = span > 0 ? 1 - (high - 1 / seconds) / span : 1;
    return std::clamp(static_cast<int>(share * kShades), 0, kShades - 1);
  }

  std::string number_text(const TunedCandidate& candidate) const {
    if (step_.flops <= 0) return short_number(candidate.seconds() * 1e3);
    const double rate = step_.gflops(candidate);
    return rate >= 20 ? fmt::format("{:.0f}", rate) : short_number(rate);
  }

  void draw_cell(SvgDrawing& svg, size_t row, size_t column) const {
    const Cell cell = this->cell(row, column);
    const double x = x_of(column), y = y_of(row), middle = x + kCellWidth / 2;
    if (!cell.shown) {
      svg.rectangle(x + 1, y + 1, kCellWidth - 2, kCellHeight - 2, "cell none", "no legal schedule was ranked here");
      svg.text(middle, y + kCellHeight / 2 + 4, "\xe2\x80\x93", "cell-note", Anchor::middle);
      return;
    }
    const TunedCandidate& best = *cell.shown;
    std::string tip = fmt::format("{} ({})", print(best.schedule), to_string(best.fate));
    if (!best.why.empty()) tip += ": " + best.why;
    if (was_measured(best)) {
      const int step = shade(best.seconds());
      tip += fmt::format(" \xe2\x80\x94 {}, {} of {} ranked here were measured", speed_text(step_, best), cell.measured,
                         cell.all);
      svg.rectangle(x + 1, y + 1, kCellWidth - 2, kCellHeight - 2, fmt::format("cell s{}", step), tip);
      svg.text(middle, y + 20, number_text(best), fmt::format("cell-number t{}", step), Anchor::middle);
      const double relative = std::round(1000 * (step_.rules().seconds() / best.seconds() - 1)) / 10 + 0.0;  // no -0.0
      const bool comparable = was_measured(step_.rules());
      svg.text(middle, y + 35, comparable ? fmt::format("{:+.1f} %", relative) : "", fmt::format("cell-note t{}", step),
               Anchor::middle);
      return;
    }
    const bool broken = best.fate == Fate::wrong || best.fate == Fate::failed;
    svg.rectangle(x + 1, y + 1, kCellWidth - 2, kCellHeight - 2, broken ? "cell broken" : "cell pruned", tip);
    if (broken) {
      svg.text(middle, y + kCellHeight / 2 + 4, "\xe2\x9c\x95 " + std::string(to_string(best.fate)), "cell-note",
               Anchor::middle);
      return;
    }
    const double rules = step_.rules().cost.cycles;
    const std::string estimate = rules > 0 && best.cost.cycles > 0
                                     ? fmt::format("est. {:+.0f} %", 100 * (rules / best.cost.cycles - 1))
                                     : "not run";
    svg.text(middle, y + kCellHeight / 2 + 4, estimate, "cell-note", Anchor::middle);
  }

  void draw_marks(SvgDrawing& svg, size_t row, size_t column) const {
    const Cell cell = this->cell(row, column);
    const double x = x_of(column), y = y_of(row);
    if (cell.rules) {
      svg.rectangle(x + 2, y + 2, kCellWidth - 4, kCellHeight - 4, "mark-rules");
      svg.text(x + 7, y + 14, "R", mark_css(cell), Anchor::start);
    }
    if (cell.chosen) {
      svg.rectangle(x + 1, y + 1, kCellWidth - 2, kCellHeight - 2, "mark-chosen");
      svg.star(x + kCellWidth - 11, y + 11, 7, "star");
    }
  }
  std::string mark_css(const Cell& cell) const {
    return cell.shown && was_measured(*cell.shown) ? fmt::format("cell-mark t{}", shade(cell.shown->seconds()))
                                                   : "cell-mark";
  }

  void draw_legend(SvgDrawing& svg, double y) const {
    double x = kMapLeft;
    if (fastest_ > 0) {
      const auto figure = [&](double seconds) {
        return step_.flops > 0 ? fmt::format("{:.0f}", step_.flops / seconds * 1e-9) : short_number(1e3 * seconds);
      };
      svg.text(x - 8, y + 10, figure(slowest_), "tick", Anchor::end);
      for (int i = 0; i < kShades; ++i, x += 16) svg.rectangle(x, y, 16, 12, fmt::format("cell s{}", i));
      svg.text(x + 6, y + 10, figure(fastest_) + (step_.flops > 0 ? " GFLOP/s" : " ms"), "tick");
      x += 96;
    }
    svg.star(x + 6, y + 6, 7, "star");
    svg.text(x + 17, y + 10, "chosen", "tick");
    svg.rectangle(x + 68, y, 14, 12, "mark-rules");
    svg.text(x + 87, y + 10, "R rules", "tick");
  }

  std::string summary() const {
    return fmt::format("Heat map of the measured speed over {}: from {} to {} of the slowest to the fastest schedule.",
                       axes_.size() == 2 ? axes_[0].name + " and " + axes_[1].name : axes_[0].name,
                       short_number(slowest_ * 1e3) + " ms", short_number(fastest_ * 1e3) + " ms");
  }

  const TunedStep& step_;
  const std::vector<ScheduleAxis>& axes_;
  std::vector<int64_t> columns_, rows_;
  double fastest_ = 0, slowest_ = 0;
};

}  // namespace

std::string heat_map(const TunedStep& step) {
  const std::vector<ScheduleAxis> axes = telling_axes(step);
  if (axes.empty()) return "<p>Nothing was varied: this template has one legal schedule here.</p>\n";
  const bool two = axes.size() == 2;
  const std::string over = two ? fmt::format("{} (down) and {} (across)", axes[0].name, axes[1].name) : axes[0].name;
  const std::string caption = fmt::format(
      "<b>Landscape</b> over {}. Each cell shows the best measured schedule with {}, other integers free: {}, and its "
      "speed relative to the rules'. Hatched cells were left out by the cost model, whose estimate of the same they "
      "show.",
      escape_html(over), two ? "these values" : "this value", step.flops > 0 ? "GFLOP/s" : "ms");
  return fmt::format("<figure class=\"heat\"><figcaption>{}</figcaption>\n<div class=\"wide\">{}</div></figure>\n",
                     caption, HeatMap(step, axes).draw());
}

}  // namespace tilewright::cli
