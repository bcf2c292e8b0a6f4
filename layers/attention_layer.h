// Attention layers: they own weights, export the graph that they run, and run it through compiled kernels.
//
//   auto layer = FlashAttentionLayer<float>::create({1024, 512, 8}, AttentionConfig::causal_preset());
//   auto y = layer->forward(x);               // [B,S,E]
//   auto d_x = layer->backward(d_y);          // gradients() of all parameters besides
//   layer->update_parameters(1e-3f);
//
// FlashAttentionLayer and MultiHeadAttentionLayer have one interface, config and parameter vector and compute the same;
// the second keeps every value of the graph in memory, scores included, and is there to compare with.
#pragma once

#include <optional>
#include <span>

#include "compiler/gradient.h"
#include "layers/attention_graph.h"
#include "layers/named_kernel.h"
#include "layers/tensor.h"

namespace tilewright {

struct LayerDiagnostics {
  std::string layer;  ///< what it is, in one line
  std::vector<KernelDiagnostics> kernels;
  std::vector<std::string> notes;  ///< settings that could not take effect as asked, and why
};
std::string print(const LayerDiagnostics& diagnostics);

/// What both layers are; T is float or double. Not safe to use from several threads at once.
/// A function that returns an error has changed nothing.
template <class T>
class AttentionLayer {
 public:
  /// [B,S,E] → [B,S,E], S at most the sequence length. Errors: another rank, width, dtype or a longer sequence.
  Result<Tensor<T>> forward(const TensorView& input);
  /// Gradient of the last forward's input, given that of its output [B,S,E]; adds the parameters' to gradients().
  /// Compiled at the first call. Errors: no forward in training since the parameters changed, another shape.
  Result<Tensor<T>> backward(const TensorView& output_gradient);
  /// Of all parameters, in their order; summed over the calls of backward() since the last update or zero_gradients().
  std::span<const T> gradients() const { return gradients_; }
  void zero_gradients();
  /// parameters −= learning_rate · gradients, then zero_gradients(). Errors: no gradients yet, a rate that is not
  /// finite.
  Result<Done> update_parameters(T learning_rate);
  bool supports_training() const { return gradient_.has_value(); }
  /// A layer begins in training: forward() drops and keeps what backward() needs. Errors: those of compiling.
  Result<Done> set_training(bool training);
  bool is_training() const { return training_; }
  /// Of the last forward: [B,H,S,S], empty unless the config returns them.
  const Tensor<T>& attention_weights() const { return attention_weights_; }

  int64_t parameter_count() const { return static_cast<int64_t>(parameters_.size()); }
  /// Weights and biases of query, key, value and output in this order, weights [out, in] row-major.
  std::span<const T> parameters() const { return parameters_; }
  /// Errors: another length. What forward left for backward is forgotten.
  Result<Done> set_parameters(std::span<const T> values);
  const std::vector<ParameterSlot>& parameter_slots() const { return slots_; }
  std::span<const T> query_weights() const { return parameter(0); }
  std::span<const T> query_biases() const { return parameter(1); }
  std::span<const T> key_weights() const { return parameter(2); }
  std::span<const T> key_biases() const { return parameter(3); }
  std::span<const T> value_weights() const { return parameter(4); }
  std::span<const T> value_biases() const { return parameter(5); }
  std::span<const T> output_weights() const { return parameter(6); }
  std::span<const T> output_biases() const { return parameter(7); }

  const AttentionConfig& config() const { return request_.config; }
  Activation activation() const { return request_.activation; }
  int64_t sequence_length() const { return request_.shape.sequence_length; }
  int64_t embedding_dim() const { return request_.shape.embedding_dim; }
  int64_t head_count() const { return request_.shape.head_count; }
  int64_t kv_head_count() const { return config().kv_heads > 0 ? config().kv_heads : head_count(); }
  int64_t head_dimension() const { return embedding_dim() / head_count(); }

  /// The graph that forward() runs in the present mode, to the bit; what it keeps for backward are further results.
  const Graph& export_computation_graph() const { return current().graph(); }
  /// The graph that backward() runs; null when the layer does not support training.
  const Graph* backward_graph() const { return gradient_ ? &gradient_->backward : nullptr; }
  bool supports_jit_compilation() const { return true; }
  LayerDiagnostics diagnostics() const;
  /// Forgets what forward left for backward, the gradients and the attention weights; parameters stay.
  void reset_state();

  /// Tensors by the names of parameter_slots(). Loading takes any float dtype; errors: a tensor that lacks, that the
  /// layer does not know, or of another shape.
  Result<Done> save(const std::string& path) const;
  Result<Done> load(const std::string& path);

 protected:
  AttentionLayer() = default;
  Result<Done> initialise(const AttentionShape& shape, const AttentionConfig& config, Activation activation,
                          bool materialise, const std::optional<Engine>& engine);

 private:
  /// What a forward pass leaves for backward.
  struct ForwardState {
    Tensor<T> input;
    std::map<std::string, DenseTensor> saved;
  };

  const NamedKernel& current() const { return !training_ && inference_ ? *inference_ : *forward_; }
  NamedKernel& current() { return !training_ && inference_ ? *inference_ : *forward_; }
  std::vector<std::string> wanted_gradients() const;
  /// The forward graph of training, with gradient_ made beside it.
  Graph make_training_graph();
  std::span<const T> parameter(size_t slot) const {
    return std::span(parameters_)
        .subspan(static_cast<size_t>(slots_[slot].offset), static_cast<size_t>(slots_[slot].count));
  }
  CompileOptions compile_options() const;
  void initialise_parameters();
  void make_rope_tables();
  /// The layer's own params by name.
  TensorsByName own_tensors() const;
  Result<Done> check_input(const char* what, const TensorView& view) const;

  AttentionGraphRequest request_;
  bool materialise_ = false;
  std::optional<Engine> engine_;
  std::vector<ParameterSlot> slots_;
  std::vector<T> parameters_;
  Tensor<T> cos_, sin_;             ///< [sequence_length, D/2] with RoPE
  int64_t seed_ = 0, offset_ = -1;  ///< of dropout's random bits; the offset counts forward passes from 0
  bool training_ = true;
  std::optional<Gradient> gradient_;
  std::string no_training_;               ///< why there is no gradient
  std::optional<NamedKernel> forward_;    ///< while training
  std::optional<NamedKernel> inference_;  ///< only where its graph is another one
  std::optional<NamedKernel> backward_;
  Tensor<T> attention_weights_;
  std::vector<T> gradients_;
  bool has_gradients_ = false;
  std::optional<ForwardState> state_;
};

extern template class AttentionLayer<float>;
extern template class AttentionLayer<double>;

/// Attention fused into flash kernels.
template <class T>
class FlashAttentionLayer : public AttentionLayer<T> {
 public:
  /// Compiles at once. Without an engine the layer makes its own. Errors: those of check(shape, config), tiles that do
  /// not fit the caches.
  static Result<FlashAttentionLayer> create(const AttentionShape& shape, const AttentionConfig& config = {},
                                            Activation activation = Activation::identity,
                                            const std::optional<Engine>& engine = {}) {
    FlashAttentionLayer layer;
    if (auto done = layer.initialise(shape, config, activation, false, engine); !done) return done.error();
    return layer;
  }
};

/// The same with every value in memory.
template <class T>
class MultiHeadAttentionLayer : public AttentionLayer<T> {
 public:
  static Result<MultiHeadAttentionLayer> create(const AttentionShape& shape, const AttentionConfig& config = {},
                                                Activation activation = Activation::identity,
                                                const std::optional<Engine>& engine = {}) {
    MultiHeadAttentionLayer layer;
    if (auto done = layer.initialise(shape, config, activation, true, engine); !done) return done.error();
    return layer;
  }
};

}  // namespace tilewright
