// Attention of few queries, which reads K and V once and as fast as memory gives them: split-KV with the query heads of
// a group packed into one tile.
//
//   rows of a tile    r = q·group + head of the group, 16 of them (one band); further rows are further thread blocks
//   splits            each (b, kv head, 16 rows) is `splits` thread blocks of consecutive keys; their number depends on
//                     the shape and the schedule only
//
//            keys of the split                       a warp takes every kWarps-th tile of block_kv keys and streams it
//     | w0 | w1 | w2 | w3 | w0 | w1 | …              through a ring of its own: no barrier of the block in the loop,
//                                                    16 rows of S, P and O of its own
//
//   shared memory   [ Q: 16 rows | ring of warp 0 | ring of warp 1 | … ], a ring = stages · (K tile, V tile);
//                   after the loop [ m, l and the factor of each warp's rows | O of each warp, f32 ]
//                   bytes in flight: warps · (stages - 1) · 2·block_kv·(dqk + dv)
//   registers       dv/2 for O, block_kv/2 for S, dqk/4 for Q where that is at most 32
//
// The warps' states are joined in shared memory, in the order of the warps. One split writes the output; several write
//   workspace   m, l of (row, split) as f32 pairs, then acc of (row, split) as f32; rows are (b, h, q)
// which `combine` joins in the order of the splits.

constexpr int kDecodeRows = 16;
constexpr int kCombineThreads = 128;
constexpr int kMaxSplits = 64;     ///< two to a lane of the warp that joins them
constexpr int kBlocksWanted = 512;  ///< thread blocks that keep any GPU busy: no more splits than that asks for

template <class Variant, int kBlockKv, int kWarps, int kStages, int kSplitKv, class Parts, bool kRangeOfHead>
struct Decode {
  typedef typename Variant::Query Query;
  typedef typename Variant::Key Key;
  typedef typename Variant::Value Value;

  static constexpr int kThreads = kWarps * 32;
  static constexpr int kGroup = Variant::kHeadGroup;
  static constexpr int kHeadDim = Variant::kHeadDim, kValueDim = Variant::kValueDim;
  static constexpr int kHeadChunks = padded_columns(kHeadDim) / 8, kValueChunks = padded_columns(kValueDim) / 8;
  static constexpr int kQueryBytes = kDecodeRows * kHeadChunks * 16;
  static constexpr int kKeyBytes = kBlockKv * kHeadChunks * 16;
  static constexpr int kStageBytes = kKeyBytes + kBlockKv * kValueChunks * 16;
  /// Keys from one tile of a warp to its next.
  static constexpr int kStride = kWarps * kBlockKv;
  static_assert(kBlockKv % 16 == 0 && kSplitKv % kStride == 0 && kStages >= 2, "whole fragments, tiles and a ring");

  // After the loop.
  static constexpr int kPitch = kValueChunks * 8 + 8;  ///< floats of a row of O: lanes store to different banks
  static constexpr int kStateBytes = kWarps * kDecodeRows * 12;

  struct Place {
    i32 b, first_head;         ///< the query heads are first_head … first_head + kGroup - 1
    i32 row_begin, row_count;  ///< rows of this tile, and of all tiles
    i32 q_lo, q_hi;            ///< queries among them, inclusive
    i32 split, splits;
    i32 kv_begin, kv_end;  ///< of the split
    i32 q_len, kv_len;
  };

  TW_DEVICE i32 count_splits(i64 tiles, i32 kv_len) {
    const i64 wanted = (kBlocksWanted + tiles - 1) / tiles, most = (kv_len + i64(kSplitKv) - 1) / kSplitKv;
    const i64 splits = wanted < most ? wanted : most;
    return static_cast<i32>(splits < 1 ? 1 : splits < kMaxSplits ? splits : kMaxSplits);
  }

  TW_DEVICE Place find_place(const Args& args) {
    Place p;
    p.q_len = static_cast<i32>(Variant::q_len(args));
    p.kv_len = static_cast<i32>(Variant::kv_len(args));
    p.row_count = p.q_len * kGroup;
    const i32 row_tiles = (p.row_count + kDecodeRows - 1) / kDecodeRows;
    const i32 kv_heads = static_cast<i32>(Variant::heads(args)) / kGroup;
    p.splits = count_splits(static_cast<i64>(Variant::batch(args)) * kv_heads * row_tiles, p.kv_len);
    i64 index = block_index();
    p.split = static_cast<i32>(index % p.splits);
    index /= p.splits;
    p.row_begin = static_cast<i32>(index % row_tiles) * kDecodeRows;
    index /= row_tiles;
    p.first_head = static_cast<i32>(index % kv_heads) * kGroup;
    p.b = static_cast<i32>(index / kv_heads);
    p.q_lo = p.row_begin / kGroup;
    const i32 row_end = p.row_begin + kDecodeRows < p.row_count ? p.row_begin + kDecodeRows : p.row_count;
    p.q_hi = (row_end - 1) / kGroup;
    const i32 keys = (p.kv_len + p.splits - 1) / p.splits;
    const i32 split_keys = (keys + kStride - 1) / kStride * kStride;
    const i64 begin = static_cast<i64>(p.split) * split_keys, end = begin + split_keys;
    p.kv_begin = static_cast<i32>(begin < p.kv_len ? begin : p.kv_len);
    p.kv_end = static_cast<i32>(end < p.kv_len ? end : p.kv_len);
    return p;
  }

  TW_DEVICE RowPlace place_of_row(const Place& p, i32 row) {
    const i32 r = row < p.row_count ? row : p.row_count - 1;
    return RowPlace{p.first_head + r % kGroup, r / kGroup};
  }

  // Block tests of all heads of the group.
  static constexpr int kHeadsAsked = kRangeOfHead ? kGroup : 1;
  TW_DEVICE void kv_range(const Args& args, const Place& p, i64& begin, i64& end) {
    Variant::kv_range(args, p.b, p.first_head, p.q_lo, p.q_hi, begin, end);
    TW_NO_UNROLL
    for (i32 h = 1; h < kHeadsAsked; ++h) {
      i64 begin_of_head, end_of_head;
      Variant::kv_range(args, p.b, p.first_head + h, p.q_lo, p.q_hi, begin_of_head, end_of_head);
      begin = begin_of_head < begin ? begin_of_head : begin;
      end = end_of_head > end ? end_of_head : end;
    }
  }
  TW_DEVICE bool is_skipped(const Args& args, const Place& p, i32 kv, i32 last) {
    bool all = true;
    TW_NO_UNROLL
    for (i32 h = 0; h < kHeadsAsked && all; ++h)
      all = Variant::skip(args, p.b, p.first_head + h, p.q_lo, p.q_hi, kv, last);
    return all;
  }
  TW_DEVICE bool is_full(const Args& args, const Place& p, i32 kv, i32 last) {
    bool all = kv + kBlockKv <= p.kv_end;
    if constexpr (Variant::kMasked) {
      TW_NO_UNROLL
      for (i32 h = 0; h < kHeadsAsked && all; ++h)
        all = Variant::full(args, p.b, p.first_head + h, p.q_lo, p.q_hi, kv, last);
    }
    return all;
  }
  TW_DEVICE i32 last_key(const Place& p, i32 kv) { return (kv + kBlockKv < p.kv_end ? kv + kBlockKv : p.kv_end) - 1; }

  /// The next tile from `kv` on that something attends; kv_end or more when there is none.
  TW_DEVICE i32 next_tile(const Args& args, const Place& p, i32 kv) {
    if constexpr (Variant::kMasked)
      while (kv < p.kv_end && is_skipped(args, p, kv, last_key(p, kv))) kv += kStride;
    return kv;
  }

  /// Rows that do not exist are zeros.
  TW_DEVICE void load_queries(const Args& args, const Place& p, u32 tile, i32 thread) {
    const i64 stride = Variant::query_stride(args);
    TW_NO_UNROLL
    for (int index = thread; index < kDecodeRows * kHeadChunks; index += kThreads) {
      const int row = index / kHeadChunks, chunk = index % kHeadChunks;
      const RowPlace at = place_of_row(p, p.row_begin + row);
      const Query* from = Variant::query(args, p.b, at.h, at.q) + chunk * 8 * stride;
      const u32 to = tile + SharedTile<kHeadChunks>::offset(row, chunk);
      const bool valid = p.row_begin + row < p.row_count;
      if (valid && chunk * 8 + 8 <= kHeadDim && moves_by_vectors(from, 0, stride)) {
        st_shared_vec4(to, ld_global_vec4(from));
      } else {
        TW_NO_UNROLL
        for (int i = 0; i < 8; ++i)
          st_shared_u16(to + static_cast<u32>(2 * i),
                        valid && chunk * 8 + i < kHeadDim ? from[i * stride].bits : u16{0});
      }
    }
  }

  TW_DEVICE void attend(const Args& args) {
    const i32 thread = thread_index(), lane = thread & 31, warp = thread >> 5;
    const i32 g = lane >> 2, t = lane & 3;
    Place p = find_place(args);
    if constexpr (Variant::kMasked) {
      i64 begin, end;
      kv_range(args, p, begin, end);
      // Tiles stay where they are: whole rounds of the warps are left out.
      if (begin > p.kv_begin) {
        const i64 rounds = (begin - p.kv_begin) / kStride * kStride;
        p.kv_begin = static_cast<i32>(p.kv_begin + rounds < p.kv_end ? p.kv_begin + rounds : p.kv_end);
      }
      if (end < p.kv_end) p.kv_end = static_cast<i32>(end < p.kv_begin ? p.kv_begin : end);
    }
    const Rows<Key> keys = make_rows(Variant::key(args, p.b, p.first_head, 0), Variant::key_row_stride(args),
                                     Variant::key_stride(args));
    const Rows<Value> values = make_rows(Variant::value(args, p.b, p.first_head, 0), Variant::value_row_stride(args),
                                         Variant::value_stride(args));
    const u32 shared = shared_base();
    const u32 ring = shared + static_cast<u32>(kQueryBytes + warp * kStages * kStageBytes);
    const u32 ring_end = ring + kStages * kStageBytes;

    float o[1][kValueChunks][4];
    clear_sums(o);
    SoftmaxRow rows[2];
    RowPlace places[2];
    TW_UNROLL
    for (int half = 0; half < 2; ++half) {
      softmax_init(rows[half]);
      places[half] = place_of_row(p, p.row_begin + half * 8 + g);
    }
    typedef QueryFragments<1, kHeadChunks, 1, kQueryBytes> Fragments;
    Fragments query;
    query.address = a_fragment<kHeadChunks>(shared, lane);

    i32 at = next_tile(args, p, p.kv_begin + warp * kBlockKv), ahead = at;
    u32 stage = ring, next_stage = ring;
    // Steps below 0 only fill the ring.
    TW_NO_UNROLL
    for (i32 step = 1 - kStages; step < 0 || at < p.kv_end; ++step) {
      if (step >= 0) {
        cp_async_wait<kStages - 2>();
        warp_sync();
      }
      if (ahead < p.kv_end) {
        const i32 begin = ahead;
        const auto is_visible = [&](int row) {
          if constexpr (Variant::kHasKeepKv)
            return begin + row < p.kv_end && Variant::keep_kv(args, p.b, p.first_head, begin + row);
          return begin + row < p.kv_end;
        };
        load_tile<kBlockKv, kHeadDim, 32>(next_stage, lane, keys, begin, is_visible);
        load_tile<kBlockKv, kValueDim, 32>(next_stage + kKeyBytes, lane, values, begin, is_visible);
        ahead = next_tile(args, p, ahead + kStride);
      }
      cp_async_commit();
      next_stage = next_stage + kStageBytes == ring_end ? ring : next_stage + kStageBytes;
      if (step < -1) continue;
      if (step == -1) {
        // While the first tiles are on their way.
        load_queries(args, p, shared, thread);
        block_sync();
        Fragments::hold(query);
        continue;
      }

      float s[1][kBlockKv / 8][4];
      multiply_scores<Key, kKeyBytes>(s, query, b_fragment<kHeadChunks>(stage, lane));
      const i32 last = last_key(p, at);
      float alpha[1][2];
      weigh_band<Variant>(args, p.b, places, at + 2 * t, last, is_full(args, p, at, last), s[0], rows, alpha[0]);
      if constexpr (Variant::kSoftmax) rescale_sums(o, alpha);
      multiply_values<Value, Parts::kWeight, 1, 0>(o, s, b_fragment_transposed<kValueChunks>(stage + kKeyBytes, lane));
      stage = stage + kStageBytes == ring_end ? ring : stage + kStageBytes;
      at = next_tile(args, p, at + kStride);
    }
    cp_async_wait<0>();
    block_sync();
    join_warps(args, p, shared, thread, o[0], rows);
  }

  TW_DEVICE u32 state_address(u32 shared, int warp, int row) {
    return shared + static_cast<u32>((warp * kDecodeRows + row) * 12);
  }
  TW_DEVICE u32 sum_address(u32 shared, int warp, int row, int d) {
    return shared + static_cast<u32>(kStateBytes + ((warp * kDecodeRows + row) * kPitch + d) * 4);
  }

  /// Joins the warps' states of all rows and writes them: the output where there is one split, else a partial state.
  TW_DEVICE void join_warps(const Args& args, const Place& p, u32 shared, i32 thread, const float (&o)[kValueChunks][4],
                            SoftmaxRow (&rows)[2]) {
    const i32 lane = thread & 31, warp = thread >> 5, g = lane >> 2, t = lane & 3;
    TW_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = half * 8 + g;
      rows[half].l = quad_sum(rows[half].l);
      if (t == 0) {
        st_shared_f32(state_address(shared, warp, row), rows[half].m);
        st_shared_f32(state_address(shared, warp, row) + 4, rows[half].l);
      }
      TW_UNROLL
      for (int n = 0; n < kValueChunks; ++n)
        st_shared_u64(sum_address(shared, warp, row, n * 8 + t * 2),
                      f32_bits(o[n][half * 2]) | static_cast<u64>(f32_bits(o[n][half * 2 + 1])) << 32);
    }
    block_sync();
    if (thread < kDecodeRows && p.row_begin + thread < p.row_count) {
      const RowPlace at = place_of_row(p, p.row_begin + thread);
      SoftmaxRow joined;
      softmax_init(joined);
      float scale = 1.0f;
      if constexpr (Variant::kSoftmax) {
        for (int w = 0; w < kWarps; ++w)
          joined.m = max_f32(joined.m, ld_shared_f32(state_address(shared, w, thread)));
        const float m = joined.m;
        for (int w = 0; w < kWarps; ++w) {
          const u32 address = state_address(shared, w, thread);
          joined.l += ld_shared_f32(address + 4) * softmax_share(SoftmaxRow{ld_shared_f32(address), 0.0f}, m);
        }
        if (p.splits == 1)
          scale = finish_row(args, p.b, at, joined, true);
        else
          store_state(args, p.splits, p.split, row_index(args, p.b, at), joined);
        for (int w = 0; w < kWarps; ++w) {
          const u32 address = state_address(shared, w, thread);
          st_shared_f32(address + 8, scale * softmax_share(SoftmaxRow{ld_shared_f32(address), 0.0f}, m));
        }
      }
    }
    block_sync();
    TW_NO_UNROLL
    for (int index = thread; index < kDecodeRows * kValueDim; index += kThreads) {
      const int row = index / kValueDim, d = index % kValueDim;
      if (p.row_begin + row >= p.row_count) break;
      float sum = 0.0f;
      TW_UNROLL
      for (int w = 0; w < kWarps; ++w) {
        const float share = Variant::kSoftmax ? ld_shared_f32(state_address(shared, w, row) + 8) : 1.0f;
        sum += ld_shared_f32(sum_address(shared, w, row, d)) * share;
      }
      const RowPlace at = place_of_row(p, p.row_begin + row);
      if (p.splits == 1)
        store_element(Variant::output(args, p.b, at.h, at.q) + d * Variant::output_stride(args), sum);
      else
        partial_sums(args, p.splits, p.split, row_index(args, p.b, at))[d] = sum;
    }
  }

  /// Adds the sink, writes the LSE if this thread is to; returns the factor of acc.
  TW_DEVICE float finish_row(const Args& args, i32 b, const RowPlace& at, SoftmaxRow row, bool writes) {
    float alpha = 1.0f;
    if constexpr (Variant::kHasSink) alpha = softmax_add_sink(row, Variant::sink(args, b, at.h, at.q));
    if constexpr (Variant::kHasLogsumexp)
      if (writes) *Variant::logsumexp(args, b, at.h, at.q) = softmax_logsumexp(row);
    return softmax_scale(row) * alpha;
  }

  // The workspace.
  TW_DEVICE i64 count_rows(const Args& args) {
    return static_cast<i64>(Variant::batch(args)) * Variant::heads(args) * Variant::q_len(args);
  }
  TW_DEVICE i64 row_index(const Args& args, i32 b, const RowPlace& at) {
    return (static_cast<i64>(b) * Variant::heads(args) + at.h) * Variant::q_len(args) + at.q;
  }
  TW_DEVICE float* partial_state(const Args& args, i32 splits, i32 split, i64 row) {
    return static_cast<float*>(Variant::workspace(args)) + (row * splits + split) * 2;
  }
  TW_DEVICE void store_state(const Args& args, i32 splits, i32 split, i64 row, const SoftmaxRow& state) {
    float* to = partial_state(args, splits, split, row);
    to[0] = state.m;
    to[1] = state.l;
  }
  TW_DEVICE float* partial_sums(const Args& args, i32 splits, i32 split, i64 row) {
    return static_cast<float*>(Variant::workspace(args)) + count_rows(args) * splits * 2 + (row * splits + split) * kValueDim;
  }

  /// One thread block per row. Every warp joins the states for itself; two splits a lane.
  TW_DEVICE void combine(const Args& args) {
    const i32 thread = thread_index(), lane = thread & 31;
    const i64 row = block_index();
    const i32 q_len = static_cast<i32>(Variant::q_len(args)), heads = static_cast<i32>(Variant::heads(args));
    const RowPlace at{static_cast<i32>(row / q_len % heads), static_cast<i32>(row % q_len)};
    const i32 b = static_cast<i32>(row / q_len / heads);
    const i32 row_tiles = (q_len * kGroup + kDecodeRows - 1) / kDecodeRows;
    const i32 splits = count_splits(static_cast<i64>(Variant::batch(args)) * (heads / kGroup) * row_tiles,
                                    static_cast<i32>(Variant::kv_len(args)));
    float share[2] = {1.0f, 1.0f};
    if constexpr (Variant::kSoftmax) {
      SoftmaxRow part[2], joined;
      softmax_init(joined);
      TW_UNROLL
      for (int i = 0; i < 2; ++i) {
        softmax_init(part[i]);
        const i32 split = lane + 32 * i;
        if (split < splits) {
          const float* from = partial_state(args, splits, split, row);
          part[i] = SoftmaxRow{from[0], from[1]};
        }
        joined.m = max_f32(joined.m, part[i].m);
      }
      TW_UNROLL
      for (int mask = 16; mask > 0; mask /= 2) joined.m = max_f32(joined.m, shuffle_xor_f32(joined.m, mask));
      TW_UNROLL
      for (int i = 0; i < 2; ++i) {
        share[i] = softmax_share(part[i], joined.m);
        joined.l += part[i].l * share[i];
      }
      TW_UNROLL
      for (int mask = 16; mask > 0; mask /= 2) joined.l += shuffle_xor_f32(joined.l, mask);
      const float scale = finish_row(args, b, at, joined, thread == 0);
      share[0] *= scale;
      share[1] *= scale;
    }
    const float* sums = partial_sums(args, splits, 0, row);
    // Every lane takes part in the shuffles, also those that have no column. Loads of several splits are in flight.
    constexpr int kAtOnce = 8;
    TW_NO_UNROLL
    for (int column = 0; column < kValueDim; column += kCombineThreads) {
      const int d = column + thread;
      float sum = 0.0f;
      TW_NO_UNROLL
      for (i32 split = 0; split < splits; split += kAtOnce) {
        float x[kAtOnce];
        TW_UNROLL
        for (int i = 0; i < kAtOnce; ++i)
          x[i] = d < kValueDim && split + i < splits ? sums[static_cast<i64>(split + i) * kValueDim + d] : 0.0f;
        TW_UNROLL
        for (int i = 0; i < kAtOnce; ++i)
          sum += x[i] * shuffle_f32(split < 32 ? share[0] : share[1], (split + i) & 31);
      }
      if (d < kValueDim)
        store_element(Variant::output(args, b, at.h, at.q) + d * Variant::output_stride(args), sum);
    }
  }
};
