// A spec bound to tensors: extents, and Q, K, V, score, keep and sink at a point. Used by the spec and the tile
// interpreter.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "ir/interp.h"

namespace tilewright::interp {

class AttentionData {
 public:
  /// Errors: unbound dims, tensors that do not match the spec's.
  static Result<AttentionData> create(const AttentionSpec& spec, const DimBindings& dims,
                                      std::span<const TensorView> tensors);

  int64_t batches = 0, heads = 0, q_len = 0, kv_len = 0;

  /// Reads K and V of one (b, h); keys and values hidden by keep_kv are 0.
  void enter_head(int64_t b, int64_t h);
  /// Σ over the dot terms for one query row of the current head: one raw score per kv of [kv_begin, kv_end).
  std::vector<long double> dots(int64_t q, int64_t kv_begin, int64_t kv_end) const;
  long double value(int64_t kv, int64_t column) const {
    return values_[static_cast<size_t>(kv * spec_->value_dim + column)];
  }
  long double score(const Expr& expr, int64_t q, int64_t kv, long double dot) const;
  bool keep(int64_t q, int64_t kv) const;
  /// -inf when there is none.
  long double sink(int64_t q) const;
  /// Block tests and ranges; `q_*` and `kv_*` are inclusive bounds.
  int64_t block_value(const Expr& expr, int64_t q_lo, int64_t q_hi, int64_t kv_lo, int64_t kv_hi) const;

  /// One OracleTensor per output tensor of the spec, NaN where nothing was stored yet.
  std::vector<OracleTensor> outputs;
  void store_output(int64_t q, int64_t column, long double value);
  void store_lse(int64_t q, long double value);

 private:
  using Axes = std::array<int64_t, 12>;
  Axes axes(int64_t q, int64_t kv, int64_t d) const;
  /// Position of the element in the tensor of the access, per axis.
  std::vector<int64_t> position(const Access& access, const Axes& at) const;
  long double read(const Access& access, const Axes& at) const;
  void store(const Access& access, const Axes& at, long double value);

  const AttentionSpec* spec_ = nullptr;
  const DimBindings* dims_ = nullptr;
  std::span<const TensorView> tensors_;
  int64_t b_ = 0, h_ = 0;
  std::vector<std::vector<long double>> keys_;  ///< per dot term, [kv_len, head_dim]
  std::vector<long double> values_;             ///< [kv_len, value_dim]
};

}  // namespace tilewright::interp
