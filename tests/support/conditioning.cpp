#include "tests/support/conditioning.h"

#include <cmath>

#include "ir/interp.h"
#include "tests/support/gradient_case.h"
#include "tests/support/random_graph.h"

namespace tilewright::testing {
namespace {

std::vector<long double> evaluate_result(const Graph& graph, const DimBindings& dims,
                                         const std::vector<TestTensor>& inputs, size_t result, Precision precision) {
  auto values = interpret(graph, dims, views_of(inputs), result, std::nullopt, precision);
  TW_CHECK(values.ok());
  return std::move(values->values);
}

double unit(DType dtype) {
  switch (dtype) {
    case DType::f64: return 0x1p-52;
    case DType::f32: return 0x1p-23;
    case DType::f16: return 0x1p-10;
    default: return 0x1p-7;
  }
}

struct Errors {
  double largest = 0, mean = 0;
  void add(const std::vector<long double>& found, const std::vector<long double>& expected) {
    double sum = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      const auto error = static_cast<double>(std::fabs(found[i] - expected[i]));
      if (!std::isfinite(error)) continue;
      largest = std::max(largest, error);
      sum += error;
    }
    mean = std::max(mean, sum / static_cast<double>(found.size()));
  }
};

/// In f64, with every parameter and every computed float times a parameter "noise_…" of its shape, behind the others.
Graph with_noise(const Graph& given) {
  const Graph graph = in_f64(given);
  Graph out;
  out.name = graph.name;
  std::vector<ValueId> moved(graph.nodes.size(), kNoValue);
  const auto add = [&](Node node) {
    out.nodes.push_back(std::move(node));
    return ValueId{static_cast<int32_t>(out.nodes.size()) - 1};
  };
  const auto param = [&](Node node) {
    out.params.push_back(add(std::move(node)));
    return out.params.back();
  };
  const auto is_noisy = [&](const Node& node) {
    const OpGroup group = info(node.op).group;
    return is_float(node.type.dtype) && node.op != Op::constant && node.op != Op::select && group != OpGroup::view;
  };
  for (ValueId id : graph.params) moved[static_cast<size_t>(raw(id))] = param(graph[id]);
  std::vector<ValueId> noise(graph.nodes.size(), kNoValue);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (!is_noisy(graph.nodes[i])) continue;
    Node node;
    node.op = Op::param;
    node.type = graph.nodes[i].type;
    node.name = "noise_" + std::to_string(i);
    noise[i] = param(std::move(node));
  }
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    Node node = graph.nodes[i];
    for (ValueId& operand : node.operands)
      if (operand != kNoValue) operand = moved[static_cast<size_t>(raw(operand))];
    if (node.op != Op::param) moved[i] = add(node);
    if (noise[i] == kNoValue) continue;
    Node product;
    product.op = Op::mul;
    product.type = node.type;
    product.operands = {moved[i], noise[i]};
    product.name = "noisy_" + std::to_string(i);
    moved[i] = add(std::move(product));
  }
  for (ValueId result : graph.results) out.results.push_back(moved[static_cast<size_t>(raw(result))]);
  return out;
}

}  // namespace

std::string judge_by_conditioning(const Graph& graph, const DimBindings& dims, const std::vector<TestTensor>& inputs,
                                  size_t result, const TestTensor& found) {
  constexpr int kDraws = 4;
  const auto expected = evaluate_result(graph, dims, inputs, result, Precision::oracle);
  if (expected.empty()) return {};
  bool wide = false;
  for (const Node& node : graph.nodes) wide |= node.type.dtype == DType::f64;
  const double step = unit(wide ? DType::f64 : DType::f32);
  Errors yardstick;
  yardstick.add(evaluate_result(graph, dims, inputs, result, Precision::naive), expected);
  const Graph noisy = with_noise(graph);
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> move(-step, step);
  for (int draw = 0; draw < kDraws; ++draw) {
    std::vector<TestTensor> values;
    for (size_t p = 0; p < noisy.params.size(); ++p) {
      const TensorType& type = noisy.type(noisy.params[p]);
      TestTensor& to = values.emplace_back(type.dtype, concrete_shape(type, dims), Layout::contiguous, random);
      for (int64_t i = 0; i < to.size(); ++i) to.set(i, p < inputs.size() ? inputs[p].get(i) : 1 + move(random));
    }
    yardstick.add(evaluate_result(noisy, dims, values, result, Precision::oracle), expected);
  }
  double largest = 0;
  for (long double value : expected)
    if (std::isfinite(value)) largest = std::max(largest, static_cast<double>(std::fabs(value)));
  const double rounding = unit(found.view().dtype) * largest;
  const double bound = 4 * yardstick.largest + rounding;
  double sum = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double got = found.get(static_cast<int64_t>(i));
    const auto want = static_cast<double>(expected[i]);
    if (std::isnan(want) && std::isnan(got)) continue;
    if (got == want) continue;
    const double error = std::abs(got - want);
    if (!(error <= bound))
      return fmt::format("element {} is {}, expected {} within {:.3g}, which is what roundings on the way say", i, got,
                         want, bound);
    sum += error;
  }
  const auto count = static_cast<double>(expected.size());
  const double mean_bound = 2 * yardstick.mean + rounding / 4;
  if (count >= 4096 && sum / count > mean_bound)
    return fmt::format("the mean error is {:.3g}, more than the {:.3g} that roundings on the way allow", sum / count,
                       mean_bound);
  return {};
}

}  // namespace tilewright::testing
