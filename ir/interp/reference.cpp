#include "ir/interp/reference.h"

#include <algorithm>
#include <cmath>

namespace tilewright::interp {

ResultReference::ResultReference(const GraphOracle& oracle, size_t result, const AccuracyOptions& options, bool flush,
                                 const GraphOracle* magnitudes)
    : oracle_(oracle), magnitudes_(magnitudes), flush_(flush), id_(oracle.graph().results[result]) {
  anchor_ = find_anchor(oracle.graph(), id_);
  const std::vector<int64_t>& shape = oracle.shape(anchor_.value);
  for (size_t axis = 0; axis < anchor_.row_axis; ++axis) groups_ *= shape[axis];
  const int64_t rows = shape.empty() ? 1 : shape[anchor_.row_axis];
  const int64_t scores = score_count(oracle, id_);
  sampled_ = scores > options.full_up_to;
  rows_ = sampled_ ? sampled_rows(groups_, rows, options.sampled_rows, options.block_rows, options.seed)
                   : all_rows(groups_, rows);
  // Bounds the working set: rows x keys of one evaluation.
  constexpr int64_t kScores = int64_t{1} << 22;
  const int64_t row_scores = std::max<int64_t>(1, scores / std::max<int64_t>(1, groups_ * rows));
  rows_at_once_ = static_cast<size_t>(std::max<int64_t>(32, kScores / row_scores));
  at_once_ = !sampled_ && scores <= kScores;
}

ReferenceGroup ResultReference::group(int64_t g) const {
  ReferenceGroup group;
  const std::vector<int64_t>& list = rows_[static_cast<size_t>(g)];
  group.rows = static_cast<int64_t>(list.size());
  for (size_t at = 0; at < list.size(); at += rows_at_once_)
    append_rows(g, std::span(list).subspan(at, std::min(rows_at_once_, list.size() - at)), group);
  if (!group.indices.empty()) group.scale = scale_of(g, group);
  return group;
}

std::vector<int64_t> ResultReference::leading_index(int64_t group) const {
  std::vector<int64_t> index(anchor_.row_axis);
  const std::vector<int64_t>& shape = oracle_.shape(anchor_.value);
  for (size_t axis = anchor_.row_axis; axis-- > 0; group /= shape[axis]) index[axis] = group % shape[axis];
  return index;
}

void ResultReference::append_rows(int64_t g, std::span<const int64_t> rows, ReferenceGroup& group) const {
  const std::vector<int64_t>& shape = oracle_.shape(anchor_.value);
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return;
  std::vector<std::vector<int64_t>> indices;
  for (int64_t row : rows) {
    std::vector<int64_t> index = leading_index(g);
    if (!shape.empty()) index.push_back(row);
    index.resize(shape.size(), 0);
    while (true) {
      indices.push_back(follow_trail(oracle_, anchor_, index));
      size_t axis = shape.size();
      while (axis > anchor_.row_axis + 1 && index[axis - 1] + 1 >= shape[axis - 1]) index[--axis] = 0;
      if (axis <= anchor_.row_axis + 1) break;
      ++index[axis - 1];
    }
  }
  if (indices.empty()) return;
  IndexLists lists(indices[0].size());
  for (size_t axis = 0; axis < lists.size(); ++axis) {
    if (at_once_) {
      for (int64_t i = 0; i < oracle_.shape(id_)[axis]; ++i) lists[axis].push_back(i);
      continue;
    }
    for (const auto& index : indices) lists[axis].push_back(index[axis]);
    std::sort(lists[axis].begin(), lists[axis].end());
    lists[axis].erase(std::unique(lists[axis].begin(), lists[axis].end()), lists[axis].end());
  }
  if (at_once_ && !whole_) whole_ = evaluate(lists);
  const Values part = at_once_ ? Values{} : evaluate(lists);
  const auto& [expected, naive, terms] = at_once_ ? *whole_ : part;
  for (std::vector<int64_t>& index : indices) {
    int64_t flat = 0;
    for (size_t axis = 0; axis < index.size(); ++axis) {
      const auto at = std::lower_bound(lists[axis].begin(), lists[axis].end(), index[axis]) - lists[axis].begin();
      flat = flat * static_cast<int64_t>(lists[axis].size()) + at;
    }
    group.expected.push_back(expected[static_cast<size_t>(flat)]);
    group.naive.push_back(naive[static_cast<size_t>(flat)]);
    if (magnitudes_ && std::isfinite(terms[static_cast<size_t>(flat)]))
      group.terms = std::max(group.terms, static_cast<double>(terms[static_cast<size_t>(flat)]));
    group.indices.push_back(std::move(index));
  }
}

ResultReference::Values ResultReference::evaluate(const IndexLists& lists) const {
  Values values{oracle_.evaluate(id_, lists, {Precision::oracle, flush_}),
                oracle_.evaluate(id_, lists, {Precision::naive, flush_}),
                {}};
  if (magnitudes_)
    values.terms = magnitudes_->evaluate(magnitudes_->graph().results.back(), lists, {Precision::oracle, flush_});
  return values;
}

double ResultReference::scale_of(int64_t g, const ReferenceGroup& group) const {
  std::vector<long double> values;
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
  // An error of eps in a logarithm is a relative error of eps in what it is the logarithm of, however near 0 it lies.
  const bool logarithm =
      oracle_.graph()[anchor_.value].op == Op::logsumexp || oracle_.graph()[anchor_.value].op == Op::log;
  long double most = logarithm ? 1 : 0;
  for (long double value : anchor_.right_operand == kNoValue ? group.expected : values)
    if (std::isfinite(value)) most = std::max(most, std::fabs(value));
  return static_cast<double>(most);
}

}  // namespace tilewright::interp
