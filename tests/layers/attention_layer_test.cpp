// Both layers against loops in double, for every field of the config; exported graphs; parameters; errors.
#include "layers/attention_layer.h"

#include <cstring>
#include <filesystem>
#include <functional>

#include "layers/safetensors.h"
#include "tests/layers/layer_cases.h"
#include "tests/layers/reference_layer.h"

namespace tilewright {
namespace {

using testing::config_named;
using testing::configs;
using testing::doubles;
using testing::input;
using testing::kShape;
using testing::make;
using testing::test_engine;

template <class Layer>
double worst_error(Layer& layer, const Tensor<float>& x, const Tensor<float>& y) {
  const AttentionGraphRequest request{kShape, layer.config(), layer.activation(), DType::f32};
  const auto expected = testing::reference_layer(request, doubles(layer.parameters()),
                                                 doubles(std::span<const float>(x.values)), x.shape[0], x.shape[1]);
  double worst = 0;
  EXPECT_EQ(y.values.size(), expected.y.size());
  for (size_t i = 0; i < expected.y.size(); ++i) worst = std::max(worst, std::abs(y.values[i] - expected.y[i]));
  if (layer.config().return_attention_weights) {
    EXPECT_EQ(layer.attention_weights().values.size(), expected.weights.size());
    for (size_t i = 0; i < expected.weights.size(); ++i)
      worst = std::max(worst, std::abs(layer.attention_weights().values[i] - expected.weights[i]));
  } else {
    EXPECT_TRUE(layer.attention_weights().values.empty());
  }
  return worst;
}

TEST(AttentionLayer, ComputesWhatTheConfigSays) {
  for (const auto& [name, config] : configs()) {
    SCOPED_TRACE(name);
    const bool narrow = config.operands == DType::bf16 || config.precision == PrecisionPolicy::bf16;
    const double bound = narrow ? 3e-2 : 3e-6;
    const Tensor<float> x = input<float>();
    auto flash = make<FlashAttentionLayer<float>>(config);
    auto naive = make<MultiHeadAttentionLayer<float>>(config);
    const auto flash_y = flash.forward(x.view()), naive_y = naive.forward(x.view());
    ASSERT_TRUE(flash_y) << to_string(flash_y.error());
    ASSERT_TRUE(naive_y) << to_string(naive_y.error());
    EXPECT_EQ(flash_y->shape, x.shape);
    EXPECT_LE(worst_error(flash, x, *flash_y), bound);
    EXPECT_LE(worst_error(naive, x, *naive_y), bound);
    const int fused = flash.diagnostics().kernels[0].stats.fused_attentions;
    EXPECT_EQ(fused, config.return_attention_weights ? 0 : 1) << print(flash.diagnostics());
    EXPECT_EQ(naive.diagnostics().kernels[0].stats.fused_attentions, 0);
  }
}

TEST(AttentionLayer, DoubleComputesInDouble) {
  for (const char* name : {"default", "many", "alibi", "operands f64"}) {
    SCOPED_TRACE(name);
    const Tensor<double> x = input<double>();
    auto layer = make<FlashAttentionLayer<double>>(config_named(name));
    const auto y = layer.forward(x.view());
    ASSERT_TRUE(y) << to_string(y.error());
    const AttentionGraphRequest request{kShape, layer.config(), layer.activation(), DType::f64};
    const auto expected = testing::reference_layer(request, doubles(layer.parameters()), x.values, 2, 33);
    for (size_t i = 0; i < expected.y.size(); ++i) ASSERT_NEAR(y->values[i], expected.y[i], 1e-13);
  }
}

TEST(AttentionLayer, Activations) {
  for (const Activation activation : {Activation::relu, Activation::gelu, Activation::silu, Activation::tanh,
                                      Activation::sigmoid, Activation::softmax}) {
    SCOPED_TRACE(std::string(to_string(activation)));
    auto layer = make<FlashAttentionLayer<float>>({}, activation);
    EXPECT_EQ(layer.activation(), activation);
    const Tensor<float> x = input<float>();
    const auto y = layer.forward(x.view());
    ASSERT_TRUE(y) << to_string(y.error());
    EXPECT_LE(worst_error(layer, x, *y), 3e-6);
  }
}

/// Runs what the text of the layer's graph says on the layer's parameters. `plant` puts a fault into the export.
Tensor<float> run_exported(const FlashAttentionLayer<float>& layer, const Tensor<float>& x,
                           const std::function<void(Graph&)>& plant = {}) {
  Graph exported = layer.export_computation_graph();
  if (plant) plant(exported);
  const std::string text = print(exported);
  const auto graph = parse_graph(text);
  EXPECT_TRUE(graph) << text << (graph ? "" : to_string(graph.error()));
  EXPECT_EQ(print(*graph), text);
  CompileOptions options;
  options.tiles = layer.config().tiles;
  options.max_isa = layer.config().target;
  options.use_cache = false;
  const auto kernel = test_engine().compile(*graph, options);
  EXPECT_TRUE(kernel) << (kernel ? "" : to_string(kernel.error()));
  const int64_t half = layer.head_dimension() / 2;
  Tensor<float> cos({layer.sequence_length(), half}), sin = cos;
  for (int64_t p = 0; p < layer.sequence_length(); ++p)
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(p) * std::pow(layer.config().rope_base, -2.0 * static_cast<double>(i) / (2.0 * half));
      cos.values[p * half + i] = static_cast<float>(std::cos(angle));
      sin.values[p * half + i] = static_cast<float>(std::sin(angle));
    }
  auto seed = static_cast<int64_t>(layer.config().seed);
  int64_t draw = 0;  // of the first forward pass
  std::vector<TensorView> inputs;
  for (const ValueId id : graph->params) {
    const std::string& name = (*graph)[id].name;
    if (name == "x") inputs.push_back(x.view());
    if (name == "cos") inputs.push_back(cos.view());
    if (name == "sin") inputs.push_back(sin.view());
    if (name == "seed") inputs.push_back(TensorView::contiguous(&seed, DType::i64, {}));
    if (name == "offset") inputs.push_back(TensorView::contiguous(&draw, DType::i64, {}));
    for (const ParameterSlot& slot : layer.parameter_slots())
      if (slot.name == name)
        inputs.push_back(TensorView::contiguous(const_cast<float*>(layer.parameters().data()) + slot.offset, DType::f32,
                                                slot.shape));
  }
  Tensor<float> y(x.shape);
  std::vector<DenseTensor> others;  // attention weights, and what is kept for backward
  std::vector<TensorView> outputs = {y.view()};
  const auto shapes = kernel->result_shapes(*kernel->bind(inputs));
  for (size_t i = 1; i < graph->results.size(); ++i)
    outputs.push_back(others.emplace_back(graph->type(graph->results[i]).dtype, (*shapes)[i]).view());
  const auto done = kernel->run(inputs, outputs);
  EXPECT_TRUE(done) << (done ? "" : to_string(done.error()));
  return y;
}

TEST(AttentionLayer, ExportedTextIsTheLayerToTheBit) {
  const Tensor<float> x = input<float>();
  const auto check = [&](const std::string& name, FlashAttentionLayer<float> layer) {
    SCOPED_TRACE(name);
    const auto y = layer.forward(x.view());
    ASSERT_TRUE(y);
    EXPECT_EQ(std::memcmp(y->values.data(), run_exported(layer, x).values.data(), 4 * y->values.size()), 0);
  };
  for (const auto& [name, config] : configs()) check(name, make<FlashAttentionLayer<float>>(config));
  auto inference = make<FlashAttentionLayer<float>>(config_named("high performance"));
  ASSERT_TRUE(inference.set_training(false));
  EXPECT_EQ(inference.export_computation_graph().results.size(), 1u);
  check("inference", std::move(inference));
  for (const Activation activation : {Activation::gelu, Activation::softmax})
    check(std::string(to_string(activation)), make<FlashAttentionLayer<float>>({}, activation));
}

/// Readers of every `op` node read what it reads first.
void drop(Graph& graph, Op op) {
  int dropped = 0;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].op != op) continue;
    ++dropped;
    for (Node& reader : graph.nodes)
      for (ValueId& operand : reader.operands)
        if (operand == ValueId{static_cast<int32_t>(i)}) operand = graph.nodes[i].operands[0];
  }
  EXPECT_GT(dropped, 0) << "nothing was planted";
}

// What exporters in the field lost: the causal flag, the scale, the output bias.
TEST(AttentionLayer, AnExportThatLosesSomethingIsSeen) {
  AttentionConfig config;
  config.causal = true;
  config.scale = 0.9;
  auto layer = make<FlashAttentionLayer<float>>(config);
  const Tensor<float> x = input<float>();
  const auto y = layer.forward(x.view());
  ASSERT_TRUE(y);
  EXPECT_EQ(run_exported(layer, x).values, y->values);
  EXPECT_NE(run_exported(layer, x, [](Graph& graph) { drop(graph, Op::mask_causal); }).values, y->values);
  const auto without_scale = [](Graph& graph) {
    int changed = 0;
    for (Node& node : graph.nodes)
      if (node.op == Op::constant && std::abs(node.attributes.literal.real - 0.9) < 1e-6) {
        ++changed;
        node.attributes.literal.real = 1;
      }
    EXPECT_GT(changed, 0) << "nothing was planted";
  };
  EXPECT_NE(run_exported(layer, x, without_scale).values, y->values);
  const auto without_output_bias = [](Graph& graph) {
    Node* last = nullptr;
    for (Node& node : graph.nodes)
      if (node.op == Op::add) last = &node;
    ASSERT_NE(last, nullptr);
    for (Node& reader : graph.nodes)
      for (ValueId& operand : reader.operands)
        if (&graph[operand] == last) operand = last->operands[0];
    for (ValueId& result : graph.results)
      if (&graph[result] == last) result = last->operands[0];
  };
  EXPECT_NE(run_exported(layer, x, without_output_bias).values, y->values);
}

TEST(AttentionLayer, EveryFieldChangesTheKernelOrTheResult) {
  const Tensor<float> x = input<float>();
  /// Everything that a field may change: values and weights of a forward pass, graph and schedules.
  const auto fingerprint = [&](const AttentionConfig& config) {
    auto layer = FlashAttentionLayer<float>::create(kShape, config, Activation::identity, test_engine());
    EXPECT_TRUE(layer) << to_string(layer.error());
    const auto y = layer->forward(x.view());
    EXPECT_TRUE(y);
    std::string text = print(layer->export_computation_graph());
    for (const KernelDiagnostics& kernel : layer->diagnostics().kernels)
      for (const StepReport& step : kernel.stats.step_reports)
        for (const CpuSchedule& schedule : step.schedules) text += print(schedule);
    text.append(reinterpret_cast<const char*>(y->values.data()), 4 * y->values.size());
    return text;
  };
  const std::string plain = fingerprint({}), rope = fingerprint(config_named("rope"));
  for (const auto& [name, config] : configs()) {
    const bool same_as_default = name == "default" || name == "operands f32" ||  // the layer's own type
                                 (name == "target" && test_engine().target().isa == CpuIsa::avx2);
    EXPECT_EQ(fingerprint(config) == plain, same_as_default) << name;
  }
  EXPECT_NE(fingerprint(config_named("rope interleaved")), rope);
  EXPECT_NE(fingerprint(config_named("rope base")), rope);
}

TEST(AttentionLayer, DropoutDrawsAnewAndIsForTraining) {
  auto layer = make<FlashAttentionLayer<float>>(config_named("dropout"));
  auto again = make<FlashAttentionLayer<float>>(config_named("dropout"));
  auto plain = make<FlashAttentionLayer<float>>({});
  const Tensor<float> x = input<float>();
  const auto first = layer.forward(x.view()), second = layer.forward(x.view());
  ASSERT_TRUE(first && second);
  EXPECT_NE(first->values, second->values);
  EXPECT_EQ(again.forward(x.view())->values, first->values);
  const AttentionGraphRequest request{kShape, layer.config(), layer.activation(), DType::f32};
  const auto expected = testing::reference_layer(request, doubles(layer.parameters()),
                                                 doubles(std::span<const float>(x.values)), 2, 33, 1);
  for (size_t i = 0; i < expected.y.size(); ++i) ASSERT_NEAR(second->values[i], expected.y[i], 3e-6);
  ASSERT_TRUE(layer.set_training(false));
  EXPECT_EQ(layer.forward(x.view())->values, plain.forward(x.view())->values);
}

TEST(AttentionLayer, DiagnosticsSayWhatCompiled) {
  AttentionConfig config;
  config.tiles = {24, 64};
  config.return_attention_weights = false;
  auto layer = make<FlashAttentionLayer<float>>(config);
  ASSERT_TRUE(layer.forward(input<float>().view()));
  const std::string text = print(layer.diagnostics());
  for (const char* part : {"flash attention of f32", "1 fused attention", "prefill", "block_q 24 was asked for",
                           "block_kv 64 was asked for", "last run", "workspace"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  config.return_attention_weights = true;
  const auto whole = make<FlashAttentionLayer<float>>(config);
  const std::string notes = print(whole.diagnostics());
  EXPECT_NE(notes.find("note: the attention weights are returned, so that scores are materialised"), std::string::npos);
  EXPECT_NE(notes.find("note: tiles 24x64 have no effect"), std::string::npos);
}

TEST(AttentionLayer, ParametersAreOneVector) {
  AttentionConfig config;
  config.kv_heads = 2;
  auto layer = make<FlashAttentionLayer<float>>(config);
  EXPECT_EQ(layer.parameter_count(), 24 * 24 + 24 + 2 * (12 * 24 + 12) + 24 * 24 + 24);
  EXPECT_EQ(layer.head_count(), 4);
  EXPECT_EQ(layer.kv_head_count(), 2);
  EXPECT_EQ(layer.head_dimension(), 6);
  EXPECT_TRUE(layer.supports_jit_compilation());
  EXPECT_EQ(layer.query_weights().data(), layer.parameters().data());
  EXPECT_EQ(layer.key_weights().size(), 12u * 24);
  EXPECT_EQ(layer.output_biases().data() + 24, layer.parameters().data() + layer.parameter_count());
  auto other = make<FlashAttentionLayer<float>>(config_named("kv_heads"));
  const std::vector<float> values(layer.parameters().begin(), layer.parameters().end());
  const auto short_by_one = other.set_parameters(std::span(values).first(values.size() - 1));
  ASSERT_FALSE(short_by_one);
  EXPECT_EQ(to_string(short_by_one.error()),
            fmt::format("{} parameters were given, but the layer has {}", values.size() - 1, values.size()));
}

TEST(AttentionLayer, WeightsSurviveAFile) {
  const std::string path = ::testing::TempDir() + "/tilewright_attention_layer.safetensors";
  auto layer = make<FlashAttentionLayer<float>>({});
  ASSERT_TRUE(layer.save(path));
  AttentionConfig other_seed;
  other_seed.seed = 9;
  auto other = *FlashAttentionLayer<float>::create(kShape, other_seed, Activation::identity, test_engine());
  auto twin = *MultiHeadAttentionLayer<double>::create(kShape, other_seed, Activation::identity, test_engine());
  ASSERT_TRUE(other.load(path));
  ASSERT_TRUE(twin.load(path));  // f32 in the file, f64 in the layer
  for (int64_t i = 0; i < layer.parameter_count(); ++i) {
    ASSERT_EQ(other.parameters()[i], layer.parameters()[i]);
    ASSERT_EQ(twin.parameters()[i], static_cast<double>(layer.parameters()[i]));
  }
  AttentionConfig grouped;
  grouped.kv_heads = 2;
  auto narrow = *FlashAttentionLayer<float>::create(kShape, grouped, Activation::identity, test_engine());
  const std::vector<float> before(narrow.parameters().begin(), narrow.parameters().end());
  const auto refused = narrow.load(path);
  ASSERT_FALSE(refused);
  EXPECT_EQ(to_string(refused.error()), path + " holds 'key_weight' as [24,24], but the layer's is [12,24]");
  EXPECT_TRUE(std::equal(before.begin(), before.end(), narrow.parameters().begin()));
  float value = 0;
  ASSERT_TRUE(write_safetensors(path, {{"query_weight", TensorView::contiguous(&value, DType::f32, {1})}}));
  EXPECT_FALSE(narrow.load(path));
  std::filesystem::remove(path);
  EXPECT_FALSE(narrow.load(path));
}

TEST(AttentionLayer, BadConfigsNameBothValues) {
  const auto message = [](const AttentionShape& shape, const AttentionConfig& config) {
    const auto layer = FlashAttentionLayer<float>::create(shape, config, Activation::identity, test_engine());
    return layer ? "" : to_string(layer.error());
  };
  const auto with = [&](auto change) {
    AttentionConfig config;
    change(config);
    return message(kShape, config);
  };
  using C = AttentionConfig;
  EXPECT_EQ(message({40, 25, 4}, {}), "the embedding dim 25 is not divisible by the 4 heads");
  EXPECT_EQ(message({0, 24, 4}, {}), "the sequence length is 0; it must be at least 1");
  EXPECT_EQ(message({40, -24, 4}, {}), "the embedding dim is -24; it must be at least 1");
  EXPECT_EQ(message({40, 24, 0}, {}), "the head count is 0; it must be at least 1");
  EXPECT_EQ(with([](C& c) { c.kv_heads = 3; }), "4 heads are not divisible by 3 kv heads");
  EXPECT_EQ(with([](C& c) { c.kv_heads = -1; }), "kv_heads is -1; it must be at least 1, or 0 for as many as heads");
  EXPECT_EQ(with([](C& c) { c.dropout = 1.5; }), "dropout is 1.5, outside [0, 1]");
  EXPECT_EQ(with([](C& c) { c.dropout = -0.1; }), "dropout is -0.1, outside [0, 1]");
  EXPECT_EQ(with([](C& c) { c.dropout = NAN; }), "dropout is nan, outside [0, 1]");
  EXPECT_EQ(with([](C& c) { c.scale = INFINITY; }), "the scale is inf, which is not finite");
  EXPECT_EQ(with([](C& c) { c.rope_base = 0; }), "rope_base is 0; it must be positive and finite");
  EXPECT_EQ(with([](C& c) { c.operands = DType::i32; }), "operands i32 are no floats; f64, f32, bf16 and f16 are");
  EXPECT_EQ(with([](C& c) { c.tiles.block_q = -4; }),
            "block_q is -4; a tile has at least 1 row, 0 leaves it to the rules");
  EXPECT_NE(with([](C& c) { c.tiles.block_kv = 1 << 20; }).find("more than the"), std::string::npos);
  AttentionConfig rope;
  rope.positions = PositionalEncoding::rope;
  EXPECT_EQ(message({40, 20, 4}, rope), "RoPE rotates pairs, but the head dimension 20 / 4 = 5 is odd");
}

TEST(AttentionLayer, BadInputsNameBothValuesAndChangeNothing) {
  auto layer = make<FlashAttentionLayer<float>>(config_named("weights"));
  const Tensor<float> x = input<float>();
  ASSERT_TRUE(layer.forward(x.view()));
  const std::vector<float> weights = layer.attention_weights().values;
  const auto message = [&](const TensorView& view) {
    const auto y = layer.forward(view);
    return y ? "" : to_string(y.error());
  };
  EXPECT_EQ(message(Tensor<float>({2, 24}).view()),
            "the input is f32[2,24], of rank 2; it must be [B,S,24], of rank 3");
  EXPECT_EQ(message(Tensor<float>({2, 5, 23}).view()),
            "the input is f32[2,5,23], 23 wide, but the embedding dim is 24");
  EXPECT_EQ(message(Tensor<float>({1, 41, 24}).view()),
            "the input is f32[1,41,24], 41 long, but the sequence length is 40");
  EXPECT_EQ(message(Tensor<double>({2, 5, 24}).view()), "the input is f64[2,5,24], but the layer computes in f32");
  EXPECT_EQ(layer.attention_weights().values, weights);
  layer.reset_state();
  EXPECT_TRUE(layer.attention_weights().values.empty());
}

TEST(AttentionLayer, EmptyStridedAndShortInputs) {
  auto layer = make<FlashAttentionLayer<float>>(config_named("rope"));
  for (const auto& [batch, length] : {std::pair<int64_t, int64_t>{0, 5}, {2, 0}, {1, 1}, {3, 40}}) {
    const Tensor<float> x = input<float>(batch, length);
    const auto y = layer.forward(x.view());
    ASSERT_TRUE(y) << to_string(y.error());
    EXPECT_EQ(y->shape, x.shape);
    EXPECT_LE(worst_error(layer, x, *y), 3e-6);
  }
  // [S,B,E] in memory, seen as [B,S,E].
  const Tensor<float> x = input<float>();
  Tensor<float> turned({33, 2, 24});
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t s = 0; s < 33; ++s)
      for (int64_t e = 0; e < 24; ++e) turned.values[(s * 2 + b) * 24 + e] = x.values[(b * 33 + s) * 24 + e];
  TensorView view = turned.view();
  std::swap(view.shape[0], view.shape[1]);
  std::swap(view.strides[0], view.strides[1]);
  EXPECT_EQ(layer.forward(view)->values, layer.forward(x.view())->values);
}

}  // namespace
}  // namespace tilewright
