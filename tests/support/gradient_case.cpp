#include "tests/support/gradient_case.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ir/text.h"
#include "ir/verify.h"
#include "tests/support/random_graph.h"

namespace tilewright::testing {
namespace {

void expect_round_trip(const Graph& graph) {
  const Diagnostics wrong = verify(graph);
  EXPECT_TRUE(wrong.empty()) << tilewright::to_string(wrong) << "\n" << print(graph);
  const std::string text = print(graph);
  const auto parsed = parse_graph(text);
  ASSERT_TRUE(parsed.ok()) << tilewright::to_string(parsed.error()) << "\n" << text;
  EXPECT_EQ(print(*parsed), text);
}

std::vector<long double> interpret_all(const Graph& graph, const DimBindings& dims, std::span<const TensorView> params,
                                       size_t result) {
  auto values = interpret(graph, dims, params, result, std::nullopt, Precision::oracle);
  EXPECT_TRUE(values.ok()) << (values ? "" : tilewright::to_string(values.error())) << "\n" << print(graph);
  return values ? values->values : std::vector<long double>{};
}

size_t result_position(const Graph& graph, const std::string& name) {
  for (size_t i = 0; i < graph.results.size(); ++i)
    if (graph[graph.results[i]].name == name) return i;
  ADD_FAILURE() << "no result " << name;
  return 0;
}

/// Σ over the float results of result · gradient.
long double objective(const GradientCase& test, std::span<const TensorView> params) {
  long double sum = 0;
  size_t next = 0;
  for (size_t i = 0; i < test.graph.results.size(); ++i) {
    if (!is_float(test.graph.type(test.graph.results[i]).dtype)) continue;
    const TestTensor& d = test.result_gradients[next++];
    const auto values = interpret_all(test.graph, test.dims, params, i);
    for (size_t k = 0; k < values.size(); ++k) {
      const double weight = d.get(static_cast<int64_t>(k));
      if (std::isfinite(values[k])) sum += values[k] * weight;  // -inf of an empty row's LSE has no gradient
    }
  }
  return sum;
}

}  // namespace

GradientCase make_gradient_case(const Graph& graph, DimBindings dims, uint64_t seed) {
  GradientCase test;
  test.graph = graph;
  test.seed = seed;
  for (ValueId id : graph.params)
    for (const Dim& dim : graph.type(id).shape)
      for (const auto& [name, coefficient] : dim.terms()) dims.emplace(name, 3);
  test.dims = dims;
  std::mt19937_64 random(seed);
  for (ValueId id : graph.params) {
    const TensorType& type = graph.type(id);
    Fill how;
    if (type.dtype == DType::boolean) how = {Fill::Kind::coin, 0.5};
    if (is_integer(type.dtype)) how = {Fill::Kind::integer_between, 1, 0, 3};
    test.inputs.emplace_back(type.dtype, concrete_shape(type, dims), Layout::gapped, random);
    fill(test.inputs.back(), how, random);
  }
  return test;
}

bool run_backward(GradientCase& test) {
  auto made = gradient(test.graph, test.request);
  EXPECT_TRUE(made.ok()) << (made ? "" : tilewright::to_string(made.error()));
  if (!made) return false;
  test.gradient = std::move(*made);
  const Graph &forward = test.gradient.forward, &backward = test.gradient.backward;
  expect_round_trip(forward);
  expect_round_trip(backward);
  std::mt19937_64 random(test.seed + 77);
  test.result_gradients.clear();
  test.backward_inputs.clear();
  test.gradients.clear();
  for (ValueId id : test.graph.results) {
    const TensorType& type = test.graph.type(id);
    if (!is_float(type.dtype)) continue;
    test.result_gradients.emplace_back(type.dtype, concrete_shape(type, test.dims), Layout::gapped, random);
    fill(test.result_gradients.back(), {}, random);
  }
  const std::vector<TensorView> forward_views = views_of(test.inputs);
  size_t next_gradient = 0;
  for (ValueId id : backward.params) {
    const Node& node = backward[id];
    const auto saved = std::find(test.gradient.saved.begin(), test.gradient.saved.end(), node.name);
    const auto given = std::find_if(test.graph.params.begin(), test.graph.params.end(),
                                    [&](ValueId p) { return test.graph[p].name == node.name; });
    if (given != test.graph.params.end()) {
      test.backward_inputs.push_back(test.inputs[static_cast<size_t>(given - test.graph.params.begin())]);
    } else if (saved != test.gradient.saved.end()) {
      TestTensor tensor(node.type.dtype, concrete_shape(node.type, test.dims), Layout::gapped, random);
      const auto values = interpret_all(forward, test.dims, forward_views, result_position(forward, node.name));
      for (size_t k = 0; k < values.size(); ++k) tensor.set(static_cast<int64_t>(k), static_cast<double>(values[k]));
      test.backward_inputs.push_back(std::move(tensor));
    } else {
      EXPECT_EQ(node.name.substr(0, 2), "d_") << node.name;
      if (next_gradient == test.result_gradients.size()) return false;
      test.backward_inputs.push_back(test.result_gradients[next_gradient++]);
    }
  }
  EXPECT_EQ(next_gradient, test.result_gradients.size());
  const std::vector<TensorView> views = views_of(test.backward_inputs);
  for (size_t i = 0; i < backward.results.size(); ++i)
    test.gradients.push_back(interpret_all(backward, test.dims, views, i));
  return !::testing::Test::HasFailure();
}

namespace {

/// A direction in the space of some parameters: position of the parameter and one number per element of it.
using Direction = std::vector<std::pair<size_t, std::vector<double>>>;

/// The objective's derivative as the parameters move by `step` · direction either way; `along` becomes the step really
/// taken per element, which rounding changes.
long double difference(GradientCase& test, const Direction& direction, double step,
                       std::vector<std::vector<long double>>& along) {
  Direction before = direction;
  along.clear();
  for (auto& [position, values] : before) {
    for (size_t k = 0; k < values.size(); ++k) values[k] = test.inputs[position].get(static_cast<int64_t>(k));
    along.emplace_back(values.size(), 0);
  }
  const auto set = [&](double factor, long double sign) {
    for (size_t d = 0; d < direction.size(); ++d) {
      TestTensor& tensor = test.inputs[direction[d].first];
      for (size_t k = 0; k < direction[d].second.size(); ++k) {
        const auto at = static_cast<int64_t>(k);
        tensor.set(at, before[d].second[k] + factor * direction[d].second[k]);
        if (std::isfinite(tensor.get(at))) along[d][k] += sign * static_cast<long double>(tensor.get(at)) / (2 * step);
      }
    }
  };
  set(step, 1);
  const long double above = objective(test, views_of(test.inputs));
  set(-step, -1);
  const long double below = objective(test, views_of(test.inputs));
  set(0, 0);
  return (above - below) / (2 * step);
}

/// `size`: what the derivative counts against when it is small.
void expect_direction(GradientCase& test, const Direction& direction, long double size,
                      const std::vector<const std::vector<long double>*>& gradients) {
  constexpr double kStep = 1e-5;
  std::vector<std::vector<long double>> along;
  const long double found = difference(test, direction, kStep, along);
  long double expected = 0;
  for (size_t d = 0; d < along.size(); ++d)
    for (size_t k = 0; k < along[d].size(); ++k) expected += (*gradients[d])[k] * along[d][k];
  const auto close = [&](long double value) {
    return std::abs(value - expected) <= 1e-6L * std::max(std::abs(value), size) + 1e-12L;
  };
  if (close(found)) return;
  // Where the third derivative is large: its term cancels between two step sizes.
  const long double nearer = difference(test, direction, kStep / 2, along);
  const long double extrapolated = (4 * nearer - found) / 3;
  // A kink (abs, min, max) within a step: a step of a hundredth, which rounding still allows, does not reach it.
  if (close(extrapolated) || close(difference(test, direction, kStep / 100, along))) return;
  ADD_FAILURE() << "differences give " << static_cast<double>(extrapolated) << ", the backward pass "
                << static_cast<double>(expected);
}

/// Positions of the parameters whose gradients were asked for, in the order of test.gradients.
std::vector<size_t> differentiated(const GradientCase& test) {
  std::vector<size_t> out;
  for (size_t p = 0; p < test.graph.params.size(); ++p)
    if (test.request.wrt.empty() && is_float(test.graph.type(test.graph.params[p]).dtype)) out.push_back(p);
  for (const std::string& name : test.request.wrt)
    for (size_t p = 0; p < test.graph.params.size(); ++p)
      if (test.graph[test.graph.params[p]].name == name) out.push_back(p);
  EXPECT_EQ(out.size(), test.gradients.size());
  return out;
}

long double norm_of(const std::vector<long double>& gradient) {
  long double square = 0;
  for (long double g : gradient) square += g * g;
  return std::sqrt(square);
}

std::vector<double> random_direction(size_t count, std::mt19937_64& random) {
  std::normal_distribution<double> gaussian;
  std::vector<double> out(count);
  for (double& x : out) x = gaussian(random) / std::sqrt(static_cast<double>(count));
  return out;
}

}  // namespace

void expect_differences(GradientCase& test, int elements) {
  std::mt19937_64 random(test.seed + 5);
  const std::vector<size_t> positions = differentiated(test);
  for (size_t w = 0; w < positions.size(); ++w) {
    SCOPED_TRACE("d_" + test.graph[test.graph.params[positions[w]]].name);
    const std::vector<long double>& gradient = test.gradients[w];
    ASSERT_EQ(static_cast<size_t>(test.inputs[positions[w]].size()), gradient.size());
    if (gradient.empty()) continue;
    // Terms cancel along a random direction; a single element counts against the typical one.
    const long double typical = norm_of(gradient) / std::sqrt(static_cast<long double>(gradient.size()));
    for (int trial = 0; trial < 1 + elements; ++trial) {
      std::vector<double> direction(gradient.size(), 0);
      if (trial == 0)
        direction = random_direction(gradient.size(), random);
      else
        direction[random() % direction.size()] = 1;
      expect_direction(test, {{positions[w], std::move(direction)}}, typical, {&gradient});
    }
  }
}

void expect_joint_difference(GradientCase& test) {
  std::mt19937_64 random(test.seed + 5);
  const std::vector<size_t> positions = differentiated(test);
  Direction direction;
  std::vector<const std::vector<long double>*> gradients;
  long double size = 0;
  for (size_t w = 0; w < positions.size(); ++w) {
    const std::vector<long double>& gradient = test.gradients[w];
    ASSERT_EQ(static_cast<size_t>(test.inputs[positions[w]].size()), gradient.size());
    if (gradient.empty()) continue;
    direction.emplace_back(positions[w], random_direction(gradient.size(), random));
    gradients.push_back(&gradient);
    size += norm_of(gradient) / std::sqrt(static_cast<long double>(gradient.size()));
  }
  expect_direction(test, direction, size / std::max<size_t>(1, gradients.size()), gradients);
}

Graph in_f64(Graph graph) {
  for (Node& node : graph.nodes)
    if (is_float(node.type.dtype)) node.type.dtype = DType::f64;
  return graph;
}

void check_gradient(const Graph& graph, DimBindings dims, uint64_t seed) {
  for (const bool recompute : {false, true}) {
    SCOPED_TRACE(recompute ? "recompute" : "save");
    GradientCase test = make_gradient_case(graph, dims, seed);
    test.request.recompute = recompute;
    if (!run_backward(test)) {
      ADD_FAILURE() << print(test.gradient.backward);
      return;
    }
    expect_differences(test);
    if (::testing::Test::HasFailure()) {
      ADD_FAILURE() << print(test.gradient.backward);
      return;
    }
  }
}

}  // namespace tilewright::testing
