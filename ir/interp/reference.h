// What the accuracy rule compares with: oracle and naive values of one result, (b, h) by (b, h).
#pragma once

#include <optional>

#include "ir/accuracy.h"
#include "ir/interp/result_rows.h"

namespace tilewright::interp {

/// Compared elements of one (b, h).
struct ReferenceGroup {
  int64_t rows = 0;
  std::vector<std::vector<int64_t>> indices;  ///< into the result
  std::vector<long double> expected, naive;
  double scale = 0;  ///< max|V|, or max|ref|
  double terms = 0;  ///< the largest sum of |terms| of an element, where it was asked for
};

class ResultReference {
 public:
  /// `magnitudes`: of the oracle's graph with_magnitudes(result), null where they are not asked for.
  ResultReference(const GraphOracle& oracle, size_t result, const AccuracyOptions& options, bool flush,
                  const GraphOracle* magnitudes = nullptr);

  const GraphOracle& oracle() const { return oracle_; }
  bool flush() const { return flush_; }
  ValueId value() const { return id_; }
  bool sampled() const { return sampled_; }
  int64_t groups() const { return groups_; }
  ReferenceGroup group(int64_t g) const;

 private:
  std::vector<int64_t> leading_index(int64_t group) const;
  void append_rows(int64_t g, std::span<const int64_t> rows, ReferenceGroup& group) const;
  struct Values {
    std::vector<long double> expected, naive, terms;
  };
  Values evaluate(const IndexLists& lists) const;
  double scale_of(int64_t g, const ReferenceGroup& group) const;

  const GraphOracle& oracle_;
  const GraphOracle* magnitudes_;
  bool flush_;
  ValueId id_ = kNoValue;
  Anchor anchor_;
  bool sampled_ = false;
  int64_t groups_ = 1;
  size_t rows_at_once_ = 1;
  bool at_once_ = false;  ///< the whole result is within the bound of rows_at_once_: groups share one evaluation
  mutable std::optional<Values> whole_;
  RowChoice rows_;
};

}  // namespace tilewright::interp
