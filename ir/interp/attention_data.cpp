#include "ir/interp/attention_data.h"

#include <cmath>

namespace tilewright::interp {

Result<AttentionData> AttentionData::create(const AttentionSpec& spec, const DimBindings& dims,
                                            std::span<const TensorView> tensors) {
  AttentionData data;
  data.spec_ = &spec;
  if (auto bound = data.bind(spec, dims, tensors); !bound) return bound.error();
  return data;
}

void AttentionData::enter_head(int64_t b, int64_t h) {
  SpaceData::enter_head(b, h);
  values_ = key_rows(spec_->value, spec_->value_dim);
}

long double AttentionData::score(const Expr& expr, int64_t q, int64_t kv, long double dot) const {
  return evaluate(expr, *dims_, tensors_, axes(q, kv, 0), dot);
}

long double AttentionData::weight_factor(int64_t q, int64_t kv) const {
  return spec_->weight_factor ? evaluate(*spec_->weight_factor, *dims_, tensors_, axes(q, kv, 0), 0) : 1;
}

long double AttentionData::sink(int64_t q) const {
  return spec_->sink ? evaluate(*spec_->sink, *dims_, tensors_, axes(q, 0, 0), 0) : -HUGE_VALL;
}

int64_t AttentionData::block_value(const Expr& expr, int64_t q_lo, int64_t q_hi, int64_t kv_lo, int64_t kv_hi) const {
  const Axes at{b_, h_, q_lo, kv_lo, 0, 0, 0, 0, q_lo, q_hi, kv_lo, kv_hi};
  return evaluate_int(expr, *dims_, tensors_, at);
}

void AttentionData::store_output(int64_t q, int64_t column, long double value) {
  element(spec_->output, axes(q, 0, column)) = value;
}

void AttentionData::store_lse(int64_t q, long double value) { element(*spec_->logsumexp, axes(q, 0, 0)) = value; }

}  // namespace tilewright::interp
