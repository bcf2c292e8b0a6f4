// Pieces of inline SVG and HTML: escaped texts, shapes with classes that the page's style sheet knows, axes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tilewright::cli {

/// For text and for quoted attributes: & < > " ' as entities; control characters and broken UTF-8, which a page may not
/// hold, as U+FFFD.
std::string escape_html(std::string_view text);

/// From values to pixels.
class AxisScale {
 public:
  static AxisScale linear(double low, double high, double from, double to) { return {low, high, from, to, false}; }
  static AxisScale logarithmic(double low, double high, double from, double to) { return {low, high, from, to, true}; }
  double operator()(double value) const;  ///< clamped to the axis
  bool covers(double value) const { return value >= low_ && value <= high_; }
  /// Round values for ticks, about `count`: 1, 2, 5 · 10ⁿ; on logarithmic axes powers of two or of ten.
  std::vector<double> ticks(int count) const;

 private:
  AxisScale(double low, double high, double from, double to, bool log)
      : low_(low), high_(high), from_(from), to_(to), log_(log) {}
  double low_, high_, from_, to_;
  bool log_;
};

enum class Anchor : uint8_t { start, middle, end };

class SvgDrawing {
 public:
  /// Pixels; `label` is what it shows, in words.
  SvgDrawing(double width, double height, std::string label)
      : width_(width), height_(height), label_(std::move(label)) {}

  void rectangle(double x, double y, double width, double height, std::string_view css, std::string_view tip = {});
  void line(double x1, double y1, double x2, double y2, std::string_view css);
  void path(const std::vector<std::pair<double, double>>& points, std::string_view css);
  void circle(double x, double y, double radius, std::string_view css, std::string_view tip = {});
  void diamond(double x, double y, double radius, std::string_view css);
  void star(double x, double y, double radius, std::string_view css, std::string_view tip = {});
  void text(double x, double y, std::string_view text, std::string_view css, Anchor anchor = Anchor::start);
  std::string take();

 private:
  void close(const char* element, std::string_view tip);
  double width_, height_;
  std::string label_, body_;
};

}  // namespace tilewright::cli
