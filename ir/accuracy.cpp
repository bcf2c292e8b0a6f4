#include "ir/accuracy.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "ir/interp/magnitudes.h"
#include "ir/interp/number.h"
#include "ir/interp/reference.h"

namespace tilewright {

using interp::ReferenceGroup;
using interp::ResultReference;

namespace {

/// What the graph's policy lets a product of f32 lose of one operand, relative; 0 where that is f32's own rounding. Two
/// computations that lose it at random may differ by more than a factor of 2 in their largest error.
double operand_rounding(const Graph& graph) {
  const auto of_f32 = [&](const Node& node) {
    return info(node.op).group == OpGroup::contract && graph.type(node.operands[0]).dtype == DType::f32;
  };
  if (std::none_of(graph.nodes.begin(), graph.nodes.end(), of_f32)) return 0;
  switch (graph.precision.value_or(PrecisionPolicy::f32)) {
    case PrecisionPolicy::f32_x3: return 0x1p-16;
    case PrecisionPolicy::bf16: return 0x1p-8;
    default: return 0;
  }
}

class Judge {
 public:
  Judge(const ResultReference& reference, size_t result, const TensorView& output, const AccuracyOptions& options,
        DType accumulation)
      : result_(result), output_(output), options_(options), accumulation_(accumulation) {
    const Graph& graph = reference.oracle().graph();
    tanh_ = interp::depends_on_tanh(graph, reference.value());
    rounding_ = operand_rounding(graph);
    report_.result = graph[reference.value()].name;
    report_.flushed_inputs = reference.flush();
    report_.sampled = reference.sampled();
  }

  void add(const ReferenceGroup& group) {
    if (group.indices.empty()) return;
    report_.rows += group.rows;
    const DType dtype = output_.dtype;
    const double epsilon = interp::epsilon(dtype);
    // Results below the smallest normal may be flushed, like operands (semantics 19); f16 ones are exact.
    const double floor = dtype == DType::f16 ? 0 : interp::min_normal(dtype);
    const auto count = static_cast<double>(group.indices.size());
    double naive_max = 0, naive_sum = 0;
    for (size_t i = 0; i < group.indices.size(); ++i) {
      const auto error = static_cast<double>(std::fabs(group.naive[i] - group.expected[i]));
      if (!std::isfinite(error)) continue;
      naive_max = std::max(naive_max, error);
      naive_sum += error;
    }
    // The naive error is a fair yardstick where many elements draw it. It is 0 by luck where both sides of a difference
    // add the same terms in the same order (dP - rowsum(dO∘O) of a row that keeps one key), and a single draw where the
    // result is a single sum. max|V| keeps the rule fair to P·V, whatever the luck, because it bounds Σ|P·V|: weights
    // of a row sum to 1 at most. Of a sum of sums that are no such averages, the sum of |terms| is that bound itself;
    // its eps is that of the accumulation (semantics 2), since what cancels does so before the result is narrowed.
    const double sums = interp::epsilon(accumulation_) * group.terms;
    const double bound =
        (tanh_ ? 3 : 2) * naive_max + std::max(4 * epsilon * group.scale, sums) + rounding_ * group.scale + floor;
    report_.naive_max_error = std::max(report_.naive_max_error, naive_max);
    double sum = 0;
    for (size_t i = 0; i < group.indices.size(); ++i) {
      if (options_.exempt && options_.exempt(result_, group.indices[i])) continue;
      const double found = element(group.indices[i]);
      const double error = error_of(found, group.expected[i], bound);
      ++report_.elements;
      sum += error;
      report_.max_error = std::max(report_.max_error, error);
      const double ratio = error == 0 ? 0 : error / bound;
      if (ratio > report_.worst_ratio || report_.worst.empty()) {
        report_.worst_ratio = ratio;
        report_.bound = bound;
        report_.worst = group.indices[i];
        report_.worst_found = found;
        report_.worst_expected = static_cast<double>(group.expected[i]);
      }
      if (error > bound)
        fail(fmt::format("%{}[{}] is {:.9g}, expected {:.9g} within {:.3g}", report_.result,
                         fmt::join(group.indices[i], ","), found, static_cast<double>(group.expected[i]), bound));
    }
    sum_ += sum;
    const double mean_bound = 1.25 * naive_sum / count + epsilon * group.scale / 4 + floor;
    if (count >= 4096 && sum / count > mean_bound)
      fail(fmt::format("%{}: the mean error around [{}] is {:.3g}, more than the {:.3g} allowed", report_.result,
                       fmt::join(group.indices[0], ","), sum / count, mean_bound));
  }

  AccuracyReport report() {
    if (report_.elements > 0) report_.mean_error = sum_ / static_cast<double>(report_.elements);
    return report_;
  }

 private:
  double element(const std::vector<int64_t>& index) const {
    int64_t offset = 0;
    for (size_t axis = 0; axis < index.size(); ++axis) offset += index[axis] * output_.strides[axis];
    return is_float(output_.dtype) ? interp::load_real(output_.dtype, output_.data, offset)
                                   : static_cast<double>(interp::load_int(output_.dtype, output_.data, offset));
  }

  /// Infinity when one of the two is NaN or infinite and the other is not the same.
  double error_of(double found, long double expected, double bound) const {
    constexpr double kWrong = HUGE_VAL;
    if (std::isnan(expected) || std::isnan(found)) return std::isnan(expected) && std::isnan(found) ? 0 : kWrong;
    if (std::isinf(expected)) return found == expected ? 0 : kWrong;
    if (!std::isinf(found)) return static_cast<double>(std::fabs(found - expected));
    // A value that the output's dtype cannot hold overflows, give or take the bound.
    const double reach = static_cast<double>(std::fabs(expected)) + bound;
    return std::signbit(found) == std::signbit(expected) && std::isinf(interp::round_to(output_.dtype, reach)) ? 0
                                                                                                               : kWrong;
  }

  /// The first failure is told.
  void fail(std::string sentence) {
    report_.pass = false;
    if (report_.failure.empty()) report_.failure = std::move(sentence);
  }

  size_t result_;
  const TensorView& output_;
  const AccuracyOptions& options_;
  DType accumulation_;  ///< of the sums that groups' terms are of
  bool tanh_ = false;
  double rounding_ = 0;  ///< of an f32 operand, relative, under the graph's policy
  AccuracyReport report_;
  double sum_ = 0;
};

}  // namespace

/// Keeps what was computed per result and kind of inputs, when told to.
struct OutputJudge::State {
  GraphOracle oracle;
  DimBindings dims;
  std::vector<TensorView> inputs;
  AccuracyOptions options;
  bool keep = true;
  std::map<std::tuple<size_t, bool, bool>, std::vector<ReferenceGroup>> kept;

  /// Sums of |terms| cost as much again, so they are worked out only where the rule fails without.
  AccuracyReport judge(size_t result, const TensorView& output, bool flush) {
    AccuracyReport report = judge(result, output, flush, nullptr, output.dtype);
    if (report.pass || !is_float(output.dtype)) return report;
    const auto terms = interp::with_magnitudes(oracle.graph(), result);
    if (!terms) return report;
    const auto magnitudes = GraphOracle::create(terms->graph, dims, inputs);
    TW_CHECK(magnitudes.ok());
    return judge(result, output, flush, &*magnitudes, terms->accumulation);
  }

  AccuracyReport judge(size_t result, const TensorView& output, bool flush, const GraphOracle* magnitudes,
                       DType accumulation) {
    const ResultReference reference(oracle, result, options, flush, magnitudes);
    Judge judge(reference, result, output, options, accumulation);
    if (!keep) {
      for (int64_t g = 0; g < reference.groups(); ++g) judge.add(reference.group(g));
      return judge.report();
    }
    std::vector<ReferenceGroup>& groups = kept[{result, flush, magnitudes != nullptr}];
    for (int64_t g = static_cast<int64_t>(groups.size()); g < reference.groups(); ++g)
      groups.push_back(reference.group(g));
    for (const ReferenceGroup& group : groups) judge.add(group);
    return judge.report();
  }

  Result<std::vector<AccuracyReport>> judge_all(std::span<const TensorView> outputs) {
    const Graph& graph = oracle.graph();
    if (outputs.size() != graph.results.size())
      return invalid("graph @{} has {} results, but {} outputs were given", graph.name, graph.results.size(),
                     outputs.size());
    std::vector<AccuracyReport> reports;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const Node& node = graph[graph.results[i]];
      const std::vector<int64_t>& shape = oracle.shape(graph.results[i]);
      const std::vector<int64_t> found(outputs[i].shape.begin(), outputs[i].shape.begin() + outputs[i].rank);
      if (outputs[i].dtype != node.type.dtype || found != shape)
        return Diagnostic{ErrorKind::invalid,
                          fmt::format("the output is {}[{}], expected {}[{}]", to_string(outputs[i].dtype),
                                      fmt::join(found, ","), to_string(node.type.dtype), fmt::join(shape, ",")),
                          node.name, node.line};
      AccuracyReport report = judge(i, outputs[i], false);
      if (!report.pass) {
        AccuracyReport flushed = judge(i, outputs[i], true);
        if (flushed.pass) report = std::move(flushed);
      }
      reports.push_back(std::move(report));
    }
    return reports;
  }
};

std::string to_string(const AccuracyReport& report) {
  if (!report.pass) return report.failure;
  return fmt::format("max error {:.3g} of {:.3g} allowed, mean {:.3g}, {} {}rows{}", report.max_error, report.bound,
                     report.mean_error, report.rows, report.sampled ? "sampled " : "",
                     report.flushed_inputs ? ", subnormal inputs read as zero" : "");
}

Result<OutputJudge> OutputJudge::create(const Graph& graph, const DimBindings& dims, std::span<const TensorView> inputs,
                                        const AccuracyOptions& options) {
  auto oracle = GraphOracle::create(graph, dims, inputs);
  if (!oracle) return oracle.error();
  return OutputJudge(
      std::make_shared<State>(State{std::move(*oracle), dims, {inputs.begin(), inputs.end()}, options, true, {}}));
}

Result<std::vector<AccuracyReport>> OutputJudge::judge(std::span<const TensorView> outputs) {
  return state_->judge_all(outputs);
}

Result<std::vector<AccuracyReport>> verify_outputs(const Graph& graph, const DimBindings& dims,
                                                   std::span<const TensorView> inputs,
                                                   std::span<const TensorView> outputs,
                                                   const AccuracyOptions& options) {
  auto judge = OutputJudge::create(graph, dims, inputs, options);
  if (!judge) return judge.error();
  judge->state_->keep = false;
  return judge->judge(outputs);
}

}  // namespace tilewright
