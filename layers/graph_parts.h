// Parts that decoder and encoder layers are made of, as functions that append nodes to a graph. They hold no weights:
// those are params (or any values) of the graph under construction.
//
// Shapes: B batch, S sequence, E embedding, H query heads, G key/value heads, D head dimension. Any of B, S may be
// named.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "ir/graph.h"

namespace tilewright {

/// x [.., K] · weightᵀ + bias, weight [N, K] and bias [N] as deep-learning libraries store them; gives [.., N] in x's
/// dtype. Without a bias: kNoValue.
ValueId linear(GraphBuilder& g, ValueId x, ValueId weight, ValueId bias = kNoValue);

/// x / √(mean(x²) + epsilon) · weight over the last axis; weight [E]. f16 and bf16 are computed in f32.
ValueId rms_norm(GraphBuilder& g, ValueId x, ValueId weight, double epsilon = 1e-6);
/// (x − mean) / √(variance + epsilon) · weight + bias over the last axis; weight and bias [E].
ValueId layer_norm(GraphBuilder& g, ValueId x, ValueId weight, ValueId bias, double epsilon = 1e-5);

/// What a layer may apply to its output. All but `softmax` act on each element; softmax acts on the last axis.
enum class Activation : uint8_t { identity, relu, gelu, silu, tanh, sigmoid, softmax };
std::string_view to_string(Activation activation);
constexpr bool is_vector_activation(Activation a) { return a == Activation::softmax; }
ValueId activate(GraphBuilder& g, ValueId x, Activation activation);

/// down(silu(gate(x)) · up(x)): gate and up [F, E], down [E, F].
ValueId swiglu(GraphBuilder& g, ValueId x, ValueId gate, ValueId up, ValueId down);

/// [B,S,heads·D] → [B,heads,S,D] and back.
ValueId split_heads(GraphBuilder& g, ValueId x, int64_t heads);
ValueId merge_heads(GraphBuilder& g, ValueId x);

/// Which columns of a head form a rotated pair (a, b) → (a·cos − b·sin, b·cos + a·sin).
enum class RopeLayout : uint8_t {
  rotate_half,  ///< d and d + D/2 (GPT-NeoX, Llama in Hugging Face)
  interleaved   ///< 2d and 2d + 1 (GPT-J, the original paper)
};
/// Rotates x [B,heads,S,D] by the rows of cos and sin [M, D/2], M ≥ S. Row s of the sequence has position s, or
/// first + s where `first` (i64, a scalar or [B]) is given; positions past the tables are clamped to the last row.
/// D must be even.
ValueId rope(GraphBuilder& g, ValueId x, ValueId cos, ValueId sin, RopeLayout layout, ValueId first = kNoValue);

struct AttentionForm {
  double scale = 1;                           ///< on Q·Kᵀ
  bool causal = false;                        ///< keeps kv ≤ q + offset
  CausalAlign align = CausalAlign::top_left;  ///< what stands for the offset where there is none
  ValueId offset = kNoValue;                  ///< of the first query, i64 scalar or [B]
  bool alibi = false;
  ValueId slopes = kNoValue;  ///< of ALiBi, [H]; without them the published ones
  ValueId bias = kNoValue;    ///< added to the scores, broadcasts to [B,H,Sq,Sk]
  ValueId mask = kNoValue;    ///< bool, true = attend, broadcasts to [B,H,Sq,Sk]
  double dropout = 0;         ///< of the weights after the softmax; needs the two i64 scalars (semantics 13)
  ValueId seed = kNoValue, draw = kNoValue;  ///< seed and offset of the random bits
  /// What the products read: q, k, v and the weights are cast to it, and the scores are computed in its accumulation
  /// type. nullopt: q's own dtype.
  std::optional<DType> operands;
};
struct AttentionValues {
  ValueId output = kNoValue;   ///< [B,H,Sq,Dv] in q's dtype
  ValueId weights = kNoValue;  ///< [B,H,Sq,Sk] after the softmax, before dropout
};
/// Attention of q [B,H,Sq,D], k [B,G,Sk,D], v [B,G,Sk,Dv]; H must be a multiple of G. Order as in semantics 1: scale,
/// ALiBi, bias, masks, softmax, dropout.
AttentionValues attention(GraphBuilder& g, ValueId q, ValueId k, ValueId v, const AttentionForm& form);

}  // namespace tilewright
