// Scores of one tile as weights, in the registers where wgmma leaves its sums; the recurrence is recurrence.cuh's.
//
// A warp has 16 rows, lane 4·g + t rows g and g + 8 of them. Of a tile of n columns it holds n / 2 sums:
//   sum i: row g + 8·(i & 2 ? 1 : 0), column 8·(i / 4) + 2·t + (i & 1)
// Four lanes share a row: maxima are reduced over them per block, sums of weights once, at the end.
// 16-bit weights of columns 16·k … 16·k + 15 (sums 8k … 8k + 7) are the A fragment of step k of P·V, without a shuffle.

/// Rows of one thread: 0 is row g of its warp, 1 is row g + 8.
struct Sm90Rows {
  i32 q[2];      ///< position among the queries
  i32 q_read[2]; ///< the same, but never beyond the last query: what expressions may load
  SoftmaxRow state[2];
};

/// Largest of a row's values over its four lanes.
TW_DEVICE float sm90_row_max(float v) {
  v = max_f32(v, shuffle_xor_f32(v, 1));
  return max_f32(v, shuffle_xor_f32(v, 2));
}
TW_DEVICE float sm90_row_sum(float v) {
  v += shuffle_xor_f32(v, 1);
  return v + shuffle_xor_f32(v, 2);
}

/// For loops over kSumsAtOnce sums that are not unrolled: the next ones come first, so that all are named by constants;
/// after the last part every sum is in its place again.
template <int part, int sums>
TW_DEVICE void sm90_turn(float (&s)[sums]) {
  if constexpr (part < sums) {
    float first[part];
    TW_UNROLL
    for (int i = 0; i < part; ++i) first[i] = s[i];
    TW_UNROLL
    for (int i = 0; i < sums - part; ++i) s[i] = s[i + part];
    TW_UNROLL
    for (int i = 0; i < part; ++i) s[sums - part + i] = first[i];
  }
}

/// Turns raw products of the keys from `kv_begin` on into scores; those that are not kept become -inf (softmax) or 0.
/// `masked`: something of the block may not be kept, or lies beyond the last key.
template <class Variant, class Layout, bool masked>
TW_DEVICE void sm90_score(const Args& args, const Sm90Item& item, const Sm90Rows& rows, i32 kv_begin, i32 kv_len,
                          float (&s)[Layout::kBlockKv / 2]) {
  if constexpr (masked || !Variant::kPlainScore) {
    constexpr int kPart = Variant::kSumsAtOnce;
    i32 first = kv_begin + (thread_index() & 3) * 2;
    TW_NO_UNROLL
    for (int part = 0; part < Layout::kBlockKv / 2; part += kPart, first += 2 * kPart) {
      TW_UNROLL
      for (int i = 0; i < kPart; ++i) {
        const int row = (i & 2) / 2;
        const i32 kv = first + i / 4 * 8 + (i & 1);
        if constexpr (masked) {
          const i32 kv_read = readable<Variant>(kv, kv_len - 1);
          const float x = Variant::score(args, s[i], item.b, item.h, rows.q_read[row], kv_read);
          bool keep = kv < kv_len;
          if constexpr (Variant::kMasked) keep = keep & Variant::keep(args, item.b, item.h, rows.q_read[row], kv_read);
          s[i] = keep ? x : Variant::kSoftmax ? neg_inf() : 0.0f;
        } else {
          s[i] = Variant::score(args, s[i], item.b, item.h, rows.q_read[row], kv);
        }
      }
      sm90_turn<kPart>(s);
    }
  }
}

/// Weights of softmax in the place of scores, which are to be multiplied by kScoreScale (> 0, so that it commutes with the
/// maximum and is folded into the exponent's FFMA). `alpha`: the factors of the sums so far.
template <class Variant, class Layout>
TW_DEVICE void sm90_weigh(Sm90Rows& rows, float (&s)[Layout::kBlockKv / 2], float (&alpha)[2]) {
  float largest[2] = {neg_inf(), neg_inf()}, reference[2];
  TW_UNROLL
  for (int i = 0; i < Layout::kBlockKv / 2; ++i) largest[(i & 2) / 2] = max_f32(largest[(i & 2) / 2], s[i]);
  TW_UNROLL
  for (int row = 0; row < 2; ++row)
    alpha[row] =
        softmax_step(rows.state[row], sm90_row_max(largest[row]) * Variant::kScoreScale, reference[row]);
  TW_UNROLL
  for (int i = 0; i < Layout::kBlockKv / 2; ++i) {
    const int row = (i & 2) / 2;
    s[i] = exp2_approx(fma_f32(s[i], Variant::kScoreScale, -reference[row]));
    rows.state[row].l += s[i];
  }
}

/// The factor that comes between the normalised weights and V (dropout); the row sums are without it.
template <class Variant, class Layout>
TW_DEVICE void sm90_apply_factor(const Args& args, const Sm90Item& item, const Sm90Rows& rows, i32 kv_begin,
                                 i32 kv_len, float (&s)[Layout::kBlockKv / 2]) {
  if constexpr (Variant::kHasWeightFactor) {
    constexpr int kPart = Variant::kSumsAtOnce;
    i32 first = kv_begin + (thread_index() & 3) * 2;
    TW_NO_UNROLL
    for (int part = 0; part < Layout::kBlockKv / 2; part += kPart, first += 2 * kPart) {
      TW_UNROLL
      for (int i = 0; i < kPart; ++i) {
        const i32 kv = first + i / 4 * 8 + (i & 1);
        s[i] *= Variant::weight_factor(args, item.b, item.h, rows.q_read[(i & 2) / 2],
                                       readable<Variant>(kv, kv_len - 1));
      }
      sm90_turn<kPart>(s);
    }
  }
}

/// Rounds the weights to the type of V.
template <class Variant, class Layout>
TW_DEVICE void sm90_round(const float (&s)[Layout::kBlockKv / 2], u32 (&p)[Layout::kBlockKv / 4]) {
  TW_UNROLL
  for (int i = 0; i < Layout::kBlockKv / 4; ++i)
    p[i] = sm90_pack(typename Variant::Value{}, s[2 * i], s[2 * i + 1]);
}
