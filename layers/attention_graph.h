// The graph of an attention layer: input projections, positions, attention, output projection, activation.
#pragma once

#include <string>
#include <vector>

#include "layers/attention_config.h"

namespace tilewright {

/// One weight or bias and where it lies in the layer's parameter vector.
struct ParameterSlot {
  std::string name;  ///< of the graph's param: "query_weight"
  std::vector<int64_t> shape;
  int64_t offset = 0;  ///< in elements
  int64_t count = 0;
};

/// Weights [out, in] and biases [out] of query, key, value and output, in this order, one after another.
std::vector<ParameterSlot> parameter_slots(const AttentionShape& shape, const AttentionConfig& config);

/// Params: x [B,S,E], the slots by name, cos and sin [sequence_length, D/2] with RoPE, seed and offset (i64 scalars)
/// with dropout. Results: y [B,S,E], then attention_weights [B,H,S,S] when the config returns them. x, y and weights
/// are of `dtype`.
struct AttentionGraphRequest {
  AttentionShape shape;
  AttentionConfig config;
  Activation activation = Activation::identity;
  DType dtype = DType::f32;
};
Graph build_attention_graph(const AttentionGraphRequest& request);

}  // namespace tilewright
