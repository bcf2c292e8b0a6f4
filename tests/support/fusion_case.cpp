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

std::string difference(const OracleTensor& expected, const OracleTensor& actual) {
  if (expected.values.size() != actual.values.size()) return "another size";
  for (size_t i = 0; i < expected.values.size(); ++i) {
    const long double e = expected.values[i], a = actual.values[i];
    if ((std::isnan(e) && std::isnan(a)) || e == a) continue;
    // The oracle's long double reaches farther than the f64 that steps are kept in.
    if (std::abs(e) > std::numeric_limits<double>::max() && !std::isfinite(a)) continue;
    if (!(std::abs(e - a) <= 1e-6L * (1 + std::abs(e))))
      return fmt::format("element {} is {}, expected {}", i, static_cast<double>(a), static_cast<double>(e));
  }
  return {};
}

void name_dims(const Graph& graph, DimBindings& dims) {
  for (const Node& node : graph.nodes)
    for (const Dim& dim : node.type.shape)
      for (const auto& [name, coefficient] : dim.terms()) dims.emplace(name, 5);
}

}  // namespace

std::string difference_to_oracle(const Graph& graph, const Graph& canonical, const Program& program, DimBindings dims) {
  name_dims(graph, dims);
  std::mt19937_64 random(11);
  std::vector<TestTensor> tensors;
  for (ValueId id : graph.params) {
    const TensorType& type = graph.type(id);
    Fill how;
    if (type.dtype == DType::boolean) how = {Fill::Kind::coin, 0.5};
    if (is_integer(type.dtype)) how = {Fill::Kind::integer_between, 1, 0, 6};
    TestTensor& tensor = tensors.emplace_back(type.dtype, concrete_shape(type, dims), Layout::contiguous, random);
    fill(tensor, how, random);
  }
  const std::vector<TensorView> views = views_of(tensors);
  const auto results = run_program(program, dims, views);
  if (!results) return to_string(results.error());
  if (results->size() != graph.results.size()) return "another number of results";
  for (size_t r = 0; r < graph.results.size(); ++r) {
    const auto expected = interpret(graph, dims, views, r, std::nullopt, Precision::oracle);
    const auto same = interpret(canonical, dims, views, r, std::nullopt, Precision::oracle);
    if (!expected || !same) return "a graph could not be interpreted";
    if (const std::string wrong = difference(*expected, *same); !wrong.empty())
      return fmt::format("result {} of the canonical graph: {}", r, wrong);
    if (const std::string wrong = difference(*expected, (*results)[r]); !wrong.empty())
      return fmt::format("result {} of the program: {}", r, wrong);
  }
  return {};
}

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
  EXPECT_EQ(difference_to_oracle(graph, *canonical, *program, std::move(dims)), "")
      << print(graph) << print(*canonical) << print(*program);
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
