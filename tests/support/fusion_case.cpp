#include "tests/support/fusion_case.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compiler/passes.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/support/random_graph.h"
#include "tests/support/run_program.h"

namespace tilewright::testing {
namespace {

void expect_close(const OracleTensor& expected, const OracleTensor& actual, const std::string& context) {
  ASSERT_EQ(expected.values.size(), actual.values.size()) << context;
  for (size_t i = 0; i < expected.values.size(); ++i) {
    const long double e = expected.values[i], a = actual.values[i];
    if ((std::isnan(e) && std::isnan(a)) || e == a) continue;
    // The oracle's long double reaches farther than the f64 that steps are kept in.
    if (std::abs(e) > std::numeric_limits<double>::max() && !std::isfinite(a)) continue;
    ASSERT_LE(std::abs(e - a), 1e-6L * (1 + std::abs(e))) << "element " << i << "\n" << context;
  }
}

void name_dims(const Graph& graph, DimBindings& dims) {
  for (const Node& node : graph.nodes)
    for (const Dim& dim : node.type.shape)
      for (const auto& [name, coefficient] : dim.terms()) dims.emplace(name, 5);
}

void compare_with_oracle(const Graph& graph, const Graph& canonical, const Program& program, DimBindings dims) {
  name_dims(graph, dims);
  std::mt19937_64 random(11);
  std::vector<TestTensor> tensors;
  std::vector<TensorView> views;
  for (ValueId id : graph.params) {
    const TensorType& type = graph.type(id);
    Fill how;
    if (type.dtype == DType::boolean) how = {Fill::Kind::coin, 0.5};
    if (is_integer(type.dtype)) how = {Fill::Kind::integer_between, 1, 0, 6};
    TestTensor& tensor = tensors.emplace_back(type.dtype, concrete_shape(type, dims), Layout::contiguous, random);
    fill(tensor, how, random);
    views.push_back(tensor.view());
  }
  const std::string context = print(graph) + print(canonical) + print(program);
  auto results = run_program(program, dims, views);
  ASSERT_TRUE(results.ok()) << to_string(results.error());
  ASSERT_EQ(results->size(), graph.results.size());
  for (size_t r = 0; r < graph.results.size(); ++r) {
    auto expected = interpret(graph, dims, views, r, std::nullopt, Precision::oracle);
    auto same = interpret(canonical, dims, views, r, std::nullopt, Precision::oracle);
    ASSERT_TRUE(expected.ok() && same.ok());
    expect_close(*expected, *same, "canonical graph\n" + context);
    expect_close(*expected, (*results)[r], "program\n" + context);
  }
}

}  // namespace

Program fuse_and_check(const std::string& source, DimBindings dims) {
  auto graph = parse_graph(source);
  EXPECT_TRUE(graph.ok()) << (graph ? "" : to_string(graph.error()));
  return graph ? fuse_and_check(*graph, std::move(dims)) : Program{};
}

Program fuse_and_check(const Graph& graph, DimBindings dims) {
  EXPECT_EQ(to_string(verify(graph)), "");
  auto canonical = canonicalize(graph);
  EXPECT_TRUE(canonical.ok());
  if (!canonical) return {};
  EXPECT_EQ(to_string(verify(*canonical)), "") << print(*canonical);
  auto program = fuse(*canonical);
  EXPECT_TRUE(program.ok()) << (program ? "" : to_string(program.error()));
  if (!program) return {};
  for (const AttentionSpec* spec : attentions(*program)) EXPECT_EQ(to_string(verify(*spec)), "") << print(*spec);
  for (const BackwardSpec* spec : backwards(*program)) EXPECT_EQ(to_string(verify(*spec)), "") << print(*spec);
  compare_with_oracle(graph, *canonical, *program, std::move(dims));
  return std::move(*program);
}

std::vector<const AttentionSpec*> attentions(const Program& program) {
  std::vector<const AttentionSpec*> out;
  for (const Step& step : program.steps)
    if (const auto* attention = std::get_if<AttentionStep>(&step.what)) out.push_back(&attention->spec);
  return out;
}

std::vector<const BackwardSpec*> backwards(const Program& program) {
  std::vector<const BackwardSpec*> out;
  for (const Step& step : program.steps)
    if (const auto* backward = std::get_if<BackwardStep>(&step.what)) out.push_back(&backward->spec);
  return out;
}

const AttentionSpec& only_attention(const Program& program) {
  static const AttentionSpec kNone;
  const auto found = attentions(program);
  EXPECT_TRUE(found.size() == 1 && program.steps.size() == 1) << print(program);
  EXPECT_TRUE(program.not_fused.empty()) << print(program);
  return found.empty() ? kNone : *found[0];
}

std::string text(const AttentionSpec& spec, const Access& access) {
  std::string axes;
  for (const Expr& axis : access.axes) axes += (axes.empty() ? "" : ", ") + print(axis, spec.tensors);
  return "%" + spec.tensors[static_cast<size_t>(access.tensor)].name + "[" + axes + "]";
}

std::string text(const AttentionSpec& spec, const Expr& expr) { return print(expr, spec.tensors); }

}  // namespace tilewright::testing
