// An AttentionSpec bound to tensors: what SpaceData has, and V, score and sink at a point. Used by the spec and the
// tile interpreter.
#pragma once

#include "ir/interp/space_data.h"

namespace tilewright::interp {

class AttentionData : public SpaceData {
 public:
  static Result<AttentionData> create(const AttentionSpec& spec, const DimBindings& dims,
                                      std::span<const TensorView> tensors);

  /// Reads K and V of one (b, h).
  void enter_head(int64_t b, int64_t h);
  long double value(int64_t kv, int64_t column) const {
    return values_[static_cast<size_t>(kv * spec_->value_dim + column)];
  }
  long double score(const Expr& expr, int64_t q, int64_t kv, long double dot) const;
  /// 1 when there is none.
  long double weight_factor(int64_t q, int64_t kv) const;
  /// -inf when there is none.
  long double sink(int64_t q) const;
  /// Block tests and ranges; `q_*` and `kv_*` are inclusive bounds.
  int64_t block_value(const Expr& expr, int64_t q_lo, int64_t q_hi, int64_t kv_lo, int64_t kv_hi) const;

  void store_output(int64_t q, int64_t column, long double value);
  void store_lse(int64_t q, long double value);

 private:
  const AttentionSpec* spec_ = nullptr;
  std::vector<long double> values_;  ///< [kv_len, value_dim]
};

}  // namespace tilewright::interp
