// Runs a graph on vectors through the engine, for tests of what graphs and layers compute.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "ir/text.h"
#include "runtime/engine.h"

namespace tilewright::testing {

inline const Engine& test_engine() {
  static const Engine kEngine = *Engine::create({2, {}});
  return kEngine;
}

/// Deterministic values in [-1, 1].
template <class T>
std::vector<T> test_values(size_t count, double phase) {
  std::vector<T> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<T>(std::sin(phase + 1.7 * static_cast<double>(i)));
  return out;
}

/// All params and the one result in f64; row-major. Params are bound by position.
inline std::vector<double> run_graph(const Graph& graph, std::vector<std::vector<double>*> params,
                                     const DimBindings& dims) {
  const auto kernel = test_engine().compile(graph);
  EXPECT_TRUE(kernel) << print(graph) << (kernel ? "" : to_string(kernel.error()));
  if (!kernel) return {};
  const auto sizes = [&](const Shape& shape) {
    std::vector<int64_t> out;
    for (const Dim& dim : shape) out.push_back(*dim.evaluate(dims));
    return out;
  };
  std::vector<TensorView> inputs;
  for (size_t i = 0; i < params.size(); ++i)
    inputs.push_back(TensorView::contiguous(params[i]->data(), DType::f64, sizes(graph.type(graph.params[i]).shape)));
  int64_t count = 1;
  for (const int64_t size : sizes(graph.type(graph.results[0]).shape)) count *= size;
  std::vector<double> out(static_cast<size_t>(count));
  const auto done = kernel->run(
      inputs, std::vector{TensorView::contiguous(out.data(), DType::f64, sizes(graph.type(graph.results[0]).shape))});
  EXPECT_TRUE(done) << print(graph) << (done ? "" : to_string(done.error()));
  return out;
}

}  // namespace tilewright::testing
