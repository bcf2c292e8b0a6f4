// AttentionSpec: one fused attention, what it means and nothing of how it runs.
//
//   for every (b, h, q):
//     s[kv] = score( Σ_dots Q(b,h,q,·)·K(b,h,kv,·); b, h, q, kv )        natural units
//     P     = softmax over { kv : keep(b,h,q,kv) } of s, sink included   | or P = s where kept, 0 elsewhere (none)
//     O[d]  = Σ_kv P[kv] · weight_factor(b,h,q,kv) · V(b,h,kv,d)         factor 1 when there is none
//     LSE   = log( exp(sink) + Σ_kept exp(s) )
#pragma once

#include <optional>

#include "ir/score_space.h"

namespace tilewright {

enum class Normaliser : uint8_t { softmax, none };

struct AttentionSpec : ScoreSpace {
  Access value;
  int64_t value_dim = 0;
  DType weights = DType::f32;  ///< f16 and bf16: what P may be rounded to where it meets V; else nothing
  Expr score;                  ///< of `accumulate`, over s, b, h, q, kv; the scale is in here
  Normaliser normaliser = Normaliser::softmax;
  std::optional<Expr> sink;  ///< natural-log units, over b, h, q
  /// Of `accumulate`, over b, h, q, kv, softmax only: what a normalised weight is multiplied by before V, as dropout
  /// does. The LSE is without it.
  std::optional<Expr> weight_factor;
  Access output;
  std::optional<Access> logsumexp;  ///< no d axis
  friend bool operator==(const AttentionSpec&, const AttentionSpec&) = default;
};

}  // namespace tilewright
