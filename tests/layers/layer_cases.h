// The layers' configs that tests walk, and layers and inputs for them.
#pragma once

#include "layers/attention_layer.h"
#include "tests/layers/run_graph.h"

namespace tilewright::testing {

inline constexpr AttentionShape kShape{40, 24, 4};

/// Every field of the config away from its default, one at a time, and the presets.
inline std::vector<std::pair<std::string, AttentionConfig>> configs() {
  std::vector<std::pair<std::string, AttentionConfig>> list = {
      {"default", {}},
      {"causal preset", AttentionConfig::causal_preset()},
      {"memory efficient", AttentionConfig::memory_efficient()},
      {"high performance", AttentionConfig::high_performance()}};
  const auto with = [&](const std::string& name, auto change) {
    AttentionConfig config;
    change(config);
    list.emplace_back(name, config);
  };
  using C = AttentionConfig;
  with("kv_heads", [](C& c) { c.kv_heads = 2; });
  with("block_q", [](C& c) { c.tiles.block_q = 24; });
  with("block_kv", [](C& c) { c.tiles.block_kv = 64; });
  with("dropout", [](C& c) { c.dropout = 0.4; });
  with("all dropped", [](C& c) { c.dropout = 1; });
  with("scale", [](C& c) { c.scale = 0.9; });
  with("target", [](C& c) { c.target = CpuIsa::avx2; });
  with("operands f64", [](C& c) { c.operands = DType::f64; });
  with("operands f32", [](C& c) { c.operands = DType::f32; });
  with("operands bf16", [](C& c) { c.operands = DType::bf16; });
  with("precision bf16", [](C& c) { c.precision = PrecisionPolicy::bf16; });
  with("weights", [](C& c) { c.return_attention_weights = true; });
  with("rope", [](C& c) { c.positions = PositionalEncoding::rope; });
  with("rope interleaved", [](C& c) {
    c.positions = PositionalEncoding::rope;
    c.rope_layout = RopeLayout::interleaved;
  });
  with("rope base", [](C& c) {
    c.positions = PositionalEncoding::rope;
    c.rope_base = 50;
  });
  with("alibi", [](C& c) { c.positions = PositionalEncoding::alibi; });
  with("seed", [](C& c) { c.seed = 2; });
  with("many", [](C& c) {
    c.kv_heads = 1;
    c.causal = true;
    c.positions = PositionalEncoding::rope;
    c.return_attention_weights = true;
    c.scale = 0.3;
    c.dropout = 0.2;
  });
  return list;
}

inline const AttentionConfig& config_named(const std::string& name) {
  static const auto kConfigs = configs();
  for (const auto& [candidate, config] : kConfigs)
    if (candidate == name) return config;
  ADD_FAILURE() << name;
  return kConfigs[0].second;
}

template <class Layer>
Layer make(const AttentionConfig& config, Activation activation = Activation::identity,
           const AttentionShape& shape = kShape) {
  auto layer = Layer::create(shape, config, activation, test_engine());
  EXPECT_TRUE(layer) << (layer ? "" : to_string(layer.error()));
  // Biases start at 0; here they count.
  const auto count = static_cast<size_t>(layer->parameter_count());
  using T = std::remove_cvref_t<decltype(layer->parameters()[0])>;
  std::vector<T> values(layer->parameters().begin(), layer->parameters().end());
  const std::vector<T> noise = test_values<T>(count, 0.7);
  for (size_t i = 0; i < count; ++i) values[i] += noise[i] / 8;
  EXPECT_TRUE(layer->set_parameters(values));
  return std::move(*layer);
}

template <class T>
Tensor<T> input(int64_t batch = 2, int64_t length = 33, int64_t width = kShape.embedding_dim) {
  Tensor<T> x({batch, length, width});
  x.values = test_values<T>(x.values.size(), 0.3);
  return x;
}

template <class T>
std::vector<double> doubles(std::span<const T> values) {
  return {values.begin(), values.end()};
}

}  // namespace tilewright::testing
