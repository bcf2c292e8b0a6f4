// A BackwardSpec by its definition: every point (b, h, q, kv) that is kept adds to the sums, no blocks.
#include <algorithm>

#include "ir/interp/space_data.h"

namespace tilewright {
namespace {

class Backward : interp::SpaceData {
 public:
  explicit Backward(const BackwardSpec& spec) : spec_(spec), roots_(roots(spec)) {}

  Result<std::vector<OracleTensor>> run(const DimBindings& dims, std::span<const TensorView> tensors) {
    if (auto bound = bind(spec_, dims, tensors); !bound) return bound.error();
    start_at_zero();
    for (int64_t b = 0; b < batches; ++b)
      for (int64_t h = 0; h < heads; ++h) {
        enter_head(b, h);
        if (spec_.output_gradient) values_ = key_rows(spec_.output_gradient->key, spec_.output_gradient->head_dim);
        row_operands_.clear();
        for (const BackwardProduct& row : spec_.rows) row_operands_.push_back(key_rows(row.operand, row.width));
        for (int64_t q = 0; q < q_len; ++q) add_query(q);
      }
    return std::move(outputs);
  }

 private:
  /// What a product reaches is 0 until something is added; what it does not reach stays NaN. Captured sums are 0
  /// everywhere.
  void start_at_zero() {
    for (const CapturedSum& sum : spec_.captured) std::ranges::fill(values_of(sum.tensor), 0);
    for (b_ = 0; b_ < batches; ++b_)
      for (h_ = 0; h_ < heads; ++h_) {
        for (const BackwardProduct& row : spec_.rows)
          for (int64_t q = 0; q < q_len; ++q)
            for (int64_t d = 0; d < row.width; ++d) element(row.output, axes(q, 0, d)) = 0;
        for (const BackwardProduct& column : spec_.columns)
          for (int64_t kv = 0; kv < kv_len; ++kv)
            for (int64_t d = 0; d < column.width; ++d) element(column.output, axes(0, kv, d)) = 0;
      }
  }

  std::vector<long double>& values_of(int tensor) {
    size_t output = 0;
    for (int i = 0; i < tensor; ++i) output += spec_.tensors[static_cast<size_t>(i)].output;
    return outputs[output].values;
  }

  void add_query(int64_t q) {
    const std::vector<long double> s = dots(q, 0, kv_len);
    std::vector<long double> gradient;
    if (spec_.output_gradient)
      for (int64_t d = 0; d < spec_.output_gradient->head_dim; ++d)
        gradient.push_back(read(spec_.output_gradient->query, axes(q, 0, d)));
    for (int64_t kv = 0; kv < kv_len; ++kv) {
      if (!keep(q, kv)) continue;
      long double t = 0;
      for (size_t d = 0; d < gradient.size(); ++d)
        t += gradient[d] * values_[static_cast<size_t>(kv) * gradient.size() + d];
      const long double products[] = {s[static_cast<size_t>(kv)], t};
      add_point(q, kv, evaluate(spec_.weights, roots_, *dims_, tensors_, axes(q, kv, 0), products));
    }
  }

  /// `weights`: values of all roots, in their order.
  void add_point(int64_t q, int64_t kv, const std::vector<long double>& weights) {
    size_t root = 0;
    for (size_t i = 0; i < spec_.rows.size(); ++i) {
      const BackwardProduct& row = spec_.rows[i];
      const long double weight = weights[root++];
      for (int64_t d = 0; d < row.width; ++d)
        element(row.output, axes(q, 0, d)) += weight * row_operands_[i][static_cast<size_t>(kv * row.width + d)];
    }
    for (const BackwardProduct& column : spec_.columns) {
      const long double weight = weights[root++];
      for (int64_t d = 0; d < column.width; ++d)
        element(column.output, axes(0, kv, d)) += weight * read(column.operand, axes(q, 0, d));
    }
    for (const CapturedSum& sum : spec_.captured) {
      const long double weight = weights[root++];
      const TensorType& type = spec_.tensors[static_cast<size_t>(sum.tensor)].type;
      std::vector<int64_t> position;
      bool empty = false;
      for (const Dim& dim : type.shape) {
        const int64_t size = *dim.evaluate(*dims_);
        empty |= size == 0;
        position.push_back(
            std::clamp<int64_t>(static_cast<int64_t>(weights[root++]), 0, std::max<int64_t>(size - 1, 0)));
      }
      if (!empty) element(sum.tensor, position) += weight;
    }
  }

  const BackwardSpec& spec_;
  std::vector<ExprId> roots_;
  std::vector<long double> values_;                     ///< V of the current head, [kv_len, head_dim of t]
  std::vector<std::vector<long double>> row_operands_;  ///< per row product, [kv_len, width]
};

}  // namespace

Result<std::vector<OracleTensor>> interpret(const BackwardSpec& spec, const DimBindings& dims,
                                            std::span<const TensorView> tensors) {
  return Backward(spec).run(dims, tensors);
}

}  // namespace tilewright
