#include "ir/accuracy.h"

#include <algorithm>
#include <cmath>

#include "ir/interp/number.h"
#include "ir/interp/result_rows.h"

namespace tilewright {
namespace {

using interp::Anchor;
using interp::RowChoice;

/// Elements of one (b, h): what was found, what the oracle and the naive computation say.
struct Group {
  std::vector<std::vector<int64_t>> indices;
  std::vector<double> found;
  std::vector<long double> expected, naive;
  double scale = 0;  ///< max|V|, or max|ref|
};

class Judge {
 public:
  Judge(const GraphOracle& oracle, size_t result, const TensorView& output, const AccuracyOptions& options, bool flush)
      : oracle_(oracle), result_(result), output_(output), options_(options), flush_(flush) {
    id_ = oracle.graph().results[result];
    anchor_ = interp::find_anchor(oracle.graph(), id_);
    report_.result = oracle.graph()[id_].name;
    report_.flushed_inputs = flush;
    tanh_ = interp::depends_on_tanh(oracle.graph(), id_);
  }

  AccuracyReport run() {
    const std::vector<int64_t>& shape = oracle_.shape(anchor_.value);
    int64_t groups = 1;
    for (size_t axis = 0; axis < anchor_.row_axis; ++axis) groups *= shape[axis];
    const int64_t rows = shape.empty() ? 1 : shape[anchor_.row_axis];
    const int64_t scores = interp::score_count(oracle_, id_);
    report_.sampled = scores > options_.full_up_to;
    const RowChoice choice =
        report_.sampled
            ? interp::sampled_rows(groups, rows, options_.sampled_rows, options_.block_rows, options_.seed)
            : interp::all_rows(groups, rows);
    // Bounds the working set: rows x keys of one evaluation.
    const int64_t row_scores = std::max<int64_t>(1, scores / std::max<int64_t>(1, groups * rows));
    const auto rows_at_once = static_cast<size_t>(std::max<int64_t>(32, (int64_t{1} << 22) / row_scores));
    for (int64_t g = 0; g < groups; ++g) {
      Group group;
      const std::vector<int64_t>& list = choice[static_cast<size_t>(g)];
      for (size_t at = 0; at < list.size(); at += rows_at_once)
        evaluate(g, std::span(list).subspan(at, std::min(rows_at_once, list.size() - at)), group);
      if (group.found.empty()) continue;
      group.scale = scale_of(g, group);
      judge(group);
      report_.rows += static_cast<int64_t>(list.size());
    }
    if (report_.elements > 0) report_.mean_error = sum_ / static_cast<double>(report_.elements);
    return report_;
  }

 private:
  std::vector<int64_t> leading_index(int64_t group) const {
    std::vector<int64_t> index(anchor_.row_axis);
    const std::vector<int64_t>& shape = oracle_.shape(anchor_.value);
    for (size_t axis = anchor_.row_axis; axis-- > 0; group /= shape[axis]) index[axis] = group % shape[axis];
    return index;
  }

  /// Appends the elements of some rows of one group.
  void evaluate(int64_t g, std::span<const int64_t> rows, Group& group) {
    const std::vector<int64_t>& shape = oracle_.shape(anchor_.value);
    std::vector<std::vector<int64_t>> indices;
    for (int64_t row : rows) {
      std::vector<int64_t> index = leading_index(g);
      if (!shape.empty()) index.push_back(row);
      index.resize(shape.size(), 0);
      while (true) {
        if (std::all_of(shape.begin(), shape.end(), [](int64_t size) { return size > 0; }))
          indices.push_back(interp::follow_trail(oracle_, anchor_, index));
        size_t axis = shape.size();
        while (axis > anchor_.row_axis + 1 && index[axis - 1] + 1 >= shape[axis - 1]) index[--axis] = 0;
        if (axis <= anchor_.row_axis + 1) break;
        ++index[axis - 1];
      }
    }
    if (indices.empty()) return;
    IndexLists lists(indices[0].size());
    for (size_t axis = 0; axis < lists.size(); ++axis) {
      for (const auto& index : indices) lists[axis].push_back(index[axis]);
      std::sort(lists[axis].begin(), lists[axis].end());
      lists[axis].erase(std::unique(lists[axis].begin(), lists[axis].end()), lists[axis].end());
    }
    const auto expected = oracle_.evaluate(id_, lists, {Precision::oracle, flush_});
    const auto naive = oracle_.evaluate(id_, lists, {Precision::naive, flush_});
    for (std::vector<int64_t>& index : indices) {
      int64_t flat = 0, offset = 0;
      for (size_t axis = 0; axis < index.size(); ++axis) {
        const auto at = std::lower_bound(lists[axis].begin(), lists[axis].end(), index[axis]) - lists[axis].begin();
        flat = flat * static_cast<int64_t>(lists[axis].size()) + at;
        offset += index[axis] * output_.strides[axis];
      }
      const bool real = is_float(output_.dtype);
      group.expected.push_back(expected[static_cast<size_t>(flat)]);
      group.naive.push_back(naive[static_cast<size_t>(flat)]);
      group.found.push_back(real ? interp::load_real(output_.dtype, output_.data, offset)
                                 : static_cast<double>(interp::load_int(output_.dtype, output_.data, offset)));
      group.indices.push_back(std::move(index));
    }
  }

  double scale_of(int64_t g, const Group& group) const {
    std::vector<long double> values = group.expected;
    if (anchor_.right_operand != kNoValue) {
      const std::vector<int64_t>& shape = oracle_.shape(anchor_.right_operand);
      const std::vector<int64_t> lead = leading_index(g);
      const size_t missing = lead.size() + 2 - shape.size();
      IndexLists lists(shape.size());
      for (size_t axis = 0; axis < shape.size(); ++axis) {
        if (axis + 2 < shape.size()) {
          lists[axis] = {shape[axis] == 1 ? 0 : lead[axis + missing]};
          continue;
        }
        for (int64_t i = 0; i < shape[axis]; ++i) lists[axis].push_back(i);
      }
      values = oracle_.evaluate(anchor_.right_operand, lists, {Precision::oracle, flush_});
    }
    long double most = 0;
    for (long double value : values)
      if (std::isfinite(value)) most = std::max(most, std::fabs(value));
    return static_cast<double>(most);
  }

  void judge(const Group& group) {
    const DType dtype = output_.dtype;
    const double epsilon = interp::epsilon(dtype);
    // Results below the smallest normal may be flushed, like operands (semantics 19); f16 ones are exact.
    const double floor = dtype == DType::f16 ? 0 : interp::min_normal(dtype);
    const auto count = static_cast<double>(group.found.size());
    double naive_max = 0, naive_sum = 0;
    for (size_t i = 0; i < group.found.size(); ++i) {
      const auto error = static_cast<double>(std::fabs(group.naive[i] - group.expected[i]));
      if (!std::isfinite(error)) continue;
      naive_max = std::max(naive_max, error);
      naive_sum += error;
    }
    const double bound = (tanh_ ? 3 : 2) * naive_max + 4 * epsilon * group.scale + floor;
    report_.naive_max_error = std::max(report_.naive_max_error, naive_max);
    double sum = 0;
    for (size_t i = 0; i < group.found.size(); ++i) {
      if (options_.exempt && options_.exempt(result_, group.indices[i])) continue;
      const double error = error_of(group.found[i], group.expected[i], bound);
      ++report_.elements;
      sum += error;
      report_.max_error = std::max(report_.max_error, error);
      const double ratio = error == 0 ? 0 : error / bound;
      if (ratio > report_.worst_ratio || report_.worst.empty()) {
        report_.worst_ratio = ratio;
        report_.bound = bound;
        report_.worst = group.indices[i];
        report_.worst_found = group.found[i];
        report_.worst_expected = static_cast<double>(group.expected[i]);
      }
      if (error > bound)
        fail(fmt::format("%{}[{}] is {:.9g}, expected {:.9g} within {:.3g}", report_.result,
                         fmt::join(group.indices[i], ","), group.found[i], static_cast<double>(group.expected[i]),
                         bound));
    }
    sum_ += sum;
    const double mean_bound = 1.25 * naive_sum / count + epsilon * group.scale / 4 + floor;
    if (count >= 4096 && sum / count > mean_bound)
      fail(fmt::format("%{}: the mean error around [{}] is {:.3g}, more than the {:.3g} allowed", report_.result,
                       fmt::join(group.indices[0], ","), sum / count, mean_bound));
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

  const GraphOracle& oracle_;
  size_t result_;
  const TensorView& output_;
  const AccuracyOptions& options_;
  bool flush_;
  bool tanh_ = false;
  ValueId id_ = kNoValue;
  Anchor anchor_;
  AccuracyReport report_;
  double sum_ = 0;
};

}  // namespace

std::string to_string(const AccuracyReport& report) {
  if (!report.pass) return report.failure;
  return fmt::format("max error {:.3g} of {:.3g} allowed, mean {:.3g}, {} {}rows{}", report.max_error, report.bound,
                     report.mean_error, report.rows, report.sampled ? "sampled " : "",
                     report.flushed_inputs ? ", subnormal inputs read as zero" : "");
}

Result<std::vector<AccuracyReport>> verify_outputs(const Graph& graph, const DimBindings& dims,
                                                   std::span<const TensorView> inputs,
                                                   std::span<const TensorView> outputs,
                                                   const AccuracyOptions& options) {
  auto oracle = GraphOracle::create(graph, dims, inputs);
  if (!oracle) return oracle.error();
  if (outputs.size() != graph.results.size())
    return invalid("graph @{} has {} results, but {} outputs were given", graph.name, graph.results.size(),
                   outputs.size());
  std::vector<AccuracyReport> reports;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Node& node = graph[graph.results[i]];
    const std::vector<int64_t>& shape = oracle->shape(graph.results[i]);
    const std::vector<int64_t> found(outputs[i].shape.begin(), outputs[i].shape.begin() + outputs[i].rank);
    if (outputs[i].dtype != node.type.dtype || found != shape)
      return Diagnostic{ErrorKind::invalid,
                        fmt::format("the output is {}[{}], expected {}[{}]", to_string(outputs[i].dtype),
                                    fmt::join(found, ","), to_string(node.type.dtype), fmt::join(shape, ",")),
                        node.name, node.line};
    AccuracyReport report = Judge(*oracle, i, outputs[i], options, false).run();
    if (!report.pass) {
      AccuracyReport flushed = Judge(*oracle, i, outputs[i], options, true).run();
      if (flushed.pass) report = std::move(flushed);
    }
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace tilewright
