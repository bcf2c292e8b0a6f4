// Flash attention forward for sm_90a: TMA, wgmma, warp specialisation.
//
// One thread block owns kBlockQ queries of one head; the keys pass in tiles of kBlockKv, right to left.
//
//   warpgroup 0 (producer, few registers)          warpgroups 1 … n (consumers, 64 rows of Q each)
//   warp 0: chooses the blocks of keys that the     S(j+1) = Q·K(j+1)ᵀ ┐ issued together; while the second runs,
//           mask leaves, loads Q, K(j+1), V(j)      O += P(j)·V(j)     ┘ S(j+1) becomes P(j+1) in registers
//   warp 1: zeroes rows of V that are hidden
//
//   tensor cores  | QK1 . PV0 | QK1' . PV0' | QK2 . PV1 | …     ' = the other warpgroup, whose turn it is (named barriers)
//   FMA and EX2   | softmax1' …  softmax1   | softmax1' |
//
// Who waits for whom: sm90_pipeline.cuh. Where tiles lie: sm90_tiles.cuh. Budgets (KiB of 227, registers of 65536):
//
//   head dim      Q rows × keys   Q    K, V ×2    registers: producer, consumers
//   64            192 × 128       24   32 + 32    32, 3 × 160    O 32 + S 64 + P 32 per thread
//   128           128 × 176       32   88 + 88    40, 2 × 232    O 64 + S 88 + P 44
//   128, masked   128 × 128       32   64 + 64    40, 2 × 232    the producer tests blocks of keys
//   128, tables   128 × 128       32   64 + 64    56, 2 × 224    masks or scores load per position: addresses
//   128, busy     128 × 64        32   32 + 32    88, 2 × 208    and rows of V are cleared, or random bits drawn
//   192           128 × 112       48   84 + 56…84 40, 2 × 232    O 96 + S 56 + P 28
//   256           128 × 80        64   80 + 80    40, 2 × 232    O 128 + S 40 + P 20
//   one warpgroup, for the tuner: two such blocks share a multiprocessor and have half of it each, registers 40 and 216
//
// Variant is that of docs/gpu.md with, in generated text,
//   static constexpr float kScoreScale;           // score() is without this positive factor
//   static constexpr i32 kSumsAtOnce;             // scores per unrolled body: of a thread's block_kv / 2
//   static constexpr bool kTmaStore, kClearValues, kLongestFirst, kTakeTurns;  static constexpr i64 kL2Bytes;
//   static void load_query/load_key/load_value(args, map, u32 target, u32 barrier, b, h, row, column);   // h: query head
//   static void store_output(args, map, u32 source, b, h, row, column);
//
// Semantics: a masked score is -inf before the maximum (0 without softmax); hidden rows of K only make scores that are
// masked; hidden rows of V are cleared in shared memory before anything multiplies them (kClearValues), unless TMA's
// bounds are the sequence's; rows beyond the last query are computed and not stored.

/// Walks the blocks of keys of one item from right to left; all lanes of a warp alike.
template <class Variant, class Layout>
struct Sm90Blocks {
  const Args& args;
  Sm90Item item;
  i32 q_last, kv_len, first, block;
  bool full = false;

  TW_INLINE Sm90Blocks(const Args& a, const Sm90Item& i) : args(a), item(i) {
    const i32 q_len = static_cast<i32>(Variant::q_len(args));
    kv_len = static_cast<i32>(Variant::kv_len(args));
    q_last = (q_len - item.q_begin < Layout::kBlockQ ? q_len : item.q_begin + Layout::kBlockQ) - 1;
    i64 begin = 0, end = kv_len;
    if constexpr (Variant::kMasked) {
      Variant::kv_range(args, item.b, item.h, item.q_begin, q_last, begin, end);
      if (begin < 0) begin = 0;
      if (end > kv_len) end = kv_len;
      if (end < begin) end = begin;
    }
    first = static_cast<i32>(begin) / Layout::kBlockKv;
    block = static_cast<i32>(end + Layout::kBlockKv - 1) / Layout::kBlockKv;
    if (begin == end) block = first;
  }
  /// Moves to the next block that is visited.
  TW_INLINE bool next() {
    while (block > first) {
      --block;
      const i32 kv = block * Layout::kBlockKv;
      const bool whole = kv_len - kv >= Layout::kBlockKv;
      full = whole;
      if constexpr (Variant::kMasked) {
        const i32 kv_last = whole ? kv + Layout::kBlockKv - 1 : kv_len - 1;
        if (Variant::skip(args, item.b, item.h, item.q_begin, q_last, kv, kv_last)) continue;
        full = whole && Variant::full(args, item.b, item.h, item.q_begin, q_last, kv, kv_last);
      }
      return true;
    }
    return false;
  }
};

/// Warp 0 of the producer. Lane 0 waits, counts bytes and loads; the others come along for the tests of blocks.
template <class Variant, class Layout>
struct Sm90Producer {
  const Args& args;
  const TensorMap *query_map, *key_map, *value_map;
  Sm90Barriers<Layout> barriers;
  u32 base;
  bool leader;
  u32 query_phase = 0;
  Sm90Cursor<Layout::kStages> keys = {}, values = {};

  TW_INLINE void run() {
    if (leader) {
      tma_prefetch(query_map);
      tma_prefetch(key_map);
      tma_prefetch(value_map);
    }
    const Sm90Schedule<Variant, Layout> schedule(args);
    TW_NO_UNROLL
    for (u32 n = static_cast<u32>(block_index()); n < schedule.count; n += static_cast<u32>(block_count()))
      produce(schedule.item(n));
    announce(Sm90Block{Sm90Block::kStop}, Sm90Item{0, 0, 0});
    if constexpr (Variant::kClearValues) stop_clearing();
  }

  /// One item: K of a block as soon as it is known whether another follows, then V of the block before it, which is the
  /// order in which they are read.
  TW_INLINE void produce(const Sm90Item& item) {
    Sm90Blocks<Variant, Layout> blocks(args, item);
    Sm90Block for_keys = {Sm90Block::kNone}, for_values = for_keys;
    bool first = true;
    TW_NO_UNROLL
    while (true) {
      const bool found = blocks.next();
      if (first && !found) {
        announce(Sm90Block{Sm90Block::kNone}, item);
        return;
      }
      if (first) load_query(item);
      first = false;
      if (!for_keys.none()) {
        if (!found) for_keys.word |= Sm90Block::kLast;
        load_keys(for_keys, item);
      }
      if (!for_values.none()) load_values(for_values, item);
      for_values = for_keys;
      for_keys.word = found ? Sm90Block::of(blocks.block, blocks.full).word : Sm90Block::kNone;
      if (for_values.none() && for_keys.none()) return;
    }
  }

  /// A stage of K without keys: an item that visits nothing, or the end.
  TW_INLINE void announce(Sm90Block block, const Sm90Item& item) {
    if (leader) {
      mbarrier_wait(barriers.key_empty(keys.stage), keys.phase ^ 1);
      sm90_describe(barriers.key_block(keys.stage), block, item);
      mbarrier_arrive(barriers.key_full(keys.stage));
    }
    keys.advance();
  }

  TW_INLINE void load_query(const Sm90Item& item) {
    if (leader) {
      const u32 barrier = barriers.query_full();
      mbarrier_wait(barriers.query_empty(), query_phase ^ 1);
      mbarrier_expect(barrier, Layout::kQueryBytes);
      TW_NO_UNROLL
      for (int box = 0; box < Layout::kHeadBoxes; ++box)
        Variant::load_query(args, query_map, base + box * Layout::kQueryBox, barrier, item.b, item.h, item.q_begin,
                            box * Layout::kBoxColumns);
    }
    query_phase ^= 1;
  }

  TW_INLINE void load_keys(Sm90Block block, const Sm90Item& item) {
    if (leader) {
      const u32 barrier = barriers.key_full(keys.stage);
      const u32 tile = base + Layout::kKeys + keys.stage * Layout::kKeyBytes;
      mbarrier_wait(barriers.key_empty(keys.stage), keys.phase ^ 1);
      sm90_describe(barriers.key_block(keys.stage), block, item);
      mbarrier_expect(barrier, Layout::kKeyBytes);
      TW_NO_UNROLL
      for (int box = 0; box < Layout::kHeadBoxes; ++box)
        Variant::load_key(args, key_map, tile + box * Layout::kKvBox, barrier, item.b, item.h,
                          block.block() * Layout::kBlockKv, box * Layout::kBoxColumns);
    }
    keys.advance();
  }

  TW_INLINE void load_values(Sm90Block block, const Sm90Item& item) {
    if (leader) {
      const u32 barrier =
          Variant::kClearValues ? barriers.value_loaded(values.stage) : barriers.value_full(values.stage);
      const u32 tile = base + Layout::kValues + values.stage * Layout::kValueBytes;
      mbarrier_wait(barriers.value_empty(values.stage), values.phase ^ 1);
      if constexpr (Variant::kClearValues) sm90_describe(barriers.value_block(values.stage), block, item);
      mbarrier_expect(barrier, Layout::kValueBytes);
      TW_NO_UNROLL
      for (int box = 0; box < Layout::kValueBoxes; ++box)
        Variant::load_value(args, value_map, tile + box * Layout::kKvBox, barrier, item.b, item.h,
                            block.block() * Layout::kBlockKv, box * Layout::kBoxColumns);
    }
    values.advance();
  }

  /// The clearing warp has nothing more to do.
  TW_INLINE void stop_clearing() {
    if (leader) {
      mbarrier_wait(barriers.value_empty(values.stage), values.phase ^ 1);
      sm90_describe(barriers.value_block(values.stage), Sm90Block{Sm90Block::kStop}, Sm90Item{0, 0, 0});
      mbarrier_arrive(barriers.value_loaded(values.stage));
    }
  }
};

/// Warp 1 of the producer, with kClearValues: what keep_kv hides of V, and what lies beyond the last key, becomes zero.
template <class Variant, class Layout>
TW_DEVICE void sm90_clear_values(const Args& args, const Sm90Barriers<Layout>& barriers) {
  const i32 kv_len = static_cast<i32>(Variant::kv_len(args));
  const i32 lane = thread_index() & 31;
  Sm90Cursor<Layout::kStages> values;
  while (true) {
    mbarrier_wait(barriers.value_loaded(values.stage), values.phase);
    Sm90Item item;
    const Sm90Block block = sm90_described(barriers.value_block(values.stage), item);
    if (block.stop()) return;
    if (!block.full()) {
      const u32 tile = shared_base() + Layout::kValues + values.stage * Layout::kValueBytes;
      TW_NO_UNROLL
      for (i32 row = lane; row < Layout::kBlockKv; row += 32) {
        const i32 kv = block.block() * Layout::kBlockKv + row;
        bool hidden = kv >= kv_len;
        if constexpr (Variant::kHasKeepKv) hidden = hidden || !Variant::keep_kv(args, item.b, item.h, kv);
        if (hidden) sm90_clear_row<Layout::kValueBoxes>(tile, Layout::kKvBox, static_cast<u32>(row));
      }
      fence_proxy_async();
    }
    warp_sync();  // rows are cleared, the words of the block are read
    if (lane == 0) mbarrier_arrive(barriers.value_full(values.stage));
    values.advance();
  }
}

/// A consumer warpgroup's turn to issue products: a token that goes round by named barriers 1 … kConsumers.
template <class Variant, class Layout>
struct Sm90Turns {
  u32 group;
  TW_INLINE void begin() const {
    if constexpr (Variant::kTakeTurns)
      if (group == Layout::kConsumers - 1) named_arrive(1, 256);
  }
  TW_INLINE void wait() const {
    if constexpr (Variant::kTakeTurns) named_sync(1 + group, 256);
  }
  TW_INLINE void pass() const {
    if constexpr (Variant::kTakeTurns) named_arrive(1 + (group + 1) % Layout::kConsumers, 256);
  }
  TW_INLINE void end() const {
    if constexpr (Variant::kTakeTurns)
      if (group == 0) named_sync(1, 256);
  }
};

template <class Variant, class Layout>
TW_DEVICE void sm90_consume(const Args& args, const TensorMap* output_map, const Sm90Barriers<Layout>& barriers) {
  const u32 group = static_cast<u32>(thread_index()) / 128 - 1, lane = static_cast<u32>(thread_index()) & 31;
  const i32 row = static_cast<i32>(group) * Layout::kWarpgroupRows + (thread_index() & 127) / 32 * 16 +
                  static_cast<i32>(lane / 4);
  const u32 base = shared_base(), query = base + group * Layout::kWarpgroupRows * Layout::kRowBytes;
  const i32 q_len = static_cast<i32>(Variant::q_len(args)), kv_len = static_cast<i32>(Variant::kv_len(args));
  const Sm90Turns<Variant, Layout> turns = {group};
  const auto release = [&](u32 barrier) {
    warp_sync();  // what the other lanes read, the word of a block, too
    if (lane == 0) mbarrier_arrive(barrier);
  };
  Sm90Cursor<Layout::kStages> keys, values;
  u32 query_phase = 0;
  turns.begin();
  TW_NO_UNROLL
  while (true) {
    mbarrier_wait(barriers.key_full(keys.stage), keys.phase);
    Sm90Item item;
    Sm90Block block = sm90_described(barriers.key_block(keys.stage), item);
    if (block.stop()) break;
    Sm90Rows rows;
    TW_UNROLL
    for (int r = 0; r < 2; ++r) {
      rows.q[r] = item.q_begin + row + 8 * r;
      rows.q_read[r] = readable<Variant>(rows.q[r], q_len - 1);
      softmax_init(rows.state[r]);
    }
    if (block.none()) {
      release(barriers.key_empty(keys.stage));
      keys.advance();
      sm90_store_empty<Variant, Layout>(args, item, rows, q_len);
      continue;
    }

    float o[Variant::kValueDim / 2], s[Layout::kBlockKv / 2];
    u32 p[Layout::kBlockKv / 4];
    TW_UNROLL
    for (int i = 0; i < Variant::kValueDim / 2; ++i) o[i] = 0.0f;
    mbarrier_wait(barriers.query_full(), query_phase);
    query_phase ^= 1;
    turns.wait();
    sm90_issue_scores<Variant, Layout>(s, query, base + Layout::kKeys + keys.stage * Layout::kKeyBytes);
    turns.pass();
    wgmma_wait<0>();
    register_fence(s);
    release(barriers.key_empty(keys.stage));
    keys.advance();
    bool pending = false;  // a product with V is in flight
    TW_NO_UNROLL
    while (true) {
      const i32 kv_begin = block.block() * Layout::kBlockKv;
      if (block.full())
        sm90_score<Variant, Layout, false>(args, item, rows, kv_begin, kv_len, s);
      else
        sm90_score<Variant, Layout, true>(args, item, rows, kv_begin, kv_len, s);
      float alpha[2] = {1.0f, 1.0f};
      if constexpr (Variant::kSoftmax) sm90_weigh<Variant, Layout>(rows, s, alpha);
      sm90_apply_factor<Variant, Layout>(args, item, rows, kv_begin, kv_len, s);
      wgmma_wait<0>();
      register_fence(o);
      if (pending) {
        release(barriers.value_empty(values.stage));
        values.advance();
      }
      sm90_round<Variant, Layout>(s, p);
      if constexpr (Variant::kSoftmax) {
        TW_UNROLL
        for (int i = 0; i < Variant::kValueDim / 2; ++i) o[i] *= alpha[(i & 2) / 2];
      }
      if (block.last()) break;
      mbarrier_wait(barriers.key_full(keys.stage), keys.phase);
      block = {ld_shared_u32(barriers.key_block(keys.stage))};
      mbarrier_wait(barriers.value_full(values.stage), values.phase);
      turns.wait();
      sm90_issue_scores<Variant, Layout>(s, query, base + Layout::kKeys + keys.stage * Layout::kKeyBytes);
      sm90_issue_output<Variant, Layout>(o, p, base + Layout::kValues + values.stage * Layout::kValueBytes);
      turns.pass();
      pending = true;
      wgmma_wait<1>();
      register_fence(s);
      release(barriers.key_empty(keys.stage));
      keys.advance();
    }
    mbarrier_wait(barriers.value_full(values.stage), values.phase);
    sm90_issue_output<Variant, Layout>(o, p, base + Layout::kValues + values.stage * Layout::kValueBytes);
    wgmma_wait<0>();
    register_fence(o);
    release(barriers.value_empty(values.stage));
    values.advance();
    sm90_finish<Variant, Layout>(args, item, rows, o, q_len, output_map, base);
    release(barriers.query_empty());
  }
  turns.end();
}

template <class Variant, class Layout>
TW_DEVICE void sm90_prefill(const Args& args, const TensorMap* query_map, const TensorMap* key_map,
                            const TensorMap* value_map, const TensorMap* output_map) {
  const Sm90Barriers<Layout> barriers = {shared_base() + Layout::kBarriers};
  if (thread_index() == 0) sm90_init_barriers<Variant>(barriers);
  block_sync();
  if (thread_index() < 128) {
    registers_decrease<Layout::kProducerRegisters>();
    const i32 warp = thread_index() / 32;
    if (warp == 0) {
      Sm90Producer<Variant, Layout>{args,     query_map,     key_map,             value_map,
                                    barriers, shared_base(), thread_index() == 0}
          .run();
    } else if (Variant::kClearValues && warp == 1) {
      sm90_clear_values<Variant>(args, barriers);
    }
  } else {
    registers_increase<Layout::kConsumerRegisters>();
    sm90_consume<Variant, Layout>(args, output_map, barriers);
  }
}
