#include "examples/train_char_lm/trainer.h"

#include <cmath>
#include <random>
#include <variant>

#include "compiler/gradient.h"

namespace char_lm {
using namespace tilewright;

namespace {

int count_backward_steps(const Program& program) {
  int count = 0;
  for (const Step& step : program.steps) count += std::holds_alternative<BackwardStep>(step.what) ? 1 : 0;
  return count;
}

}  // namespace

Result<Trainer> Trainer::create(const Engine& engine, const ModelShape& shape, bool materialised, uint64_t seed) {
  Trainer out;
  out.shape_ = shape;
  out.layout_ = weights_of(shape);
  out.initialise(seed);

  GradientRequest request;
  for (const Weight& weight : out.layout_) request.wrt.push_back(weight.name);
  auto both = gradient(training_graph(shape), request);
  if (!both) return both.error();
  CompileOptions options;
  options.materialise = materialised;
  auto forward = NamedKernel::compile(engine, both->forward, options, "forward");
  if (!forward) return forward.error();
  auto backward = NamedKernel::compile(engine, both->backward, options, "backward");
  if (!backward) return backward.error();
  out.fused_backward_ = count_backward_steps(backward->kernel().program());
  out.forward_ = std::move(*forward);
  out.backward_ = std::move(*backward);
  return out;
}

double Trainer::compile_ms() const {
  return forward_->kernel().stats().total_ms + backward_->kernel().stats().total_ms;
}

void Trainer::initialise(uint64_t seed) {
  int64_t count = 0;
  for (const Weight& weight : layout_) count += weight.size();
  for (auto* values : {&weights_, &gradients_, &mean_, &square_}) values->assign(static_cast<size_t>(count), 0.0f);
  std::mt19937_64 random(seed);
  int64_t at = 0;
  for (const Weight& weight : layout_) {
    // Gaussians whose products keep the scale of what they multiply; norms start as ones.
    const double deviation =
        weight.name == "embedding" ? 0.05 : std::sqrt(0.5 / static_cast<double>(weight.shape.back()));
    std::normal_distribution<double> gaussian(0, deviation);
    for (int64_t i = 0; i < weight.size(); ++i)
      weights_[static_cast<size_t>(at + i)] = weight.is_norm() ? 1.0f : static_cast<float>(gaussian(random));
    weight_views_[weight.name] = TensorView::contiguous(weights_.data() + at, DType::f32, weight.shape);
    gradient_views_["d_" + weight.name] = TensorView::contiguous(gradients_.data() + at, DType::f32, weight.shape);
    at += weight.size();
  }
  const int64_t half = shape_.head_dim() / 2;
  cos_ = Tensor<float>({shape_.positions, half});
  sin_ = cos_;
  for (int64_t position = 0; position < shape_.positions; ++position)
    for (int64_t d = 0; d < half; ++d) {
      const double angle =
          static_cast<double>(position) * std::pow(10000.0, -static_cast<double>(d) / static_cast<double>(half));
      cos_.values[static_cast<size_t>(position * half + d)] = static_cast<float>(std::cos(angle));
      sin_.values[static_cast<size_t>(position * half + d)] = static_cast<float>(std::sin(angle));
    }
  weight_views_["cos"] = cos_.view();
  weight_views_["sin"] = sin_.view();
}

Result<Done> Trainer::prepare_results(const NamedKernel& kernel, const TensorsByName& inputs, TensorsByName& outputs) {
  auto shapes = kernel.result_shapes(inputs);
  if (!shapes) return shapes.error();
  for (const auto& result : *shapes) {
    if (outputs.contains(result.name)) continue;
    Tensor<float>& tensor = saved_[result.name];
    if (tensor.values.empty() || tensor.shape != result.shape) tensor = Tensor<float>(result.shape);
    outputs[result.name] = tensor.view();
  }
  return Done{};
}

Result<double> Trainer::step(const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets, int64_t batch,
                             const AdamOptions& options) {
  const std::vector<int64_t> shape = {batch, static_cast<int64_t>(tokens.size()) / batch};
  TensorsByName inputs = weight_views_;
  inputs["tokens"] = TensorView::contiguous(const_cast<int32_t*>(tokens.data()), DType::i32, shape);
  inputs["targets"] = TensorView::contiguous(const_cast<int32_t*>(targets.data()), DType::i32, shape);
  TensorsByName results;
  if (auto ok = prepare_results(*forward_, inputs, results); !ok) return ok.error();
  if (auto ok = forward_->run(inputs, results); !ok) return ok.error();

  for (const auto& [name, view] : results) inputs[name] = view;
  float one = 1;
  inputs["d_loss"] = TensorView::contiguous(&one, DType::f32, {});
  if (auto ok = backward_->run(inputs, gradient_views_); !ok) return ok.error();
  const double loss = saved_.at("loss").values[0];
  adam(options);
  return loss;
}

void Trainer::adam(const AdamOptions& o) {
  ++steps_;
  const auto t = static_cast<double>(steps_);
  const double along = std::min(1.0, t / static_cast<double>(o.steps));
  const double rate = o.rate * std::min(1.0, t / static_cast<double>(o.warmup)) *
                      (0.1 + 0.45 * (1 + std::cos(3.14159265358979 * along)));
  const auto scale1 = static_cast<float>(1 / (1 - std::pow(o.beta1, t)));
  const auto scale2 = static_cast<float>(1 / (1 - std::pow(o.beta2, t)));
  const auto b1 = static_cast<float>(o.beta1), b2 = static_cast<float>(o.beta2), step = static_cast<float>(rate);
  const auto epsilon = static_cast<float>(o.epsilon), decay = static_cast<float>(rate * o.weight_decay);
  for (size_t i = 0; i < weights_.size(); ++i) {
    const float g = gradients_[i];
    mean_[i] = b1 * mean_[i] + (1 - b1) * g;
    square_[i] = b2 * square_[i] + (1 - b2) * g * g;
    weights_[i] -= step * scale1 * mean_[i] / (std::sqrt(scale2 * square_[i]) + epsilon) + decay * weights_[i];
  }
}

}  // namespace char_lm
