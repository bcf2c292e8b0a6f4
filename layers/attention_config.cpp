#include "layers/attention_config.h"

#include <cmath>

namespace tilewright {

std::string_view to_string(PositionalEncoding encoding) {
  switch (encoding) {
    case PositionalEncoding::rope: return "rope";
    case PositionalEncoding::alibi: return "alibi";
    case PositionalEncoding::none: break;
  }
  return "none";
}

std::string_view to_string(RopeLayout layout) {
  return layout == RopeLayout::interleaved ? "interleaved" : "rotate_half";
}

AttentionConfig AttentionConfig::causal_preset() {
  AttentionConfig config;
  config.causal = true;
  return config;
}

AttentionConfig AttentionConfig::memory_efficient() {
  AttentionConfig config;
  config.tiles = {48, 64};
  return config;
}

AttentionConfig AttentionConfig::high_performance() {
  AttentionConfig config;
  config.recompute_in_backward = false;
  return config;
}

Result<Done> check(const AttentionShape& shape, const AttentionConfig& config) {
  Diagnostics errors;
  const auto positive = [&](const char* name, int64_t value) {
    if (value < 1) errors.error("{} is {}; it must be at least 1", name, value);
    return value >= 1;
  };
  const bool has_length = positive("the sequence length", shape.sequence_length);
  const bool sized = positive("the embedding dim", shape.embedding_dim) & positive("the head count", shape.head_count);
  constexpr int64_t kLargest = int64_t{1} << 31;
  if (has_length && shape.sequence_length > kLargest)
    errors.error("the sequence length is {}; it may be at most {}", shape.sequence_length, kLargest);
  if (shape.embedding_dim > 1 << 20)
    errors.error("the embedding dim is {}; it may be at most {}", shape.embedding_dim, 1 << 20);
  const bool divides = sized && shape.embedding_dim % shape.head_count == 0;
  if (sized && !divides)
    errors.error("the embedding dim {} is not divisible by the {} heads", shape.embedding_dim, shape.head_count);
  if (config.kv_heads < 0)
    errors.error("kv_heads is {}; it must be at least 1, or 0 for as many as heads", config.kv_heads);
  else if (sized && config.kv_heads > 0 && shape.head_count % config.kv_heads != 0)
    errors.error("{} heads are not divisible by {} kv heads", shape.head_count, config.kv_heads);
  if (!(config.dropout >= 0 && config.dropout <= 1)) errors.error("dropout is {}, outside [0, 1]", config.dropout);
  if (config.scale && !std::isfinite(*config.scale))
    errors.error("the scale is {}, which is not finite", *config.scale);
  if (!(config.rope_base > 0) || !std::isfinite(config.rope_base))
    errors.error("rope_base is {}; it must be positive and finite", config.rope_base);
  if (config.operands && !is_float(*config.operands))
    errors.error("operands {} are no floats; f64, f32, bf16 and f16 are", to_string(*config.operands));
  if (divides && config.positions == PositionalEncoding::rope && shape.embedding_dim / shape.head_count % 2 != 0)
    errors.error("RoPE rotates pairs, but the head dimension {} / {} = {} is odd", shape.embedding_dim,
                 shape.head_count, shape.embedding_dim / shape.head_count);
  for (const auto& [name, size] : {std::pair{"block_q", config.tiles.block_q}, {"block_kv", config.tiles.block_kv}})
    if (size < 0) errors.error("{} is {}; a tile has at least 1 row, 0 leaves it to the rules", name, size);
  if (!errors.empty()) return errors;
  return Done{};
}

}  // namespace tilewright
