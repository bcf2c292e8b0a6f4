// Expressions with tensors and scores to run them on, for tests of the CPU emitter: emitted code against the oracle's
// evaluate at every position of a row.
#pragma once

#include <array>
#include <random>
#include <string>
#include <vector>

#include "ir/attention_spec.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {

inline constexpr int64_t kExtent = 37;  ///< positions of the varying axis

struct Scene {
  Expr expr;
  std::vector<SpecTensor> types;
  std::vector<TestTensor> tensors;
  DimBindings dims{{"N", 7}, {"Sk", kExtent}};
  std::array<int64_t, 12> axes{1, 2, 5, 0, 3, 0, 0, 0, 1, 4, 3, 20};
  std::vector<double> scores;  ///< by position

  int add(DType dtype, std::vector<int64_t> shape, Layout layout, std::mt19937_64& random) {
    SpecTensor type;
    type.name = "t" + std::to_string(types.size());
    type.type.dtype = dtype;
    for (int64_t size : shape) type.type.shape.push_back(Dim(size));
    types.push_back(type);
    tensors.emplace_back(dtype, shape, layout, random);
    return static_cast<int>(types.size()) - 1;
  }
  std::vector<TensorView> views() const {
    std::vector<TensorView> list;
    for (const TestTensor& t : tensors) list.push_back(t.view());
    return list;
  }
};

/// Values of every kind: signed zeros, infinities, NaN, halves, some that saturate integers.
void fill_scores(Scene& scene);

/// Emits the expression for both ISAs on several numbers of lanes (thorough: on all), runs it and compares:
/// integers and bools exactly; floats within `tolerance` (relative, and absolute below 1), NaN where the oracle has it.
void check_scene(const Scene& scene, double tolerance = 0, bool thorough = false);

}  // namespace tilewright::testing
