// The training half of the attention layers: gradients, backward, updates.
#include <algorithm>
#include <cmath>

#include "layers/attention_layer.h"

namespace tilewright {

template <class T>
std::vector<std::string> AttentionLayer<T>::wanted_gradients() const {
  std::vector<std::string> names = {"x"};
  for (const ParameterSlot& slot : slots_) names.push_back(slot.name);
  return names;
}

template <class T>
Graph AttentionLayer<T>::make_training_graph() {
  Graph graph = build_attention_graph(request_);
  // The attention weights are for looking at; no gradient comes back through them.
  Graph differentiated = graph;
  differentiated.results.resize(1);
  auto made = gradient(differentiated, {wanted_gradients(), config().recompute_in_backward});
  if (!made) {
    no_training_ = to_string(made.error());
    return graph;
  }
  gradient_ = std::move(*made);
  Graph forward = gradient_->forward;
  if (config().return_attention_weights) {
    const auto weights = std::find_if(forward.nodes.begin(), forward.nodes.end(),
                                      [](const Node& node) { return node.name == "attention_weights"; });
    TW_CHECK(weights != forward.nodes.end());
    forward.results.insert(forward.results.begin() + 1, static_cast<ValueId>(weights - forward.nodes.begin()));
  }
  return forward;
}

template <class T>
Result<Done> AttentionLayer<T>::set_training(bool training) {
  const bool another_graph = config().dropout > 0 || !config().recompute_in_backward;
  if (!training && another_graph && !inference_) {
    AttentionGraphRequest request = request_;
    request.config.dropout = 0;
    auto kernel = NamedKernel::compile(*engine_, build_attention_graph(request), compile_options(), "inference");
    if (!kernel) return kernel.error();
    inference_ = std::move(*kernel);
  }
  training_ = training;
  return Done{};
}

template <class T>
Result<Tensor<T>> AttentionLayer<T>::backward(const TensorView& output_gradient) {
  if (!gradient_) return unsupported("this layer does not train: {}", no_training_);
  if (!state_)
    return invalid("backward was called before forward{}",
                   training_ ? "" : ", or forward ran while the layer was not training");
  if (auto ok = check_input("output gradient", output_gradient); !ok) return ok.error();
  for (int axis = 0; axis < 2; ++axis)
    if (output_gradient.shape[axis] != state_->input.shape[static_cast<size_t>(axis)])
      return invalid("the output gradient is [{},{},{}], but the last output was [{}]", output_gradient.shape[0],
                     output_gradient.shape[1], output_gradient.shape[2], fmt::join(state_->input.shape, ","));
  if (!backward_) {
    auto kernel = NamedKernel::compile(*engine_, gradient_->backward, compile_options(), "backward");
    if (!kernel) return kernel.error();
    backward_ = std::move(*kernel);
  }
  TensorsByName inputs = own_tensors();
  inputs["x"] = state_->input.view();
  inputs["d_y"] = output_gradient;
  for (auto& [name, tensor] : state_->saved) inputs[name] = tensor.view();

  Tensor<T> input_gradient(state_->input.shape);
  std::vector<T> summed(parameters_.size());
  TensorsByName outputs = {{"d_x", input_gradient.view()}};
  for (const ParameterSlot& slot : slots_)
    outputs["d_" + slot.name] = TensorView::contiguous(summed.data() + slot.offset, dtype_of<T>, slot.shape);
  if (auto done = backward_->run(inputs, outputs); !done) return done.error();
  for (size_t i = 0; i < summed.size(); ++i) gradients_[i] += summed[i];
  has_gradients_ = true;
  return input_gradient;
}

template <class T>
void AttentionLayer<T>::zero_gradients() {
  std::fill(gradients_.begin(), gradients_.end(), T(0));
  has_gradients_ = false;
}

template <class T>
Result<Done> AttentionLayer<T>::update_parameters(T learning_rate) {
  if (!has_gradients_) return invalid("update_parameters was called before backward");
  if (!std::isfinite(learning_rate)) return invalid("the learning rate is {}, which is not finite", learning_rate);
  for (size_t i = 0; i < parameters_.size(); ++i) parameters_[i] -= learning_rate * gradients_[i];
  zero_gradients();
  state_.reset();
  return Done{};
}

// The class is instantiated beside its other members.
#define TILEWRIGHT_INSTANTIATE(T)                                                \
  template std::vector<std::string> AttentionLayer<T>::wanted_gradients() const; \
  template Graph AttentionLayer<T>::make_training_graph();                       \
  template Result<Done> AttentionLayer<T>::set_training(bool);                   \
  template Result<Tensor<T>> AttentionLayer<T>::backward(const TensorView&);     \
  template void AttentionLayer<T>::zero_gradients();                             \
  template Result<Done> AttentionLayer<T>::update_parameters(T);
TILEWRIGHT_INSTANTIATE(float)
TILEWRIGHT_INSTANTIATE(double)
#undef TILEWRIGHT_INSTANTIATE

}  // namespace tilewright
