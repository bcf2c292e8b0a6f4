#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/tune_report_charts.h"
#include "cli/tune_report_svg.h"

namespace tilewright::cli {
namespace {

constexpr double kLeft = 52, kRight = 306, kTop = 24, kBottom = 318, kWidth = 556, kLineHeight = 15;

/// A label at the right edge, moved up or down until none covers another.
struct EdgeLabel {
  double wanted = 0, y = 0;
  std::string text, css;
};

void spread_labels(std::vector<EdgeLabel>& labels) {
  std::stable_sort(labels.begin(), labels.end(), [](const auto& a, const auto& b) { return a.wanted < b.wanted; });
  double next = kTop;
  for (EdgeLabel& label : labels) {
    label.y = std::max(label.wanted, next);
    next = label.y + kLineHeight;
  }
  double last = kBottom;  // back up where they ran over the lower edge
  for (auto label = labels.rbegin(); label != labels.rend(); ++label) {
    label->y = std::min(label->y, last);
    last = label->y - kLineHeight;
  }
}

struct Peer {
  std::string text;
  double rate;
};

/// Rates of elsewhere as they would be if FMA peaks were all that differs; what ran on AMX stays as it was there.
std::vector<Peer> scaled_peers(const TunedStep& step, const std::vector<bench::PublishedRate>& published) {
  const bench::PublishedLimit* there = bench::published_limit("FMA peak f32, 1 thread");
  std::vector<Peer> peers;
  for (const bench::PublishedRate& rate : published) {
    const bool scaled = !rate.amx && there && step.fma_peak_gflops > 0;
    const double here = scaled ? rate.gflops * step.fma_peak_gflops / there->figure : rate.gflops;
    const std::string name = fmt::format("{} {}", rate.who, to_string(rate.dtype));
    peers.push_back({scaled ? fmt::format("{}: {:.0f} ({:.0f} there)", name, here, rate.gflops)
                            : fmt::format("{}: {:.0f} there", name, rate.gflops),
                     here});
  }
  return peers;
}

std::string intensity_text(double value) {
  return value >= 1 ? fmt::format("{:.0f}", value) : fmt::format("1/{:.0f}", 1 / value);
}

/// 0.25, 1.9, 512.
std::string per_byte_text(double value) { return fmt::format("{:.{}f}", value, value < 1 ? 2 : value < 10 ? 1 : 0); }

}  // namespace

std::string roofline(const TunedStep& step, const std::vector<bench::PublishedRate>& published) {
  if (step.flops <= 0 || step.bytes <= 0 || step.fma_peak_gflops <= 0 || step.read_gbs <= 0 ||
      !was_measured(step.best()))
    return "";
  const std::vector<Peer> peers = scaled_peers(step, published);
  const double intensity = step.flops / step.bytes, peak = std::max(step.fma_peak_gflops, step.amx_peak_gflops);
  const bool tiles = step.amx_peak_gflops > 0;
  const double roof = std::min(peak, intensity * step.read_gbs), reached = step.gflops(step.best());
  double least = std::min({reached, roof, step.fma_peak_gflops}), most = peak;
  for (const TunedCandidate* each : {&step.rules(), &step.best()})
    if (was_measured(*each)) {
      least = std::min(least, step.gflops(*each));
      most = std::max(most, step.gflops(*each));
    }
  for (const Peer& peer : peers) {
    least = std::min(least, peer.rate);
    most = std::max(most, peer.rate);
  }
  const double ridge = peak / step.read_gbs;
  const AxisScale x =
      AxisScale::logarithmic(std::min(ridge, intensity) / 8, std::max(ridge, intensity) * 4, kLeft, kRight);
  const AxisScale y = AxisScale::logarithmic(least / 2.5, most * 1.4, kBottom, kTop);
  SvgDrawing svg(kWidth, kBottom + 44,
                 fmt::format("Roofline: the chosen schedule reaches {:.0f} of {:.0f} GFLOP/s at {} FLOP per byte",
                             reached, roof, per_byte_text(intensity)));

  for (const double tick : x.ticks(6)) {
    svg.line(x(tick), kTop, x(tick), kBottom, "grid");
    svg.text(x(tick), kBottom + 16, intensity_text(tick), "tick", Anchor::middle);
  }
  for (const double tick : y.ticks(7)) {
    svg.line(kLeft, y(tick), kRight, y(tick), "grid");
    svg.text(kLeft - 8, y(tick) + 4, tick >= 1 ? fmt::format("{:.0f}", tick) : fmt::format("{:g}", tick), "tick",
             Anchor::end);
  }
  svg.text((kLeft + kRight) / 2, kBottom + 36, "FLOP per byte of operands and results", "axis-name", Anchor::middle);
  svg.text(kLeft - 44, kTop - 10, "GFLOP/s", "axis-name");

  const double first = std::min(ridge, intensity) / 8, last = std::max(ridge, intensity) * 4;
  svg.path({{x(std::max(first, least / 2.5 / step.read_gbs)), y(first * step.read_gbs)},
            {x(ridge), y(peak)},
            {x(last), y(peak)}},
           "roof");
  std::vector<EdgeLabel> labels;
  const std::string threads = step.workers == 1 ? "1 thread" : fmt::format("{} threads", step.workers);
  if (tiles) {
    const double fma = step.fma_peak_gflops;
    labels.push_back({y(peak), 0, fmt::format("AMX peak {:.0f}, {}, this run", peak, threads), "label strong"});
    svg.line(x(std::max(first, fma / step.read_gbs)), y(fma), x(last), y(fma), "roof");
  }
  labels.push_back({y(step.fma_peak_gflops), 0,
                    fmt::format("FMA peak {:.0f}, {}, this run", step.fma_peak_gflops, threads), "label strong"});
  for (const Peer& peer : peers) {
    svg.line(kLeft, y(peer.rate), kRight, y(peer.rate), "peer");
    labels.push_back({y(peer.rate), 0, peer.text, "label"});
  }
  // What decides is the mean of both medians, so the bar covers both kinds of runs.
  const auto whisker = [&](const TunedCandidate& candidate) {
    const RunTimes warm = times_of(candidate.warm), cold = times_of(candidate.cold);
    const double at = x(intensity), slow = step.flops / std::max(warm.high, cold.high) * 1e-6,
                 fast = step.flops / warm.low * 1e-6;
    svg.line(at, y(slow), at, y(fast), "whisker");
    for (const double end : {slow, fast}) svg.line(at - 5, y(end), at + 5, y(end), "whisker");
  };
  const bool same = step.chosen == 0;
  if (!same && was_measured(step.rules())) {
    whisker(step.rules());
    svg.circle(x(intensity), y(step.gflops(step.rules())), 5, "ring",
               "the rules' schedule: " + speed_text(step, step.rules()));
    labels.push_back({y(step.gflops(step.rules())), 0,
                      fmt::format("\xe2\x97\x8b rules {:.0f}", step.gflops(step.rules())), "label strong"});
  }
  whisker(step.best());
  svg.star(x(intensity), y(reached), 9, "star", "the chosen schedule: " + speed_text(step, step.best()));
  labels.push_back({y(reached), 0,
                    fmt::format("\xe2\x98\x85 {} {:.0f} GFLOP/s", same ? "rules, chosen" : "chosen", reached),
                    "label strong"});
  spread_labels(labels);
  for (const EdgeLabel& label : labels) {
    svg.path({{kRight, label.wanted}, {kRight + 10, label.y}, {kRight + 14, label.y}}, "leader");
    svg.text(kRight + 18, label.y + 4, label.text, label.css);
  }
  // Along the slope, where there is room under it.
  const double on_slope = std::sqrt(std::max(first, least / 2.5 / step.read_gbs) * ridge);
  svg.text(x(on_slope) + 10, y(on_slope * step.read_gbs) + 16, fmt::format("read loop {:.0f} GB/s", step.read_gbs),
           "label strong");

  std::string caption = fmt::format(
      "<b>Roofline.</b> Limits were measured between the candidates; the chosen schedule ({}) reaches {:.0f} % of them "
      "at {} FLOP per byte. Its bar runs from the slowest tenth of runs with flushed caches to the fastest with warm "
      "ones.",
      escape_html(difference_text(step, step.best().schedule)), 100 * reached / roof, per_byte_text(intensity));
  if (!peers.empty())
    caption += fmt::format(" Dashed lines: {}; scaled by the FMA peak there and here, except what ran on AMX.",
                           escape_html(bench::published_source()));
  return fmt::format("<figure class=\"roofline\"><figcaption>{}</figcaption>\n<div class=\"wide\">{}</div></figure>\n",
                     caption, svg.take());
}

}  // namespace tilewright::cli
