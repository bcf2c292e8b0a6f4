// An attention layer as loops in double, written from its definition: the judge of both layers.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "layers/attention_graph.h"

namespace tilewright::testing {

struct ReferenceResult {
  std::vector<double> y, weights;  ///< [B,S,E] and [B,H,S,S]
};

inline double reference_slope(int64_t head, int64_t heads) {
  int64_t power = 1;
  while (2 * power <= heads) power *= 2;
  const double h = static_cast<double>(head < power ? head + 1 : 2 * (head - power) + 1);
  return std::exp2(-8.0 * h / static_cast<double>(head < power ? power : 2 * power));
}

/// Semantics 13: whether weight (b·H + h, q, kv) is kept in the given draw.
inline bool reference_keeps(double rate, uint64_t seed, int64_t draw, int64_t bh, int64_t q, int64_t kv) {
  uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  uint32_t x[4] = {static_cast<uint32_t>(kv / 4), static_cast<uint32_t>(q), static_cast<uint32_t>(bh),
                   static_cast<uint32_t>(draw)};
  for (int round = 0; round < 10; ++round) {  // Philox4x32-10
    const uint64_t a = uint64_t{0xD2511F53} * x[0], b = uint64_t{0xCD9E8D57} * x[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ x[1] ^ key[0], static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ x[3] ^ key[1], static_cast<uint32_t>(a)};
    std::copy(next, next + 4, x);
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return x[kv % 4] >= static_cast<uint64_t>(std::floor(rate * 0x1p32));
}

inline void reference_activation(Activation activation, std::vector<double>& row) {
  double sum = 0;
  for (double& x : row) {
    switch (activation) {
      case Activation::identity: break;
      case Activation::relu: x = std::max(x, 0.0); break;
      case Activation::gelu: x = x / 2 * (1 + std::erf(x / std::sqrt(2.0))); break;
      case Activation::silu: x = x / (1 + std::exp(-x)); break;
      case Activation::tanh: x = std::tanh(x); break;
      case Activation::sigmoid: x = 1 / (1 + std::exp(-x)); break;
      case Activation::softmax: sum += x = std::exp(x); break;
    }
  }
  if (activation == Activation::softmax)
    for (double& x : row) x /= sum;
}

inline ReferenceResult reference_layer(const AttentionGraphRequest& request, const std::vector<double>& parameters,
                                       const std::vector<double>& x, int64_t batch, int64_t length, int64_t draw = 0) {
  const auto& [shape, config, activation, dtype] = request;
  const int64_t width = shape.embedding_dim, heads = shape.head_count, d = width / heads;
  const int64_t kv_heads = config.kv_heads ? config.kv_heads : heads;
  const std::vector<ParameterSlot> slots = parameter_slots(shape, config);
  const auto project = [&](size_t slot, const double* row, int64_t out) {
    std::vector<double> y(static_cast<size_t>(out));
    for (int64_t n = 0; n < out; ++n) {
      y[n] = parameters[slots[slot + 1].offset + n];
      for (int64_t k = 0; k < width; ++k) y[n] += row[k] * parameters[slots[slot].offset + n * width + k];
    }
    return y;
  };
  const auto turn = [&](std::vector<double>& row, int64_t position) {
    if (config.positions != PositionalEncoding::rope) return;
    for (size_t head = 0; head < row.size() / d; ++head)
      for (int64_t i = 0; i < d / 2; ++i) {
        const bool half = config.rope_layout == RopeLayout::rotate_half;
        double& a = row[head * d + (half ? i : 2 * i)];
        double& b = row[head * d + (half ? i + d / 2 : 2 * i + 1)];
        const double angle = static_cast<double>(position) *
                             std::pow(config.rope_base, -2.0 * static_cast<double>(i) / static_cast<double>(d));
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = b * std::cos(angle) + a * std::sin(angle);
        a = turned;
      }
  };
  const double scale = config.scale.value_or(1 / std::sqrt(static_cast<double>(d)));
  ReferenceResult result;
  result.weights.resize(static_cast<size_t>(batch * heads * length * length));
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<std::vector<double>> q, k, v;
    for (int64_t s = 0; s < length; ++s) {
      const double* row = &x[(b * length + s) * width];
      q.push_back(project(0, row, width));
      k.push_back(project(2, row, kv_heads * d));
      v.push_back(project(4, row, kv_heads * d));
      turn(q.back(), s);
      turn(k.back(), s);
    }
    for (int64_t i = 0; i < length; ++i) {
      std::vector<double> merged(static_cast<size_t>(width));
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t g = h / (heads / kv_heads);
        double* p = &result.weights[((b * heads + h) * length + i) * length];
        double sum = 0;
        for (int64_t j = 0; j < length; ++j) {
          double s = 0;
          for (int64_t c = 0; c < d; ++c) s += q[i][h * d + c] * k[j][g * d + c];
          s *= scale;
          if (config.positions == PositionalEncoding::alibi)
            s += reference_slope(h, heads) * static_cast<double>(j - i);
          if (config.causal && j > i) s = -std::numeric_limits<double>::infinity();
          sum += p[j] = std::exp(s);
        }
        for (int64_t j = 0; j < length; ++j) {
          p[j] /= sum;
          const double rate = config.dropout;
          const bool keeps = rate == 0 || (rate < 1 && reference_keeps(rate, config.seed, draw, b * heads + h, i, j));
          const double weight = keeps ? p[j] / (1 - rate) : 0;
          for (int64_t c = 0; c < d; ++c) merged[h * d + c] += weight * v[j][g * d + c];
        }
      }
      std::vector<double> y = project(6, merged.data(), width);
      reference_activation(activation, y);
      result.y.insert(result.y.end(), y.begin(), y.end());
    }
  }
  return result;
}

}  // namespace tilewright::testing
