#include "tests/support/input_family.h"

#include <algorithm>
#include <cmath>

namespace tilewright::testing {

std::string_view to_string(Family family) {
  static constexpr std::string_view kNames[] = {"gaussian",    "heavy_tailed", "spiky",          "constant",
                                                "huge_logits", "subnormal",    "correlated_keys"};
  return kNames[static_cast<size_t>(family)];
}

void fill_family(TestTensor& tensor, Family family, std::mt19937_64& random) {
  std::normal_distribution<double> gauss;
  std::uniform_real_distribution<double> uniform(0.001, 1);
  const DType dtype = tensor.view().dtype;
  const double tiny = dtype == DType::f16 ? 0x1p-14 : dtype == DType::f64 ? 0x1p-1022 : 0x1p-126;
  const int64_t width = tensor.shape().empty() ? 1 : std::max<int64_t>(1, tensor.shape().back());
  std::vector<double> row(static_cast<size_t>(width));
  for (double& x : row) x = gauss(random);
  for (int64_t i = 0; i < tensor.size(); ++i) {
    double value = gauss(random);
    switch (family) {
      case Family::gaussian: break;
      case Family::heavy_tailed: value = std::clamp(value / std::sqrt(uniform(random)), -1e3, 1e3); break;
      case Family::spiky: value = random() % 37 == 0 ? std::copysign(100.0, value) : 0; break;
      case Family::constant: value = 1.5; break;
      case Family::huge_logits: value *= 100; break;
      case Family::subnormal: value *= tiny * uniform(random); break;
      case Family::correlated_keys: value = row[static_cast<size_t>(i % width)] + 1e-3 * value; break;
    }
    tensor.set(i, value);
  }
}

}  // namespace tilewright::testing
