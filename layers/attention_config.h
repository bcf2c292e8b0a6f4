// What an attention layer is asked to be. Every field changes the compiled kernels or their results.
#pragma once

#include <optional>
#include <string>

#include "compiler/schedule.h"
#include "ir/result.h"
#include "layers/graph_parts.h"

namespace tilewright {

enum class PositionalEncoding : uint8_t {
  none,
  rope,  ///< rotates Q and K; the tables belong to the layer and are no parameters of training
  alibi  ///< adds slope[h] · (kv − q) with the published slopes
};
std::string_view to_string(PositionalEncoding encoding);
std::string_view to_string(RopeLayout layout);

struct AttentionConfig {
  int64_t kv_heads = 0;  ///< grouped-query attention; 0 = as many as query heads, else it divides those
  ScheduleOverride tiles;
  bool causal = false;
  double dropout = 0;            ///< probability of dropping an attention weight while training, in [0, 1]
  std::optional<double> scale;   ///< on Q·Kᵀ; nullopt = 1/√D
  std::optional<CpuIsa> target;  ///< caps the instruction set; nullopt = what the CPU has
  /// Backward reads nothing from forward but the input and recomputes the rest; else forward keeps what backward
  /// reads: O(S) values per head, never a score.
  bool recompute_in_backward = true;
  /// What q, k, v and the weights are declared as where the products of attention read them: f64, f32, bf16 or f16;
  /// nullopt = the layer's type. Softmax is never narrower than f32.
  std::optional<DType> operands;
  /// How every f32 product of the layer may be computed, projections included; nullopt = as the engine is set.
  std::optional<PrecisionPolicy> precision;
  bool return_attention_weights = false;  ///< materialises them: [B,H,S,S]
  PositionalEncoding positions = PositionalEncoding::none;
  RopeLayout rope_layout = RopeLayout::rotate_half;
  double rope_base = 10000;  ///< pair i of a head turns by position · base^(−2i/D)
  uint64_t seed = 1;         ///< of the initial weights and of dropout

  static AttentionConfig causal_preset();
  static AttentionConfig memory_efficient();  ///< small tiles, everything recomputed
  static AttentionConfig high_performance();  ///< tiles by the rules, forward keeps what backward reads
};

/// What the layer computes on, apart from the config.
struct AttentionShape {
  int64_t sequence_length = 0;  ///< the longest input
  int64_t embedding_dim = 0;
  int64_t head_count = 0;
};

/// Errors: a size that is not positive, heads that do not divide the embedding, kv heads that do not divide the heads,
/// dropout outside [0, 1], a scale or base that is not finite, RoPE of an odd head dimension, tiles below 0.
Result<Done> check(const AttentionShape& shape, const AttentionConfig& config);

}  // namespace tilewright
