// An AttentionSpec by its definition: every score of a row at once, no blocks.
#include <cmath>

#include "ir/interp/attention_data.h"

namespace tilewright {
namespace {

using interp::AttentionData;

/// Weights of one row over all kv, 0 where nothing is kept, and the row's LSE.
long double normalise(std::vector<long double>& weights, const std::vector<bool>& kept, long double sink) {
  long double max = -HUGE_VALL;
  bool has_nan = std::isnan(sink);
  for (size_t kv = 0; kv < weights.size(); ++kv) {
    if (!kept[kv]) continue;
    has_nan |= std::isnan(weights[kv]);
    max = std::max(max, weights[kv]);
  }
  if (max == -HUGE_VALL && !has_nan) {
    std::fill(weights.begin(), weights.end(), 0);
    return sink;
  }
  max = has_nan ? std::nanl("") : std::max(max, sink);
  long double sum = std::exp(sink - max);
  for (size_t kv = 0; kv < weights.size(); ++kv) {
    weights[kv] = kept[kv] ? std::exp(weights[kv] - max) : 0;
    sum += weights[kv];
  }
  for (long double& weight : weights) weight /= sum;
  return max + std::log(sum);
}

void attend(const AttentionSpec& spec, AttentionData& data, int64_t q) {
  std::vector<long double> weights = data.dots(q, 0, data.kv_len);
  std::vector<bool> kept(weights.size());
  for (int64_t kv = 0; kv < data.kv_len; ++kv) {
    const auto i = static_cast<size_t>(kv);
    kept[i] = data.keep(q, kv);
    weights[i] = kept[i] ? data.score(spec.score, q, kv, weights[i]) : 0;
  }
  const long double lse = spec.normaliser == Normaliser::softmax ? normalise(weights, kept, data.sink(q)) : 0;
  for (int64_t kv = 0; spec.weight_factor && kv < data.kv_len; ++kv)
    if (long double& weight = weights[static_cast<size_t>(kv)]; weight != 0) {
      const long double factor = data.weight_factor(q, kv);
      weight = factor == 0 ? 0 : weight * factor;
    }
  for (int64_t column = 0; column < spec.value_dim; ++column) {
    long double sum = 0;
    for (int64_t kv = 0; kv < data.kv_len; ++kv)
      if (kept[static_cast<size_t>(kv)] && weights[static_cast<size_t>(kv)] != 0)
        sum += weights[static_cast<size_t>(kv)] * data.value(kv, column);
    data.store_output(q, column, sum);
  }
  if (spec.logsumexp) data.store_lse(q, lse);
}

}  // namespace

Result<std::vector<OracleTensor>> interpret(const AttentionSpec& spec, const DimBindings& dims,
                                            std::span<const TensorView> tensors) {
  auto data = AttentionData::create(spec, dims, tensors);
  if (!data) return data.error();
  for (int64_t b = 0; b < data->batches; ++b)
    for (int64_t h = 0; h < data->heads; ++h) {
      data->enter_head(b, h);
      for (int64_t q = 0; q < data->q_len; ++q) attend(spec, *data, q);
    }
  return std::move(data->outputs);
}

}  // namespace tilewright
