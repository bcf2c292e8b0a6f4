// Gradients of both layers against central differences of the loops in double, narrow ones by the accuracy rule too;
// updates, states and errors.
#include <gtest/gtest.h>

#include <random>

#include "tests/layers/layer_cases.h"
#include "tests/layers/reference_layer.h"
#include "tests/support/kernel_check.h"

namespace tilewright {
namespace {

using testing::config_named;
using testing::configs;
using testing::doubles;
using testing::input;
using testing::make;
using testing::test_values;

/// Σ y · direction is the loss, so that direction is the gradient of y.
struct Case {
  AttentionGraphRequest request;
  int64_t batch = 2, length = 5;
  std::vector<double> parameters, x, direction;

  double loss() const {
    const auto y = testing::reference_layer(request, parameters, x, batch, length).y;
    double sum = 0;
    for (size_t i = 0; i < y.size(); ++i) sum += y[i] * direction[i];
    return sum;
  }
  double difference(double& value) {
    constexpr double kStep = 1e-5;
    const double before = value;
    value = before + kStep;
    const double up = loss();
    value = before - kStep;
    const double down = loss();
    value = before;
    return (up - down) / (2 * kStep);
  }
};

template <class T>
Tensor<T> tensor(const std::vector<int64_t>& shape, const std::vector<double>& values) {
  Tensor<T> out(shape);
  out.values.assign(values.begin(), values.end());
  return out;
}

template <class Layer, class T>
void expect_gradients(Layer& layer, Case& c, double bound) {
  const std::vector<int64_t> shape = {c.batch, c.length, c.request.shape.embedding_dim};
  const auto y = layer.forward(tensor<T>(shape, c.x).view());
  ASSERT_TRUE(y) << to_string(y.error());
  const auto d_x = layer.backward(tensor<T>(shape, c.direction).view());
  ASSERT_TRUE(d_x) << to_string(d_x.error()) << print(layer.diagnostics());
  EXPECT_EQ(d_x->shape, shape);
  for (size_t i = 0; i < c.x.size(); i += 3)
    ASSERT_NEAR(d_x->values[i], c.difference(c.x[i]), bound) << "input element " << i;
  for (const ParameterSlot& slot : layer.parameter_slots())
    for (int64_t i = 0; i < slot.count; i += 1 + slot.count / 12) {
      const size_t at = static_cast<size_t>(slot.offset + i);
      ASSERT_NEAR(layer.gradients()[at], c.difference(c.parameters[at]), bound) << slot.name << " element " << i;
    }
}

/// What the gradients are is seen by the oracle of the graph that backward() runs, which rounds nothing, and how well
/// kernels narrower than the layer compute them by the accuracy rule on that graph.
template <class Layer, class T>
void expect_gradients_by_rule(Layer& layer, Case& c) {
  const std::vector<int64_t> shape = {c.batch, c.length, c.request.shape.embedding_dim};
  ASSERT_TRUE(layer.forward(tensor<T>(shape, c.x).view()));
  auto d_x = layer.backward(tensor<T>(shape, c.direction).view());
  ASSERT_TRUE(d_x) << to_string(d_x.error());

  const Graph& graph = *layer.backward_graph();
  const DimBindings dims = {{"B", c.batch}, {"S", c.length}};
  testing::KernelCheck check(graph, dims);
  std::vector<TensorView> inputs;
  for (const ValueId id : graph.params) {
    const std::string& name = graph[id].name;
    const auto slot = std::find_if(layer.parameter_slots().begin(), layer.parameter_slots().end(),
                                   [&](const ParameterSlot& s) { return s.name == name; });
    const bool own = slot != layer.parameter_slots().end();
    ASSERT_TRUE(own || name == "x" || name == "d_y") << name;
    const double* from = own ? c.parameters.data() + slot->offset : name == "x" ? c.x.data() : c.direction.data();
    testing::TestTensor& to = check.input(name);
    for (int64_t i = 0; i < to.size(); ++i) to.set(i, from[i]);
    inputs.push_back(to.view());
  }
  std::vector<T> gradients(layer.gradients().begin(), layer.gradients().end());
  std::vector<TensorView> found;
  for (size_t r = 0; r < graph.results.size(); ++r) {
    const std::string& name = graph[graph.results[r]].name;
    SCOPED_TRACE(name);
    const auto exact = interpret(graph, dims, inputs, r, std::nullopt, Precision::oracle);
    ASSERT_TRUE(exact) << to_string(exact.error());
    const auto slot = std::find_if(layer.parameter_slots().begin(), layer.parameter_slots().end(),
                                   [&](const ParameterSlot& s) { return "d_" + s.name == name; });
    const bool own = slot != layer.parameter_slots().end();
    ASSERT_TRUE(own || name == "d_x");
    double* values = own ? c.parameters.data() + slot->offset : c.x.data();
    for (size_t i = 0; i < exact->values.size(); i += 1 + exact->values.size() / 12)
      ASSERT_NEAR(static_cast<double>(exact->values[i]), c.difference(values[i]), 1e-7) << "element " << i;
    found.push_back(own ? TensorView::contiguous(gradients.data() + slot->offset, dtype_of<T>, slot->shape)
                        : d_x->view());
  }
  check.expect_outputs(found);
}

template <class T>
Case make_case(const AttentionLayer<T>& layer) {
  Case c;
  c.request = {{layer.sequence_length(), layer.embedding_dim(), layer.head_count()},
               layer.config(),
               layer.activation(),
               dtype_of<T>};
  c.parameters = doubles(layer.parameters());
  const auto count = static_cast<size_t>(c.batch * c.length * layer.embedding_dim());
  c.x = test_values<double>(count, 0.3);
  c.direction = test_values<double>(count, 0.9);
  return c;
}

constexpr AttentionShape kSmall{12, 8, 4};

template <class T>
void check_both_layers(const AttentionConfig& config, Activation activation, double bound,
                       const AttentionShape& shape = kSmall) {
  auto flash = make<FlashAttentionLayer<T>>(config, activation, shape);
  auto naive = make<MultiHeadAttentionLayer<T>>(config, activation, shape);
  ASSERT_TRUE(flash.supports_training()) << print(flash.diagnostics());
  Case c = make_case<T>(flash);
  for (double& value : c.x) value = static_cast<T>(value);
  if (config.operands && *config.operands != dtype_of<T>) {
    expect_gradients_by_rule<decltype(flash), T>(flash, c);
    return expect_gradients_by_rule<decltype(naive), T>(naive, c);
  }
  expect_gradients<decltype(flash), T>(flash, c, bound);
  expect_gradients<decltype(naive), T>(naive, c, bound);
}

TEST(Training, GradientsInDoubleOfEveryConfig) {
  for (const auto& [name, config] : configs()) {
    SCOPED_TRACE(name);
    check_both_layers<double>(config, Activation::identity, 1e-7);
    if (HasFatalFailure()) return;
  }
}

TEST(Training, GradientsInFloat) {
  for (const char* name : {"default", "many", "high performance"}) {
    SCOPED_TRACE(name);
    check_both_layers<float>(config_named(name), Activation::identity, 1e-4);
  }
}

TEST(Training, GradientsThroughActivations) {
  for (const Activation activation : {Activation::relu, Activation::gelu, Activation::silu, Activation::tanh,
                                      Activation::sigmoid, Activation::softmax}) {
    SCOPED_TRACE(std::string(to_string(activation)));
    check_both_layers<double>(AttentionConfig::causal_preset(), activation, 1e-7);
  }
}

TEST(Training, GradientsOfRandomConfigs) {
  std::mt19937_64 random(11);
  const auto one_of = [&](auto... choices) {
    const std::array list = {choices...};
    return list[random() % list.size()];
  };
  for (int round = 0; round < 10; ++round) {
    AttentionShape shape{12, 0, one_of(1, 2, 3, 4)};
    shape.embedding_dim = shape.head_count * one_of(2, 4, 6);
    AttentionConfig config;
    config.kv_heads = shape.head_count % 2 == 0 ? one_of(0, 1, 2) : one_of(0, 1);
    config.causal = one_of(true, false);
    config.recompute_in_backward = one_of(true, false);
    config.positions = one_of(PositionalEncoding::none, PositionalEncoding::rope, PositionalEncoding::alibi);
    config.rope_layout = one_of(RopeLayout::rotate_half, RopeLayout::interleaved);
    config.return_attention_weights = one_of(true, false, false);
    if (one_of(true, false)) config.scale = 0.4;
    if (one_of(true, false)) config.tiles = {24, 64};
    const Activation activation = one_of(Activation::identity, Activation::gelu, Activation::softmax);
    SCOPED_TRACE(fmt::format("round {}: E {} H {} G {} causal {} recompute {} positions {} weights {} activation {}",
                             round, shape.embedding_dim, shape.head_count, config.kv_heads, config.causal,
                             config.recompute_in_backward, to_string(config.positions), config.return_attention_weights,
                             to_string(activation)));
    check_both_layers<double>(config, activation, 1e-7, shape);
    if (HasFatalFailure()) return;
  }
}

TEST(Training, RecomputingKeepsNothingAndChangesNothing) {
  AttentionConfig config;
  auto recomputing = make<FlashAttentionLayer<double>>(config, Activation::gelu);
  config.recompute_in_backward = false;
  auto keeping = make<FlashAttentionLayer<double>>(config, Activation::gelu);
  EXPECT_EQ(recomputing.export_computation_graph().results.size(), 1u);
  EXPECT_GT(keeping.export_computation_graph().results.size(), 1u);
  // What is kept has no axis pair [S,S].
  for (const ValueId id : keeping.export_computation_graph().results) {
    const Shape& shape = keeping.export_computation_graph().type(id).shape;
    EXPECT_LE(std::count(shape.begin(), shape.end(), Dim::named("S")), 1) << to_string(shape);
  }
  const auto x = input<double>();
  const auto first = recomputing.forward(x.view()), second = keeping.forward(x.view());
  ASSERT_TRUE(first && second);
  const auto d_first = recomputing.backward(x.view()), d_second = keeping.backward(x.view());
  ASSERT_TRUE(d_first && d_second);
  for (size_t i = 0; i < d_first->values.size(); ++i) ASSERT_NEAR(d_first->values[i], d_second->values[i], 1e-12);
  ASSERT_TRUE(keeping.set_training(false));
  EXPECT_EQ(keeping.export_computation_graph().results.size(), 1u);
  EXPECT_NE(print(*recomputing.backward_graph()), print(*keeping.backward_graph()));
}

TEST(Training, GradientsAddUpAndUpdatesTakeThem) {
  auto layer = make<FlashAttentionLayer<float>>({});
  const auto x = input<float>();
  const auto step = [&] {
    ASSERT_TRUE(layer.forward(x.view()));
    ASSERT_TRUE(layer.backward(x.view()));
  };
  step();
  const std::vector<float> once(layer.gradients().begin(), layer.gradients().end());
  step();
  for (size_t i = 0; i < once.size(); ++i) ASSERT_EQ(layer.gradients()[i], 2 * once[i]);
  layer.zero_gradients();
  step();
  const std::vector<float> before(layer.parameters().begin(), layer.parameters().end());
  ASSERT_TRUE(layer.update_parameters(0.5f));
  for (size_t i = 0; i < once.size(); ++i) ASSERT_EQ(layer.parameters()[i], before[i] - 0.5f * once[i]);
  for (const float g : layer.gradients()) ASSERT_EQ(g, 0);
}

TEST(Training, StepsReduceTheLoss) {
  auto layer = make<FlashAttentionLayer<float>>(config_named("rope"));
  const auto x = input<float>();
  const auto target = test_values<float>(x.values.size(), 0.5);
  std::vector<double> losses;
  for (int step = 0; step < 20; ++step) {
    auto y = layer.forward(x.view());
    ASSERT_TRUE(y);
    double loss = 0;
    for (size_t i = 0; i < target.size(); ++i) {
      y->values[i] = (y->values[i] - target[i]) / static_cast<float>(target.size());
      loss += y->values[i] * y->values[i];
    }
    losses.push_back(loss);
    ASSERT_TRUE(layer.backward(y->view()));
    ASSERT_TRUE(layer.update_parameters(0.2f));
  }
  for (size_t i = 1; i < losses.size(); ++i) EXPECT_LT(losses[i], losses[i - 1]) << "step " << i;
}

TEST(Training, ErrorsAndForgottenStates) {
  auto layer = make<FlashAttentionLayer<float>>({});
  const auto x = input<float>();
  const auto backward = [&](const Tensor<float>& d) {
    const auto d_x = layer.backward(d.view());
    return d_x ? "" : to_string(d_x.error());
  };
  const std::string early = "backward was called before forward";
  EXPECT_EQ(backward(x), early);
  EXPECT_EQ(to_string(layer.update_parameters(1).error()), "update_parameters was called before backward");
  ASSERT_TRUE(layer.forward(x.view()));
  EXPECT_EQ(backward(Tensor<float>({2, 32, 24})),
            "the output gradient is [2,32,24], but the last output was [2,33,24]");
  EXPECT_EQ(backward(Tensor<float>({2, 33, 23})),
            "the output gradient is f32[2,33,23], 23 wide, but the embedding dim is 24");
  EXPECT_EQ(backward(x), "");  // the failed calls left the state as it was
  EXPECT_EQ(to_string(layer.update_parameters(INFINITY).error()), "the learning rate is inf, which is not finite");
  layer.reset_state();
  EXPECT_EQ(backward(x), early);
  ASSERT_TRUE(layer.forward(x.view()));
  ASSERT_TRUE(layer.set_parameters(layer.parameters()));  // other parameters may have made that output
  EXPECT_EQ(backward(x), early);
  ASSERT_TRUE(layer.set_training(false));
  ASSERT_TRUE(layer.forward(x.view()));
  EXPECT_EQ(backward(x), early + ", or forward ran while the layer was not training");
}

}  // namespace
}  // namespace tilewright
