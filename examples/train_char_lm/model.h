// The model: a decoder of RMSNorm, RoPE, grouped-query attention and SwiGLU over characters, as two graphs.
#pragma once

#include <string>
#include <vector>

#include "ir/graph.h"

namespace char_lm {

struct ModelShape {
  int64_t layers = 4, embed = 128, heads = 4, kv_heads = 2, hidden = 352, vocab = 0;
  int64_t positions = 4096;  ///< rows of the RoPE tables
  int64_t head_dim() const { return embed / heads; }
};

/// A trained tensor, in the order that both graphs take them.
struct Weight {
  std::string name;
  std::vector<int64_t> shape;
  int64_t size() const;
  bool is_norm() const { return shape.size() == 1; }
};
std::vector<Weight> weights_of(const ModelShape& shape);

/// Params: tokens and targets i32[B,S], cos and sin f32[positions, D/2], the weights. Result: the mean cross entropy in
/// nats, f32[].
tilewright::Graph training_graph(const ModelShape& shape);

/// Params: tokens i32[1,S], past i64[], cos, sin, the weights, and per layer inout %l<i>.keys and %l<i>.values
/// f32[1,kv_heads,N,D], whose rows past … past + S − 1 are written. Result: logits of the last token, f32[V].
tilewright::Graph generation_graph(const ModelShape& shape);

}  // namespace char_lm
