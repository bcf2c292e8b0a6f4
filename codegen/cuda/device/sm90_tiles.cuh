// What a thread block of the sm_90a prefill keeps in shared memory, and the descriptors by which wgmma reads it.
//
//   offset 0                     Q: boxes of 64 columns × kBlockQ rows, 128 bytes a row; later O, in the same slabs
//   + stage · key tile           K: boxes of 64 columns × kBlockKv rows
//   + stage · value tile         V: likewise
//   barriers                     8 bytes each, then the words that say which blocks the stages hold
//
// TMA writes boxes with the 128-byte swizzle: the 16-byte chunk c of row r lies at chunk c ^ (r & 7). A group of eight rows
// is 1024 bytes and every box begins at a multiple of that, so the pattern is a function of the address alone.
// A head dim that is no multiple of 64 leaves the rest of its last box zero (columns outside the tensor) or unread.

template <class Variant, int block_q, int block_kv, int stages, int consumers, int producer_registers,
          int consumer_registers>
struct Sm90Layout {
  static constexpr int kBlockQ = block_q, kBlockKv = block_kv, kStages = stages, kConsumers = consumers;
  static constexpr int kProducerRegisters = producer_registers, kConsumerRegisters = consumer_registers;
  static constexpr int kBoxColumns = 64, kRowBytes = 128;
  static constexpr int kHeadBoxes = (Variant::kHeadDim + kBoxColumns - 1) / kBoxColumns;
  static constexpr int kValueBoxes = (Variant::kValueDim + kBoxColumns - 1) / kBoxColumns;
  static constexpr u32 kQueryBox = block_q * kRowBytes, kKvBox = block_kv * kRowBytes;
  static constexpr u32 kQueryBytes = kHeadBoxes * kQueryBox;
  static constexpr u32 kKeyBytes = kHeadBoxes * kKvBox, kValueBytes = kValueBoxes * kKvBox;
  static constexpr u32 kOutputBytes = Variant::kTmaStore ? kValueBoxes * kQueryBox : 0;
  static constexpr u32 kKeys = kQueryBytes > kOutputBytes ? kQueryBytes : kOutputBytes;
  static constexpr u32 kValues = kKeys + stages * kKeyBytes;
  static constexpr u32 kBarriers = kValues + stages * kValueBytes;
  static constexpr int kWarpgroupRows = 64;
  static_assert(block_q == consumers * kWarpgroupRows && block_kv % 16 == 0, "tiles are made of wgmma shapes");
};

/// Descriptor of a tile with the 128-byte swizzle. `leading`: bytes from one 64-column box to the next where the tile is
/// MN-major, not read where it is K-major; groups of eight rows are 1024 bytes apart.
TW_DEVICE u64 sm90_descriptor(u32 address, u32 leading) {
  return static_cast<u64>((address & 0x3ffff) >> 4) | static_cast<u64>(leading >> 4) << 16 |
         static_cast<u64>(1024 >> 4) << 32 | static_cast<u64>(1) << 62;
}

/// d (+)= A · Bᵀ over up to four steps of 16 columns of one box, 32 bytes apart in both tiles.
template <int sums>
TW_DEVICE void sm90_multiply(BF16, float (&d)[sums], u64 a, u64 b, bool accumulate, int steps) {
  if (steps == 4) return wgmma_bf16_ss_x4(d, a, b, accumulate);
  TW_UNROLL
  for (int i = 0; i < steps; ++i) wgmma_bf16_ss(d, a + 2 * i, b + 2 * i, accumulate || i > 0);
}
template <int sums>
TW_DEVICE void sm90_multiply(F16, float (&d)[sums], u64 a, u64 b, bool accumulate, int steps) {
  if (steps == 4) return wgmma_f16_ss_x4(d, a, b, accumulate);
  TW_UNROLL
  for (int i = 0; i < steps; ++i) wgmma_f16_ss(d, a + 2 * i, b + 2 * i, accumulate || i > 0);
}
/// d += A · B over up to four steps of 16 keys: weights in registers, rows of V 2048 bytes apart.
template <int sums>
TW_DEVICE void sm90_add(BF16, float (&d)[sums], const u32* a, u64 b, int steps) {
  if (steps == 4) return wgmma_bf16_rs_tb_x4(d, a, b);
  TW_UNROLL
  for (int i = 0; i < steps; ++i) {
    const u32 weights[4] = {a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3]};
    wgmma_bf16_rs_tb(d, weights, b + 128 * i, true);
  }
}
template <int sums>
TW_DEVICE void sm90_add(F16, float (&d)[sums], const u32* a, u64 b, int steps) {
  if (steps == 4) return wgmma_f16_rs_tb_x4(d, a, b);
  TW_UNROLL
  for (int i = 0; i < steps; ++i) {
    const u32 weights[4] = {a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3]};
    wgmma_f16_rs_tb(d, weights, b + 128 * i, true);
  }
}
TW_DEVICE u32 sm90_pack(BF16, float low, float high) { return pack_bf16(low, high); }
TW_DEVICE u32 sm90_pack(F16, float low, float high) { return pack_f16(low, high); }

/// S = Q·Kᵀ: 64 rows of Q at `query` (the slab of a warpgroup in box 0) by the keys at `keys`. Issues and commits.
template <class Variant, class Layout>
TW_DEVICE void sm90_issue_scores(float (&s)[Layout::kBlockKv / 2], u32 query, u32 keys) {
  constexpr int kSteps = (Variant::kHeadDim + 15) / 16;
  wgmma_fence();
  TW_UNROLL
  for (int step = 0; step < kSteps; step += 4) {
    const u32 box = static_cast<u32>(step / 4);
    sm90_multiply(typename Variant::Query{}, s, sm90_descriptor(query + box * Layout::kQueryBox, 16),
                  sm90_descriptor(keys + box * Layout::kKvBox, 16), step > 0, kSteps - step < 4 ? kSteps - step : 4);
  }
  wgmma_commit();
}

/// O += P·V: P in registers, the values at `values`. Issues and commits.
template <class Variant, class Layout>
TW_DEVICE void sm90_issue_output(float (&o)[Variant::kValueDim / 2], const u32 (&p)[Layout::kBlockKv / 4],
                                 u32 values) {
  constexpr int kSteps = Layout::kBlockKv / 16;
  wgmma_fence();
  TW_UNROLL
  for (int step = 0; step < kSteps; step += 4)
    sm90_add(typename Variant::Value{}, o, p + 4 * step,
             sm90_descriptor(values + static_cast<u32>(step) * 2048, Layout::kKvBox),
             kSteps - step < 4 ? kSteps - step : 4);
  wgmma_commit();
}

/// Makes one row of a tile zeros: `boxes` pieces of 128 bytes. The swizzle stays inside a piece.
template <int boxes>
TW_DEVICE void sm90_clear_row(u32 tile, u32 box_bytes, u32 row) {
  TW_NO_UNROLL
  for (u32 box = 0; box < boxes; ++box) {
    TW_UNROLL
    for (u32 chunk = 0; chunk < 8; ++chunk)
      st_shared_vec4(tile + box * box_bytes + row * 128 + chunk * 16, Vec4{0, 0, 0, 0});
  }
}
