#include "layers/attention_graph.h"

#include <cmath>
#include <map>

namespace tilewright {

std::vector<ParameterSlot> parameter_slots(const AttentionShape& shape, const AttentionConfig& config) {
  const int64_t width = shape.embedding_dim;
  const int64_t kv_heads = config.kv_heads > 0 ? config.kv_heads : shape.head_count;
  const int64_t kv_width = width / shape.head_count * kv_heads;
  std::vector<ParameterSlot> slots;
  const auto append = [&](std::string name, std::vector<int64_t> sizes) {
    ParameterSlot slot{std::move(name), std::move(sizes), 0, 1};
    for (const int64_t size : slot.shape) slot.count *= size;
    if (!slots.empty()) slot.offset = slots.back().offset + slots.back().count;
    slots.push_back(std::move(slot));
  };
  for (const auto& [name, out] :
       {std::pair<std::string, int64_t>{"query", width}, {"key", kv_width}, {"value", kv_width}, {"output", width}}) {
    append(name + "_weight", {out, width});
    append(name + "_bias", {out});
  }
  return slots;
}

Graph build_attention_graph(const AttentionGraphRequest& request) {
  const AttentionShape& shape = request.shape;
  const AttentionConfig& config = request.config;
  const int64_t head_dim = shape.embedding_dim / shape.head_count;
  const int64_t kv_heads = config.kv_heads > 0 ? config.kv_heads : shape.head_count;

  GraphBuilder g("attention_layer");
  g.precision(config.precision);
  const auto param = [&](const std::string& name, Shape sizes) {
    return g.param(name, {request.dtype, std::move(sizes)});
  };
  const ValueId x = param("x", {Dim::named("B"), Dim::named("S"), shape.embedding_dim});
  std::map<std::string, ValueId> weights;
  for (const ParameterSlot& slot : parameter_slots(shape, config))
    weights[slot.name] = param(slot.name, Shape(slot.shape.begin(), slot.shape.end()));
  const auto project = [&](const std::string& name, ValueId input) {
    return linear(g, input, weights.at(name + "_weight"), weights.at(name + "_bias"));
  };

  ValueId q = split_heads(g, project("query", x), shape.head_count);
  ValueId k = split_heads(g, project("key", x), kv_heads);
  ValueId v = split_heads(g, project("value", x), kv_heads);
  if (config.positions == PositionalEncoding::rope) {
    const ValueId cos = param("cos", {shape.sequence_length, head_dim / 2});
    const ValueId sin = param("sin", {shape.sequence_length, head_dim / 2});
    q = rope(g, q, cos, sin, config.rope_layout);
    k = rope(g, k, cos, sin, config.rope_layout);
  }
  g.named(q, "q");
  g.named(k, "k");
  g.named(v, "v");

  AttentionForm form;
  form.scale = config.scale.value_or(1 / std::sqrt(static_cast<double>(head_dim)));
  form.causal = config.causal;
  form.alibi = config.positions == PositionalEncoding::alibi;
  form.operands = config.operands;
  form.dropout = config.dropout;
  if (config.dropout > 0) {
    form.seed = g.param("seed", {DType::i64, {}});
    form.draw = g.param("offset", {DType::i64, {}});
  }
  const AttentionValues values = attention(g, q, k, v, form);
  g.named(values.output, "heads");
  const ValueId y = activate(g, project("output", merge_heads(g, values.output)), request.activation);
  g.result(g.named(y, "y"));
  if (config.return_attention_weights) {
    const bool narrow = g.graph().type(values.weights).dtype == request.dtype;
    g.result(g.named(narrow ? values.weights : g.cast(values.weights, request.dtype), "attention_weights"));
  }
  return g.take();
}

}  // namespace tilewright
