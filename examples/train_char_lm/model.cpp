#include "examples/train_char_lm/model.h"

#include <cmath>
#include <map>

#include "layers/graph_parts.h"

namespace char_lm {
using namespace tilewright;

namespace {

const Dim B = Dim::named("B"), S = Dim::named("S"), N = Dim::named("N");

std::string layer_name(int64_t layer, const char* what) { return "l" + std::to_string(layer) + "." + what; }

/// The graph under construction; `cache` is what the two graphs differ in.
class Decoder {
 public:
  Decoder(const ModelShape& shape, const char* name) : g(name), shape_(shape) {}

  void add_tables_and_weights() {
    cos_ = g.param("cos", {DType::f32, {shape_.positions, shape_.head_dim() / 2}});
    sin_ = g.param("sin", {DType::f32, {shape_.positions, shape_.head_dim() / 2}});
    for (const Weight& weight : weights_of(shape_))
      weights_[weight.name] = g.param(weight.name, {DType::f32, Shape(weight.shape.begin(), weight.shape.end())});
  }

  /// Caches of all layers: inout params, written from position `past` on.
  void add_caches(ValueId past) {
    past_ = past;
    const TensorType type{DType::f32, {1, shape_.kv_heads, N, shape_.head_dim()}};
    for (int64_t layer = 0; layer < shape_.layers; ++layer) {
      keys_.push_back(g.param(layer_name(layer, "keys"), type, true));
      values_.push_back(g.param(layer_name(layer, "values"), type, true));
    }
  }

  /// tokens [B,S] to the last layer's normalised output [B,S,E].
  ValueId hidden_states(ValueId tokens, const Dim& batch) {
    const ValueId row = g.reshape(tokens, {batch, S, 1});
    ValueId x = g.load(weights_.at("embedding"), {row, g.index(2, {1, 1, shape_.embed})});
    for (int64_t layer = 0; layer < shape_.layers; ++layer) {
      x = g.binary(Op::add, x, attend(rms_norm(g, x, weight(layer, "attention_norm")), layer));
      const ValueId h = rms_norm(g, x, weight(layer, "hidden_norm"));
      x = g.binary(Op::add, x, swiglu(g, h, weight(layer, "gate"), weight(layer, "up"), weight(layer, "down")));
      x = g.named(x, "x" + std::to_string(layer + 1));
    }
    return rms_norm(g, x, weights_.at("norm"));
  }

  ValueId logits(ValueId states) { return g.named(linear(g, states, weights_.at("head")), "logits"); }

  GraphBuilder g;

 private:
  ValueId weight(int64_t layer, const char* what) const { return weights_.at(layer_name(layer, what)); }

  ValueId attend(ValueId x, int64_t layer) {
    const ValueId q = rope(g, split_heads(g, linear(g, x, weight(layer, "query")), shape_.heads), cos_, sin_,
                           RopeLayout::rotate_half, past_);
    ValueId k = rope(g, split_heads(g, linear(g, x, weight(layer, "key")), shape_.kv_heads), cos_, sin_,
                     RopeLayout::rotate_half, past_);
    ValueId v = split_heads(g, linear(g, x, weight(layer, "value")), shape_.kv_heads);
    if (!keys_.empty()) {
      k = g.update(keys_[static_cast<size_t>(layer)], k, past_, 2);
      v = g.update(values_[static_cast<size_t>(layer)], v, past_, 2);
    }
    AttentionForm form;
    form.scale = 1 / std::sqrt(static_cast<double>(shape_.head_dim()));
    form.causal = true;
    form.offset = past_;
    return linear(g, merge_heads(g, attention(g, q, k, v, form).output), weight(layer, "output"));
  }

  const ModelShape& shape_;
  ValueId cos_ = kNoValue, sin_ = kNoValue, past_ = kNoValue;
  std::map<std::string, ValueId> weights_;
  std::vector<ValueId> keys_, values_;
};

}  // namespace

int64_t Weight::size() const {
  int64_t count = 1;
  for (int64_t extent : shape) count *= extent;
  return count;
}

std::vector<Weight> weights_of(const ModelShape& s) {
  const int64_t kv = s.kv_heads * s.head_dim();
  std::vector<Weight> weights = {{"embedding", {s.vocab, s.embed}}};
  for (int64_t layer = 0; layer < s.layers; ++layer) {
    const auto add = [&](const char* what, std::vector<int64_t> shape) {
      weights.push_back({layer_name(layer, what), std::move(shape)});
    };
    add("attention_norm", {s.embed});
    add("query", {s.embed, s.embed});
    add("key", {kv, s.embed});
    add("value", {kv, s.embed});
    add("output", {s.embed, s.embed});
    add("hidden_norm", {s.embed});
    add("gate", {s.hidden, s.embed});
    add("up", {s.hidden, s.embed});
    add("down", {s.embed, s.hidden});
  }
  weights.push_back({"norm", {s.embed}});
  weights.push_back({"head", {s.vocab, s.embed}});
  return weights;
}

Graph training_graph(const ModelShape& shape) {
  Decoder d(shape, "char_lm");
  GraphBuilder& g = d.g;
  const ValueId tokens = g.param("tokens", {DType::i32, {B, S}});
  const ValueId targets = g.param("targets", {DType::i32, {B, S}});
  d.add_tables_and_weights();
  const ValueId logits = d.logits(d.hidden_states(tokens, B));
  const ValueId is_target =
      g.binary(Op::eq, g.index(2, {1, 1, shape.vocab}, DType::i32), g.reshape(targets, {B, S, 1}));
  const ValueId picked = g.reduce(Op::reduce_sum, g.select(is_target, logits, g.constant(0, DType::f32)), 2, false);
  const ValueId loss = g.binary(Op::sub, g.logsumexp(logits, 2, false), picked);
  g.result(g.named(g.reduce(Op::reduce_mean, g.reduce(Op::reduce_mean, loss, 1, false), 0, false), "loss"));
  return g.take();
}

Graph generation_graph(const ModelShape& shape) {
  Decoder d(shape, "char_lm_step");
  GraphBuilder& g = d.g;
  const ValueId tokens = g.param("tokens", {DType::i32, {1, S}});
  const ValueId past = g.param("past", {DType::i64, {}});
  d.add_tables_and_weights();
  d.add_caches(past);
  const ValueId last = g.slice(d.hidden_states(tokens, 1), 1, S - 1, S);
  g.result(g.named(g.reshape(d.logits(last), {shape.vocab}), "next"));
  return g.take();
}

}  // namespace char_lm
