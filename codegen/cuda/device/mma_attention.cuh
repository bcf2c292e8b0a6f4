// The two products of attention and what lies between them, on fragments of mma.sync m16n8k16 in the registers of a warp.
// Within it, lane = 4·g + t:
//
//   C   rows g and g + 8, columns 2t and 2t + 1:   c[0] c[1] | c[2] c[3]
//   A   the same rows, k = 2t, 2t + 1 and 8 more:  a[0] rows g, a[1] rows g + 8, a[2] and a[3] the same of k + 8
//   B   column g, k = 2t, 2t + 1:                  b0, and b1 of k + 8
//
// so C of two neighbouring n8 tiles is A of one k16 step, relabelled: weights meet V without a shuffle.
// A band is 16 rows. Sums of a warp: float[bands][columns / 8][4].

/// Where a lane points ldmatrix_x4 to for A of rows 0–15, k 0–15.
template <int kChunks>
TW_DEVICE u32 a_fragment(u32 tile, i32 lane) {
  return tile + SharedTile<kChunks>::offset(lane & 15, lane >> 4);
}
/// For B from a tile of rows n, columns k (K): rows 0–15 give two n8 tiles, registers {0, 1} and {2, 3}.
template <int kChunks>
TW_DEVICE u32 b_fragment(u32 tile, i32 lane) {
  return tile + SharedTile<kChunks>::offset((lane & 7) + (lane >> 4) * 8, lane >> 3 & 1);
}
/// For B from a tile of rows k, columns n (V), with ldmatrix_x4_trans: columns 0–15 give two n8 tiles likewise.
template <int kChunks>
TW_DEVICE u32 b_fragment_transposed(u32 tile, i32 lane) {
  return tile + SharedTile<kChunks>::offset((lane & 7) + (lane >> 3 & 1) * 8, lane >> 4);
}

template <int kBands, int kTiles>
TW_DEVICE void clear_sums(float (&c)[kBands][kTiles][4]) {
  TW_UNROLL
  for (int m = 0; m < kBands; ++m)
    TW_UNROLL
    for (int n = 0; n < kTiles; ++n) c[m][n][0] = c[m][n][1] = c[m][n][2] = c[m][n][3] = 0.0f;
}

/// Q of a warp as A, kept in registers where they are few, else read from shared memory whenever it is needed.
template <int kBands, int kChunks, int kParts, int kPartBytes>
struct QueryFragments {
  static constexpr bool kHeld = kParts == 1 && kBands * kChunks * 2 <= 32;
  u32 address;  ///< where the lane points ldmatrix to
  u32 held[kBands][kChunks / 2][4];

  TW_DEVICE void read(u32 (&a)[4], u32 address, int part, int m, int k) {
    ldmatrix_x4(a, SharedTile<kChunks>::advance(address, 2 * k) +
                       static_cast<u32>(part * kPartBytes + m * 16 * SharedTile<kChunks>::kRowBytes));
  }
  /// Once, as soon as Q is in shared memory.
  TW_DEVICE void hold(QueryFragments& query) {
    if constexpr (kHeld) {
      TW_UNROLL
      for (int m = 0; m < kBands; ++m)
        TW_UNROLL
        for (int k = 0; k < kChunks / 2; ++k) read(query.held[m][k], query.address, 0, m, k);
    }
  }
  TW_DEVICE void get(u32 (&a)[4], const QueryFragments& query, int part, int m, int k) {
    if constexpr (kHeld) {
      TW_UNROLL
      for (int i = 0; i < 4; ++i) a[i] = query.held[m][k][i];
    } else {
      read(a, query.address, part, m, k);
    }
  }
};

/// S = Q·K' for kTiles · 8 keys. `key`: b_fragment of their tile; its parts are kKeyPartBytes apart.
template <class Element, int kKeyPartBytes, int kBands, int kTiles, int kChunks, int kParts, int kPartBytes>
TW_DEVICE void multiply_scores(float (&s)[kBands][kTiles][4],
                               const QueryFragments<kBands, kChunks, kParts, kPartBytes>& query, u32 key) {
  typedef QueryFragments<kBands, kChunks, kParts, kPartBytes> Fragments;
  clear_sums(s);
  TW_UNROLL
  for (int k = 0; k < kChunks / 2; ++k) {
    u32 a[kParts][kBands][4];
    TW_UNROLL
    for (int m = 0; m < kBands; ++m)
      TW_UNROLL
      for (int part = 0; part < kParts; ++part) Fragments::get(a[part][m], query, part, m, k);
    TW_UNROLL
    for (int n = 0; n < kTiles / 2; ++n)
      TW_UNROLL
      for (int j = 0; j < kParts; ++j) {
        u32 b[4];
        ldmatrix_x4(b, SharedTile<kChunks>::advance(key, 2 * k) +
                           static_cast<u32>(j * kKeyPartBytes + n * 16 * SharedTile<kChunks>::kRowBytes));
        TW_UNROLL
        for (int i = 0; i + j < kParts; ++i)
          TW_UNROLL
          for (int m = 0; m < kBands; ++m) {
            mma(Element{}, s[m][2 * n], a[i][m], b[0], b[1]);
            mma(Element{}, s[m][2 * n + 1], a[i][m], b[2], b[3]);
          }
      }
  }
}

/// O += P·V over kTiles · 8 keys. `value`: b_fragment_transposed of their tile.
template <class Element, int kWeightParts, int kValueParts, int kValuePartBytes, int kBands, int kTiles, int kChunks>
TW_DEVICE void multiply_values(float (&o)[kBands][kChunks][4], const float (&p)[kBands][kTiles][4], u32 value) {
  constexpr int kLarger = kWeightParts > kValueParts ? kWeightParts : kValueParts;
  TW_UNROLL
  for (int k = 0; k < kTiles / 2; ++k) {
    u32 a[kWeightParts][kBands][4];
    TW_UNROLL
    for (int m = 0; m < kBands; ++m)
      TW_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float(&c)[4] = p[m][2 * k + i / 2];
        u32 parts[kWeightParts];
        split_pair<Element, kWeightParts>(c[i % 2 * 2], c[i % 2 * 2 + 1], parts);
        TW_UNROLL
        for (int part = 0; part < kWeightParts; ++part) a[part][m][i] = parts[part];
      }
    TW_UNROLL
    for (int n = 0; n < kChunks / 2; ++n)
      TW_UNROLL
      for (int j = 0; j < kValueParts; ++j) {
        u32 b[4];
        ldmatrix_x4_trans(b, SharedTile<kChunks>::advance(value, 2 * n) +
                                 static_cast<u32>(j * kValuePartBytes + k * 16 * SharedTile<kChunks>::kRowBytes));
        TW_UNROLL
        for (int i = 0; i < kWeightParts; ++i)
          if (i + j < kLarger)
            TW_UNROLL
            for (int m = 0; m < kBands; ++m) {
              mma(Element{}, o[m][2 * n], a[i][m], b[0], b[1]);
              mma(Element{}, o[m][2 * n + 1], a[i][m], b[2], b[3]);
            }
      }
  }
}

/// Which query a row of a band is; one that exists, so that expressions may load for it.
struct RowPlace {
  i32 h, q;
};

/// Turns products of a band into weights: score expression, keep (only where the block is not `full`), the recurrence's
/// step, weight factor. `first`: the key of this lane's column 0; no key beyond `last` exists. Row sums stay per lane
/// until quad_sum. `alpha`: the factors of the rows' sums so far.
template <class Variant, int kTiles>
TW_DEVICE void weigh_band(const Args& args, i32 b, const RowPlace (&at)[2], i32 first, i32 last, bool full,
                          float (&s)[kTiles][4], SoftmaxRow (&rows)[2], float (&alpha)[2]) {
  TW_UNROLL
  for (int i = 0; i < 4 * kTiles; ++i) {
    const i32 kv = first + i / 4 * 8 + (i & 1);
    float& x = s[i / 4][i % 4];
    x = Variant::score(args, x, b, at[i % 4 / 2].h, at[i % 4 / 2].q, readable<Variant>(kv, last));
  }
  if (!full) {
    TW_UNROLL
    for (int i = 0; i < 4 * kTiles; ++i) {
      const i32 kv = first + i / 4 * 8 + (i & 1);
      bool keep = kv <= last;
      if constexpr (Variant::kMasked)
        keep = keep & Variant::keep(args, b, at[i % 4 / 2].h, at[i % 4 / 2].q, readable<Variant>(kv, last));
      float& x = s[i / 4][i % 4];
      x = keep ? x : Variant::kSoftmax ? neg_inf() : 0.0f;
    }
  }
  if constexpr (Variant::kSoftmax) {
    TW_UNROLL
    for (int half = 0; half < 2; ++half) {
      float block_max = neg_inf();
      TW_UNROLL
      for (int n = 0; n < kTiles; ++n) block_max = max_f32(block_max, max_f32(s[n][half * 2], s[n][half * 2 + 1]));
      block_max = max_f32(block_max, shuffle_xor_f32(block_max, 1));
      block_max = max_f32(block_max, shuffle_xor_f32(block_max, 2));
      float reference;
      alpha[half] = softmax_step(rows[half], block_max, reference);
      TW_UNROLL
      for (int i = 0; i < 2 * kTiles; ++i) {
        float& x = s[i / 2][half * 2 + i % 2];
        x = exp2_approx(x - reference);
        rows[half].l += x;
      }
    }
    if constexpr (Variant::kHasWeightFactor) {
      TW_UNROLL
      for (int i = 0; i < 4 * kTiles; ++i) {
        const i32 kv = first + i / 4 * 8 + (i & 1);
        s[i / 4][i % 4] *=
            Variant::weight_factor(args, b, at[i % 4 / 2].h, at[i % 4 / 2].q, readable<Variant>(kv, last));
      }
    }
  }
}

/// O ·= alpha, left out where alpha is 1 for all rows of the warp.
template <int kBands, int kTiles>
TW_DEVICE void rescale_sums(float (&o)[kBands][kTiles][4], const float (&alpha)[kBands][2]) {
  bool changes = false;
  TW_UNROLL
  for (int m = 0; m < kBands; ++m) changes = changes | (alpha[m][0] != 1.0f) | (alpha[m][1] != 1.0f);
  if (!warp_any(changes)) return;
  TW_UNROLL
  for (int m = 0; m < kBands; ++m)
    TW_UNROLL
    for (int i = 0; i < 4 * kTiles; ++i) o[m][i / 4][i % 4] *= alpha[m][i % 4 / 2];
}

/// Over the four lanes that share a row.
TW_DEVICE float quad_sum(float x) {
  x += shuffle_xor_f32(x, 1);
  return x + shuffle_xor_f32(x, 2);
}
