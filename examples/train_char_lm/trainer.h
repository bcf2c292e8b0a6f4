// Weights, gradients and Adam around two compiled kernels: the loss, and its gradient for every weight.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "examples/train_char_lm/model.h"
#include "layers/named_kernel.h"
#include "layers/tensor.h"

namespace char_lm {

struct AdamOptions {
  double rate = 2e-3, beta1 = 0.9, beta2 = 0.99, epsilon = 1e-8, weight_decay = 0.01;
  int64_t warmup = 20, steps = 300;  ///< then the rate falls along a cosine to a tenth
};

class Trainer {
 public:
  /// `materialised`: every value of the graphs in memory, scores included, for comparison.
  static tilewright::Result<Trainer> create(const tilewright::Engine& engine, const ModelShape& shape,
                                            bool materialised, uint64_t seed);

  /// tokens and targets [batch, length] row-major. Forward, backward, one Adam step; the loss before it, in nats.
  tilewright::Result<double> step(const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets,
                                  int64_t batch, const AdamOptions& options);

  /// Weights by name and the RoPE tables, as generation_graph takes them.
  const tilewright::TensorsByName& weight_views() const { return weight_views_; }
  int64_t parameter_count() const { return static_cast<int64_t>(weights_.size()); }
  double compile_ms() const;
  int fused_forward() const { return forward_->kernel().stats().fused_attentions; }
  int fused_backward() const { return fused_backward_; }

 private:
  Trainer() = default;
  void initialise(uint64_t seed);
  /// Space for the results of a kernel at these inputs, kept from step to step.
  tilewright::Result<tilewright::Done> prepare_results(const tilewright::NamedKernel& kernel,
                                                       const tilewright::TensorsByName& inputs,
                                                       tilewright::TensorsByName& outputs);
  void adam(const AdamOptions& options);

  ModelShape shape_;
  std::vector<Weight> layout_;
  std::vector<float> weights_, gradients_, mean_, square_;
  tilewright::Tensor<float> cos_, sin_;
  std::map<std::string, tilewright::Tensor<float>> saved_;
  tilewright::TensorsByName weight_views_, gradient_views_;
  std::optional<tilewright::NamedKernel> forward_, backward_;
  int fused_backward_ = 0;
  int64_t steps_ = 0;
};

}  // namespace char_lm
