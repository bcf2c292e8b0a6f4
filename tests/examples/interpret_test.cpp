// Every example graph is evaluated by the oracle, and where it becomes one attention, graph and attention agree.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "compiler/passes.h"
#include "ir/interp.h"
#include "ir/text.h"
#include "tests/support/paths.h"
#include "tests/support/random_graph.h"

namespace tilewright {
namespace {
namespace fs = std::filesystem;

/// Small sizes, keys outnumbering queries; NATTEN and pages get enough for a few rows and blocks.
DimBindings sizes(const Graph& graph) {
  DimBindings dims;
  for (const ValueId id : graph.params)
    for (const Dim& dim : graph.type(id).shape)
      for (const auto& [name, coefficient] : dim.terms()) dims[name] = name == "Sq" ? 9 : name == "Sk" ? 40 : 3;
  if (dims.count("T")) dims["T"] = 25;
  if (graph.name == "natten_2d") dims["Sq"] = dims["Sk"] = 144;
  return dims;
}

struct Inputs {
  std::vector<testing::TestTensor> tensors;
  std::vector<TensorView> views;
};

Inputs make_inputs(const Graph& graph, const DimBindings& dims, std::mt19937_64& random) {
  Inputs inputs;
  for (const ValueId id : graph.params) {
    const TensorType& type = graph.type(id);
    inputs.tensors.emplace_back(type.dtype, testing::concrete_shape(type, dims), testing::Layout::contiguous, random);
    testing::Fill how;
    if (is_integer(type.dtype)) {
      how.kind = testing::Fill::Kind::integer_between;
      how.high = 20;
    } else if (type.dtype == DType::boolean) {
      how.kind = testing::Fill::Kind::coin;
      how.scale = 0.5;
    }
    testing::fill(inputs.tensors.back(), how, random);
  }
  for (const auto& tensor : inputs.tensors) inputs.views.push_back(tensor.view());
  return inputs;
}

double difference(const OracleTensor& a, const OracleTensor& b) {
  if (a.values.size() != b.values.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < a.values.size(); ++i) {
    const double apart = static_cast<double>(std::abs(a.values[i] - b.values[i]));
    if (!(a.values[i] == b.values[i]) && !(apart <= worst)) worst = std::isnan(apart) ? INFINITY : apart;
  }
  return worst;
}

/// The spec's tensors in its own order, outputs empty.
std::vector<TensorView> spec_views(const Program& program, const AttentionSpec& spec, const Inputs& inputs) {
  std::vector<TensorView> views;
  for (size_t i = 0; i < spec.tensors.size(); ++i) {
    const ProgramTensor& tensor = program.tensors[static_cast<size_t>(program.steps[0].tensors[i])];
    views.push_back(tensor.role == TensorRole::param ? inputs.views[static_cast<size_t>(tensor.position)]
                                                     : TensorView());
  }
  return views;
}

TEST(Examples, TheOracleEvaluatesEachAndAgreesWithItsFusedForm) {
  int compared = 0;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(testing::source_dir()) / "examples")) {
    if (entry.path().extension() != ".attn") continue;
    std::ostringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    const auto graph = parse_graph(text.str());
    ASSERT_TRUE(graph) << entry.path();
    const DimBindings dims = sizes(*graph);
    std::mt19937_64 random(7);
    const Inputs inputs = make_inputs(*graph, dims, random);
    const auto expected = interpret(*graph, dims, inputs.views, 0, std::nullopt, Precision::oracle);
    ASSERT_TRUE(expected) << entry.path() << "\n" << to_string(expected.error());
    double largest = 0;
    for (const long double value : expected->values) {
      ASSERT_TRUE(std::isfinite(value)) << entry.path();
      largest = std::max(largest, std::abs(static_cast<double>(value)));
    }
    EXPECT_GT(largest, 0) << entry.path() << " gives nothing but zeros";

    const auto canonical = canonicalize(*graph);
    ASSERT_TRUE(canonical) << entry.path();
    const auto program = fuse(*canonical);
    ASSERT_TRUE(program) << entry.path();
    if (program->steps.size() != 1) continue;
    const AttentionSpec& spec = std::get<AttentionStep>(program->steps[0].what).spec;
    const auto fused = interpret(spec, dims, spec_views(*program, spec, inputs));
    ASSERT_TRUE(fused) << entry.path() << "\n" << to_string(fused.error());
    EXPECT_LT(difference(*expected, fused->at(0)), 1e-9) << entry.path();
    ++compared;
  }
  EXPECT_GE(compared, 28) << "examples that become one attention";
}

}  // namespace
}  // namespace tilewright
