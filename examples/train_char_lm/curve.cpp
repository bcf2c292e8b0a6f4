#include "examples/train_char_lm/curve.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>

namespace char_lm {
namespace {

constexpr double kWidth = 720, kHeight = 420, kLeft = 56, kRight = 20, kTop = 44, kBottom = 46;

}  // namespace

bool write_svg(const std::string& path, const std::string& title, const std::vector<Curve>& curves) {
  double top = 0;
  size_t steps = 1;
  for (const Curve& curve : curves) {
    for (double loss : curve.loss) top = std::max(top, loss);
    steps = std::max(steps, curve.loss.size());
  }
  top = std::max(1.0, top);
  const auto x = [&](double step) {
    return kLeft + (kWidth - kLeft - kRight) * step / static_cast<double>(std::max<size_t>(steps - 1, 1));
  };
  const auto y = [&](double loss) { return kHeight - kBottom - (kHeight - kTop - kBottom) * loss / top; };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\" font-size=\"13\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n<text x=\"{2}\" y=\"24\" font-size=\"16\">{3}</text>\n",
      kWidth, kHeight, kLeft, title);
  for (double loss = 0; loss <= top; loss += top > 3 ? 1 : 0.5)
    svg += fmt::format(
        "<path d=\"M{0:.1f} {1:.1f}H{2:.1f}\" stroke=\"#ddd\"/><text x=\"{3:.1f}\" y=\"{4:.1f}\" "
        "text-anchor=\"end\">{5:g}</text>\n",
        kLeft, y(loss), kWidth - kRight, kLeft - 8, y(loss) + 4, loss);
  for (size_t step = 0; step <= steps; step += std::max<size_t>(1, (steps + 5) / 6))
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
                       x(static_cast<double>(step)), kHeight - kBottom + 20, step);
  svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">step</text>\n", (kLeft + kWidth) / 2,
                     kHeight - 8);
  double legend = kTop + 6;
  for (const Curve& curve : curves) {
    std::string points;
    for (size_t i = 0; i < curve.loss.size(); ++i)
      points += fmt::format("{:.1f},{:.1f} ", x(static_cast<double>(i)), y(curve.loss[i]));
    svg += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\n", points,
                       curve.color);
    svg += fmt::format(
        "<rect x=\"{0:.1f}\" y=\"{1:.1f}\" width=\"18\" height=\"3\" fill=\"{2}\"/><text x=\"{3:.1f}\" "
        "y=\"{4:.1f}\">{5}</text>\n",
        kWidth - 220, legend, curve.color, kWidth - 195, legend + 6, curve.label);
    legend += 20;
  }
  std::ofstream file(path);
  file << svg << "</svg>\n";
  return static_cast<bool>(file.flush());
}

}  // namespace char_lm
