// A ScoreSpace bound to tensors: extents, and Q, K, keep and accesses at a point. The base of the interpreters of
// fused passes.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "ir/interp.h"

namespace tilewright::interp {

class SpaceData {
 public:
  /// Errors: unbound dims, tensors that do not match the space's. All three must outlive this.
  Result<Done> bind(const ScoreSpace& space, const DimBindings& dims, std::span<const TensorView> tensors);

  int64_t batches = 0, heads = 0, q_len = 0, kv_len = 0;

  /// Reads the keys of one (b, h); those hidden by keep_kv are 0.
  void enter_head(int64_t b, int64_t h);
  /// Rows of an access over b, h, kv and d in the current head, [kv_len, columns]; those hidden by keep_kv are not
  /// read and 0.
  std::vector<long double> key_rows(const Access& access, int64_t columns,
                                    const std::optional<RowProgram>& row = {}) const;
  /// Σ over the dot terms for one query row of the current head: one raw score per kv of [kv_begin, kv_end).
  std::vector<long double> dots(int64_t q, int64_t kv_begin, int64_t kv_end) const;
  bool keep(int64_t q, int64_t kv) const;

  /// One OracleTensor per output tensor of the space, NaN where nothing was stored yet.
  std::vector<OracleTensor> outputs;

 protected:
  using Axes = std::array<int64_t, 12>;
  Axes axes(int64_t q, int64_t kv, int64_t d) const;
  long double read(const Access& access, const Axes& at) const;
  /// The element of `outputs` that an access reaches.
  long double& element(const Access& access, const Axes& at);
  /// The same by tensor and position.
  long double& element(int tensor, std::span<const int64_t> position);

  const DimBindings* dims_ = nullptr;
  std::span<const TensorView> tensors_;
  int64_t b_ = 0, h_ = 0;

 private:
  /// Columns of one row, q or kv, of an operand in the current head.
  std::vector<long double> operand_row(const Access& access, const std::optional<RowProgram>& row, int64_t columns,
                                       int64_t q, int64_t kv) const;
  std::vector<long double> computed_row(const RowProgram& row, int64_t columns, int64_t q, int64_t kv) const;
  /// Position of the element in the tensor of the access, per axis.
  std::vector<int64_t> position(const Access& access, const Axes& at) const;

  const ScoreSpace* space_ = nullptr;
  std::vector<std::vector<long double>> keys_;  ///< per dot term, [kv_len, head_dim]
};

}  // namespace tilewright::interp
