// Causal attention of 4 query heads on 2 KV heads in f32, and plain arrays to run it on: for tests of the runtime,
// which need any attention at all.
#pragma once

#include <string>
#include <vector>

#include "ir/graph.h"
#include "ir/tensor_view.h"

namespace tilewright::testing {

/// graph @causal(%q: f32[B,4,Sq,D], %k: f32[B,2,Sk,D], %v: f32[B,2,Sk,D]) -> f32[B,4,Sq,D], D = head_dim.
std::string causal_text(int64_t head_dim = 16);
Graph causal_graph(int64_t head_dim = 16);

/// Its tensors: inputs between -1 and 1, the output NaN.
struct CausalArguments {
  std::vector<float> q, k, v, o;
  std::vector<TensorView> in, out;
  DimBindings dims;

  CausalArguments(int64_t batch, int64_t sq, int64_t sk, int64_t head_dim = 16);
  CausalArguments(const CausalArguments&) = delete;
};

}  // namespace tilewright::testing
