// Loss curves as one self-contained SVG file.
#pragma once

#include <string>
#include <vector>

namespace char_lm {

struct Curve {
  std::string label, color;
  std::vector<double> loss;  ///< by step
};

/// False when the file cannot be written.
bool write_svg(const std::string& path, const std::string& title, const std::vector<Curve>& curves);

}  // namespace char_lm
