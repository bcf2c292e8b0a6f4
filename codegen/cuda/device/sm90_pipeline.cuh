// Who waits for whom in the sm_90a prefill. Every barrier is an mbarrier; a ring has one pair per stage.
//
//   ring       full                                          empty
//   Q          the producer's bytes                          one arrival per consumer warp, Q read and O stored
//   K          the producer's bytes, and which block it is   one per consumer warp, S = Q·Kᵀ complete
//   V          the producer's bytes                          one per consumer warp, O += P·V complete
//   V, where rows must be hidden: bytes → `loaded` → a warp clears the rows → `full`, one arrival
//
// A stage is used for the n-th time in phase n: whoever fills waits for the parity of the phase before on `empty`, whoever
// reads for that of the phase on `full`. Both walk the same stages in the same order, across work items, too.

/// A position in a ring of `stages`.
template <int stages>
struct Sm90Cursor {
  u32 stage = 0, phase = 0;
  TW_INLINE void advance() {
    if (++stage == stages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

template <class Layout>
struct Sm90Barriers {
  static constexpr u32 kStages = Layout::kStages;
  u32 base;
  TW_INLINE u32 query_full() const { return base; }
  TW_INLINE u32 query_empty() const { return base + 8; }
  TW_INLINE u32 key_full(u32 stage) const { return base + 8 * (2 + stage); }
  TW_INLINE u32 key_empty(u32 stage) const { return base + 8 * (2 + kStages + stage); }
  TW_INLINE u32 value_full(u32 stage) const { return base + 8 * (2 + 2 * kStages + stage); }
  TW_INLINE u32 value_empty(u32 stage) const { return base + 8 * (2 + 3 * kStages + stage); }
  TW_INLINE u32 value_loaded(u32 stage) const { return base + 8 * (2 + 4 * kStages + stage); }
  /// Which block a stage holds (Sm90Block), for the consumers and for the warp that clears rows: 4 words each.
  TW_INLINE u32 key_block(u32 stage) const { return base + kBlocks + 16 * stage; }
  TW_INLINE u32 value_block(u32 stage) const { return base + kBlocks + 16 * (kStages + stage); }
  static constexpr u32 kBlocks = (8 * (2 + 5 * kStages) + 15) / 16 * 16;
  /// Bytes of all of it.
  static constexpr u32 kBytes = kBlocks + 32 * kStages;
};

template <class Variant, class Layout>
TW_DEVICE void sm90_init_barriers(const Sm90Barriers<Layout>& barriers) {
  constexpr u32 kConsumerWarps = Layout::kConsumers * 4;
  mbarrier_init(barriers.query_full(), 1);
  mbarrier_init(barriers.query_empty(), kConsumerWarps);
  TW_NO_UNROLL
  for (u32 stage = 0; stage < Layout::kStages; ++stage) {
    mbarrier_init(barriers.key_full(stage), 1);
    mbarrier_init(barriers.key_empty(stage), kConsumerWarps);
    mbarrier_init(barriers.value_full(stage), 1);
    mbarrier_init(barriers.value_empty(stage), kConsumerWarps);
    mbarrier_init(barriers.value_loaded(stage), 1);
  }
  mbarrier_init_fence();
}

/// What the producer says of a block of keys in one word: its number, whether all of it is kept, whether it is the last of
/// its work item. An item that visits nothing says so in the place of its first block, and so does the end of all items.
struct Sm90Block {
  u32 word;
  static constexpr u32 kNone = 0xffffffff, kStop = 0xfffffffe, kLast = 1, kFull = 2;
  static TW_INLINE Sm90Block of(i32 block, bool full) { return {static_cast<u32>(block) << 2 | (full ? kFull : 0)}; }
  TW_INLINE bool none() const { return word == kNone; }
  TW_INLINE bool stop() const { return word == kStop; }
  TW_INLINE i32 block() const { return static_cast<i32>(word >> 2); }
  TW_INLINE bool full() const { return (word & kFull) != 0; }
  TW_INLINE bool last() const { return (word & kLast) != 0; }
};

/// One block of queries of one head.
struct Sm90Item {
  i32 b, h, q_begin;
};

/// What a stage holds, for whoever waits for it: written before the arrival that ends its phase.
TW_DEVICE void sm90_describe(u32 words, Sm90Block block, const Sm90Item& item) {
  st_shared_vec4(words, Vec4{block.word, static_cast<u32>(item.b), static_cast<u32>(item.h),
                             static_cast<u32>(item.q_begin)});
}
TW_DEVICE Sm90Block sm90_described(u32 words, Sm90Item& item) {
  const Vec4 v = ld_shared_vec4(words);
  item = {static_cast<i32>(v.y), static_cast<i32>(v.z), static_cast<i32>(v.w)};
  return {v.x};
}

/// Work items of a launch, and which is the n-th. Rows of queries fastest, then h, then b; with kLongestFirst (later rows
/// see more keys) the last rows of all heads of a section come first, a section being as many heads as have K and V in L2
/// together, so that blocks finish at about the same time.
template <class Variant, class Layout>
struct Sm90Schedule {
  u32 q_blocks, heads, count, section;
  TW_INLINE explicit Sm90Schedule(const Args& args) {
    q_blocks = static_cast<u32>((Variant::q_len(args) + Layout::kBlockQ - 1) / Layout::kBlockQ);
    heads = static_cast<u32>(Variant::heads(args));
    const u32 all = heads * static_cast<u32>(Variant::batch(args));
    count = q_blocks * all;
    section = all;
    if constexpr (Variant::kLongestFirst) {
      // In KiB, so that no division is of 64 bits.
      const u32 bytes = static_cast<u32>(static_cast<i64>(Variant::kv_len(args)) *
                                         (Variant::kHeadDim + Variant::kValueDim) * 2 / 1024) + 1;
      const u32 fit = static_cast<u32>(Variant::kL2Bytes / 1024) / bytes;
      section = (fit > 1 ? fit : 1) * Variant::kHeadGroup;
      if (section > all) section = all;
    }
  }
  TW_INLINE Sm90Item item(u32 n) const {
    u32 head, block;
    if constexpr (Variant::kLongestFirst) {
      const u32 first = n / (section * q_blocks) * section, all = count / q_blocks;
      const u32 width = all - first < section ? all - first : section, rest = n - first * q_blocks;
      head = first + rest % width;
      block = q_blocks - 1 - rest / width;
    } else {
      head = n / q_blocks;
      block = n % q_blocks;
    }
    return {static_cast<i32>(head / heads), static_cast<i32>(head % heads), static_cast<i32>(block) * Layout::kBlockQ};
  }
};
