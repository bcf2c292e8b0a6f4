#include "cli/tune_report_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tilewright::cli {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

/// Length of the valid UTF-8 sequence at `at`, 0 when there is none.
size_t sequence_length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(at);
  const size_t length = first < 0x80                    ? 1
                        : first >= 0xf0 && first < 0xf5 ? 4
                        : first >= 0xe0                 ? 3
                        : first >= 0xc2                 ? 2
                                                        : 0;
  if (length == 0 || first >= 0xf5) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
  const unsigned second = byte(at + 1);
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool outside = (first == 0xed && second >= 0xa0) || (first == 0xf4 && second >= 0x90);
  return length > 1 && (overlong || outside) ? 0 : length;
}

std::string pixels(double value) {
  std::string text = fmt::format("{:.1f}", std::isfinite(value) ? value : 0);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t length = sequence_length(text, i);
    const char c = text[i];
    if (length == 0 || (length == 1 && ((c >= 0 && c < 32 && c != '\n' && c != '\t') || c == 127))) {
      out += kReplacement;
      ++i;
      continue;
    }
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += text.substr(i, length);
    }
    i += length;
  }
  return out;
}

double AxisScale::operator()(double value) const {
  const double at = std::clamp(value, low_, high_);
  const double share = log_ ? std::log(at / low_) / std::log(high_ / low_) : (at - low_) / (high_ - low_);
  return from_ + share * (to_ - from_);
}

std::vector<double> AxisScale::ticks(int count) const {
  std::vector<double> out;
  if (log_) {
    double step = 2;
    while (std::log(high_ / low_) / std::log(step) > count) step *= 2;
    const double first = std::ceil(std::log2(low_) / std::log2(step) - 1e-9);
    for (double tick = std::pow(step, first); tick <= high_ * 1.0001; tick *= step) out.push_back(tick);
    return out;
  }
  const double raw = (high_ - low_) / count, power = std::pow(10, std::floor(std::log10(raw)));
  const double step = raw / power <= 1   ? power
                      : raw / power <= 2 ? 2 * power
                      : raw / power <= 5 ? 5 * power
                                         : 10 * power;
  for (double i = std::ceil(low_ / step - 1e-9); i * step <= high_ * 1.0001; ++i) out.push_back(i * step);
  return out;
}

void SvgDrawing::close(const char* element, std::string_view tip) {
  body_ += tip.empty() ? "/>\n" : fmt::format("><title>{}</title></{}>\n", escape_html(tip), element);
}

void SvgDrawing::rectangle(double x, double y, double width, double height, std::string_view css,
                           std::string_view tip) {
  body_ += fmt::format(R"(<rect x="{}" y="{}" width="{}" height="{}" class="{}")", pixels(x), pixels(y), pixels(width),
                       pixels(height), css);
  close("rect", tip);
}

void SvgDrawing::line(double x1, double y1, double x2, double y2, std::string_view css) {
  body_ += fmt::format("<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" class=\"{}\"/>\n", pixels(x1), pixels(y1),
                       pixels(x2), pixels(y2), css);
}

void SvgDrawing::path(const std::vector<std::pair<double, double>>& points, std::string_view css) {
  std::string text;
  for (const auto& [x, y] : points) text += fmt::format("{}{},{}", text.empty() ? "" : " ", pixels(x), pixels(y));
  body_ += fmt::format("<polyline points=\"{}\" class=\"{}\"/>\n", text, css);
}

void SvgDrawing::circle(double x, double y, double radius, std::string_view css, std::string_view tip) {
  body_ += fmt::format(R"(<circle cx="{}" cy="{}" r="{}" class="{}")", pixels(x), pixels(y), pixels(radius), css);
  close("circle", tip);
}

void SvgDrawing::diamond(double x, double y, double radius, std::string_view css) {
  body_ +=
      fmt::format("<polygon points=\"{},{} {},{} {},{} {},{}\" class=\"{}\"/>\n", pixels(x), pixels(y - radius),
                  pixels(x + radius), pixels(y), pixels(x), pixels(y + radius), pixels(x - radius), pixels(y), css);
}

void SvgDrawing::star(double x, double y, double radius, std::string_view css, std::string_view tip) {
  std::string points;
  for (int i = 0; i < 10; ++i) {
    const double angle = std::numbers::pi * (i / 5.0 - 0.5), size = i % 2 ? 0.45 * radius : radius;
    points += fmt::format("{}{},{}", i == 0 ? "" : " ", pixels(x + size * std::cos(angle)),
                          pixels(y + size * std::sin(angle)));
  }
  body_ += fmt::format(R"(<polygon points="{}" class="{}")", points, css);
  close("polygon", tip);
}

void SvgDrawing::text(double x, double y, std::string_view text, std::string_view css, Anchor anchor) {
  const char* where = anchor == Anchor::start ? "start" : anchor == Anchor::middle ? "middle" : "end";
  body_ += fmt::format("<text x=\"{}\" y=\"{}\" class=\"{}\" text-anchor=\"{}\">{}</text>\n", pixels(x), pixels(y), css,
                       where, escape_html(text));
}

std::string SvgDrawing::take() {
  return fmt::format(
      "<svg viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" role=\"img\" aria-label=\"{2}\">\n{3}</svg>\n",
      pixels(width_), pixels(height_), escape_html(label_), body_);
}

}  // namespace tilewright::cli
