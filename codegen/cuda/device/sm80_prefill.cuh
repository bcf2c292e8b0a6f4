// Flash attention on mma.sync: one thread block owns block_q query rows of one head and walks over the keys.
//
//              block_kv keys            value_dim columns        warp w owns block_q / warps rows of Q, S, P and O,
//            +-----------------+        +--------------+         in bands of 16, and reads all of K and V:
//    warp 0  | S = Q·K'  -> P  |   ·    |              |
//    warp 1  |  (registers)    |        |  V (shared)  |   +->   S[band][n8 tile][4], turned into P in place,
//    ...     |                 |        |              |         O[band][n8 tile][4], m and l of two rows a band
//            +-----------------+        +--------------+
//
//   shared memory   [ Q | stage 0: K, V | stage 1: K, V | … ]  the ring of K/V tiles; after the loop, O on its way out
//                   bytes = 2·(block_q·dqk·parts + stages·block_kv·(dqk·parts + dv·value_parts)), dims padded to 16
//   registers       4·bands·(dv/8 + block_kv/8) accumulators, 4·bands·dqk/16 for Q where that is at most 32 (else its
//                   fragments are read again for every key block), about 60 for addresses, fragments and rows
//
// A step: wait for the tile of this step, one barrier (which also frees the stage that the step before read), start
// loading the tile `stages - 1` steps ahead, S = Q·K', score expression, keep where the block is not full, the
// recurrence, O += P·V. Key blocks that nothing attends are neither loaded nor visited. Rows of K and V that keep_kv
// hides, or that do not exist, are zeros in shared memory; coordinates of expressions are clamped to the sequences.
// O is multiplied by alpha only where that is not 1 for some row of the warp.
//
// f32 operands are taken apart into `kParts` bf16 parts while they are loaded, and products of them add up the pairs of
// parts whose numbers sum to less than the larger count: 2 parts, 3 products; 3 parts, 6 products. Weights likewise.
// A thread block that meets an f32 which may not be taken apart does its rows again, by FMA (whole_rows.cuh).

/// Parts: kQuery of Q and K, kWeight of P, kValue of V, each 1 for operands that are multiplied as they are.
template <class Variant, int kBlockQ, int kBlockKv, int kWarps, int kStages, class Parts>
struct Sm80Prefill {
  typedef typename Variant::Query Query;
  typedef typename Variant::Key Key;
  typedef typename Variant::Value Value;
  typedef typename Variant::Output Output;
  typedef typename TileElement<Query>::Type ScoreElement;
  typedef typename TileElement<Value>::Type ValueElement;

  static constexpr int kThreads = kWarps * 32;
  static constexpr int kBands = kBlockQ / kWarps / 16;
  static constexpr int kHeadDim = Variant::kHeadDim, kValueDim = Variant::kValueDim;
  static constexpr int kHeadChunks = padded_columns(kHeadDim) / 8, kValueChunks = padded_columns(kValueDim) / 8;
  static constexpr int kParts = Parts::kQuery;
  static constexpr int kWeightParts = Parts::kWeight, kValueParts = Parts::kValue;

  /// One bf16 part is a rounding that the precision policy allows for any number.
  static constexpr bool kMayBeUnfit =
      (TileElement<Query>::kSplit && kParts > 1) || (TileElement<Value>::kSplit && kValueParts > 1);

  static constexpr int kQueryBytes = kBlockQ * kHeadChunks * 16;
  static constexpr int kKeyBytes = kBlockKv * kHeadChunks * 16;
  static constexpr int kValueBytes = kBlockKv * kValueChunks * 16;
  static constexpr int kStageBytes = kKeyBytes * kParts + kValueBytes * kValueParts;

  static_assert(kBlockQ % (kWarps * 16) == 0 && kBlockKv % 16 == 0 && kStages >= 2, "whole fragments, and a ring");

  struct Place {
    i32 b, h, q_begin, q_last;  ///< the rows of this thread block, q_last inclusive and clamped
    i32 q_len, kv_len;
  };

  /// Key blocks that are visited, ascending.
  struct KeyBlocks {
    i32 at, end;
  };
  TW_DEVICE void skip_hidden(const Args& args, const Place& p, KeyBlocks& blocks) {
    if constexpr (Variant::kMasked)
      TW_NO_UNROLL
      while (blocks.at < blocks.end &&
             Variant::skip(args, p.b, p.h, p.q_begin, p.q_last, blocks.at, last_key(p, blocks.at)))
        blocks.at += kBlockKv;
  }
  TW_DEVICE i32 last_key(const Place& p, i32 begin) {
    return (begin + kBlockKv < p.kv_len ? begin + kBlockKv : p.kv_len) - 1;
  }

  TW_DEVICE bool is_visible_key(const Args& args, const Place& p, i32 kv) {
    if constexpr (Variant::kHasKeepKv) return kv < p.kv_len && Variant::keep_kv(args, p.b, p.h, kv);
    return kv < p.kv_len;
  }

  template <int kRows, int kColumns, int kTileParts, int kTileBytes, class T, class IsValid>
  TW_DEVICE void load(u32 tile, i32 thread, const Rows<T>& rows, i32 begin, const IsValid& is_valid, bool& unfit) {
    if constexpr (TileElement<T>::kSplit)
      load_split_tile<kRows, kColumns, kThreads, kTileParts, kTileBytes>(tile, thread, rows, begin, is_valid, unfit);
    else
      load_tile<kRows, kColumns, kThreads>(tile, thread, rows, begin, is_valid);
  }

  TW_DEVICE void run(const Args& args) {
    const i32 thread = thread_index(), lane = thread & 31, warp = thread >> 5;
    const i32 g = lane >> 2, t = lane & 3;
    Place p;
    p.q_len = static_cast<i32>(Variant::q_len(args));
    p.kv_len = static_cast<i32>(Variant::kv_len(args));
    const i32 q_blocks = (p.q_len + kBlockQ - 1) / kBlockQ;
    const i64 index = block_index();
    const i32 head = static_cast<i32>(index / q_blocks);
    const i32 heads = static_cast<i32>(Variant::heads(args));
    p.b = head / heads;
    p.h = head % heads;
    // Masks are causal as a rule: the last rows, which attend most, begin first.
    const i32 q_block = static_cast<i32>(index % q_blocks);
    p.q_begin = (Variant::kMasked ? q_blocks - 1 - q_block : q_block) * kBlockQ;
    p.q_last = (p.q_begin + kBlockQ < p.q_len ? p.q_begin + kBlockQ : p.q_len) - 1;

    KeyBlocks blocks{0, p.kv_len};
    if constexpr (Variant::kMasked) {
      i64 begin, end;
      Variant::kv_range(args, p.b, p.h, p.q_begin, p.q_last, begin, end);
      begin = begin < 0 ? 0 : begin < p.kv_len ? begin : p.kv_len;
      end = end < 0 ? 0 : end < p.kv_len ? end : p.kv_len;
      blocks = KeyBlocks{static_cast<i32>(begin) / kBlockKv * kBlockKv, static_cast<i32>(end)};
      skip_hidden(args, p, blocks);
    }

    const Rows<Key> keys = make_rows(Variant::key(args, p.b, p.h, 0), Variant::key_row_stride(args),
                                     Variant::key_stride(args));
    const Rows<Value> values = make_rows(Variant::value(args, p.b, p.h, 0), Variant::value_row_stride(args),
                                         Variant::value_stride(args));
    bool unfit = false;  // this thread met an operand that may not be taken apart
    const u32 query_tile = shared_base(), ring = query_tile + kQueryBytes * kParts;
    load<kBlockQ, kHeadDim, kParts, kQueryBytes>(
        query_tile, thread,
        make_rows(Variant::query(args, p.b, p.h, 0), Variant::query_row_stride(args), Variant::query_stride(args)),
        p.q_begin, [&](int row) { return p.q_begin + row < p.q_len; }, unfit);
    float o[kBands][kValueChunks][4];
    clear_sums(o);
    const i32 warp_row = warp * kBands * 16;
    SoftmaxRow rows[kBands][2];
    RowPlace places[kBands][2];
    TW_UNROLL
    for (int m = 0; m < kBands; ++m)
      TW_UNROLL
      for (int half = 0; half < 2; ++half) {
        softmax_init(rows[m][half]);
        const i32 q = p.q_begin + warp_row + m * 16 + half * 8 + g;
        places[m][half] = RowPlace{p.h, q < p.q_last ? q : p.q_last};
      }
    typedef QueryFragments<kBands, kHeadChunks, kParts, kQueryBytes> Fragments;
    Fragments query;
    query.address =
        a_fragment<kHeadChunks>(query_tile, lane) + static_cast<u32>(warp_row * SharedTile<kHeadChunks>::kRowBytes);
    const KeyBlocks all = blocks;
    KeyBlocks ahead = blocks;
    u32 stage = ring, next_stage = ring;
    const u32 ring_end = ring + kStages * kStageBytes;

    // Steps below 0 only fill the ring.
    TW_NO_UNROLL
    for (i32 step = 1 - kStages; step < 0 || blocks.at < blocks.end; ++step) {
      if (step >= 0) {
        cp_async_wait<kStages - 2>();
        block_sync();
      }
      if (ahead.at < ahead.end) {
        const i32 begin = ahead.at;
        const auto is_visible = [&](int row) { return is_visible_key(args, p, begin + row); };
        load<kBlockKv, kHeadDim, kParts, kKeyBytes>(next_stage, thread, keys, begin, is_visible, unfit);
        load<kBlockKv, kValueDim, kValueParts, kValueBytes>(next_stage + kKeyBytes * kParts, thread, values, begin,
                                                            is_visible, unfit);
        ahead.at += kBlockKv;
        skip_hidden(args, p, ahead);
      }
      cp_async_commit();
      next_stage = next_stage + kStageBytes == ring_end ? ring : next_stage + kStageBytes;
      if (step < 0) continue;
      if (step == 0) Fragments::hold(query);

      float s[kBands][kBlockKv / 8][4];
      multiply_scores<ScoreElement, kKeyBytes>(s, query, b_fragment<kHeadChunks>(stage, lane));
      const i32 last = last_key(p, blocks.at);
      const bool full =
          blocks.at + kBlockKv <= p.kv_len &&
          (!Variant::kMasked || Variant::full(args, p.b, p.h, p.q_begin, p.q_last, blocks.at, last));
      float alpha[kBands][2];
      TW_UNROLL
      for (int m = 0; m < kBands; ++m)
        weigh_band<Variant>(args, p.b, places[m], blocks.at + 2 * t, last, full, s[m], rows[m], alpha[m]);
      if constexpr (Variant::kSoftmax) rescale_sums(o, alpha);
      multiply_values<ValueElement, kWeightParts, kValueParts, kValueBytes>(
          o, s, b_fragment_transposed<kValueChunks>(stage + kKeyBytes * kParts, lane));
      stage = stage + kStageBytes == ring_end ? ring : stage + kStageBytes;
      blocks.at += kBlockKv;
      skip_hidden(args, p, blocks);
    }
    cp_async_wait<0>();
    block_sync();
    if constexpr (kMayBeUnfit)
      if (any_of_block(unfit, query_tile, thread)) return attend_whole_rows(args, p, all, warp, lane);
    finish(args, p, query_tile, warp_row, lane, o, rows);
  }

  /// `shared`: four bytes for each warp, which nothing else is in.
  TW_DEVICE bool any_of_block(bool value, u32 shared, i32 thread) {
    value = warp_any(value);
    if ((thread & 31) == 0) st_shared_u32(shared + static_cast<u32>(thread / 8), value ? 1 : 0);
    block_sync();
    u32 any = 0;
    TW_UNROLL
    for (int w = 0; w < kWarps; ++w) any |= ld_shared_u32(shared + static_cast<u32>(4 * w));
    block_sync();
    return any != 0;
  }

  /// All rows of this thread block, by FMA.
  TW_DEVICE void attend_whole_rows(const Args& args, const Place& p, const KeyBlocks& blocks, i32 warp, i32 lane) {
    if constexpr (kMayBeUnfit) {
      TW_NO_UNROLL
      for (i32 q = p.q_begin + warp; q <= p.q_last; q += kWarps)
        attend_whole_row<Variant>(args, p.b, p.h, q, blocks.at, blocks.end, lane,
                                  [&](i32 kv) { return is_visible_key(args, p, kv); });
    }
  }

  /// O = acc / l and the LSE. A warp lays its rows of O out in shared memory, which all have done with, and copies them
  /// by rows.
  TW_DEVICE void finish(const Args& args, const Place& p, u32 shared, i32 warp_row, i32 lane,
                        float (&o)[kBands][kValueChunks][4], SoftmaxRow (&rows)[kBands][2]) {
    constexpr int kPerChunk = 16 / static_cast<int>(sizeof(Output));
    constexpr int kChunks = padded_columns(kValueDim) / kPerChunk;
    typedef SharedTile<kChunks> OutputTile;
    const i32 g = lane >> 2, t = lane & 3;
    TW_UNROLL
    for (int m = 0; m < kBands; ++m)
      TW_UNROLL
      for (int half = 0; half < 2; ++half) {
        const i32 tile_row = warp_row + m * 16 + half * 8 + g;
        const i32 q = p.q_begin + tile_row;
        const u32 first = shared + OutputTile::offset(tile_row, sizeof(Output) == 4 ? t / 2 : 0) +
                          static_cast<u32>(sizeof(Output) == 4 ? t % 2 * 8 : t * 4);
        float scale = 1.0f;
        if constexpr (Variant::kSoftmax) {
          SoftmaxRow& row = rows[m][half];
          row.l = quad_sum(row.l);
          float alpha = 1.0f;
          if constexpr (Variant::kHasSink)
            alpha = softmax_add_sink(row, Variant::sink(args, p.b, p.h, q < p.q_last ? q : p.q_last));
          scale = softmax_scale(row) * alpha;
          if constexpr (Variant::kHasLogsumexp)
            if (t == 0 && q < p.q_len) *Variant::logsumexp(args, p.b, p.h, q) = softmax_logsumexp(row);
        }
        TW_UNROLL
        for (int n = 0; n < kValueChunks; ++n) {
          const float lo = o[m][n][half * 2] * scale, hi = o[m][n][half * 2 + 1] * scale;
          if constexpr (sizeof(Output) == 4)
            st_shared_u64(OutputTile::advance(first, 2 * n), f32_bits(lo) | static_cast<u64>(f32_bits(hi)) << 32);
          else
            st_shared_u32(OutputTile::advance(first, n), pack_pair(Output{}, lo, hi));
        }
      }
    warp_sync();
    Output* output = Variant::output(args, p.b, p.h, 0);
    const i64 row_stride = Variant::output_row_stride(args), stride = Variant::output_stride(args);
    const bool vectors = kValueDim % kPerChunk == 0 && moves_by_vectors(output, row_stride, stride);
    TW_NO_UNROLL
    for (int index = lane; index < kBands * 16 * kChunks; index += 32) {
      const int row = warp_row + index / kChunks, chunk = index % kChunks;
      const i32 q = p.q_begin + row;
      if (q >= p.q_len) continue;
      Output* to = output + q * row_stride + chunk * kPerChunk * stride;
      const u32 address = shared + OutputTile::offset(row, chunk);
      if (vectors) {
        if (chunk * kPerChunk < kValueDim) st_global_vec4(to, ld_shared_vec4(address));
      } else {
        TW_NO_UNROLL
        for (int i = 0; i < kPerChunk && chunk * kPerChunk + i < kValueDim; ++i) {
          if constexpr (sizeof(Output) == 4)
            to[i * stride] = ld_shared_f32(address + static_cast<u32>(i * 4));
          else
            to[i * stride] = Output{static_cast<u16>(ld_shared_u16(address + static_cast<u32>(i * 2)))};
        }
      }
    }
  }
};
