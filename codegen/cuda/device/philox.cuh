// random_bits: Philox4x32-10, the same bits as on every other target. Its constants come from codegen/philox.h.
TW_DEVICE i64 random_bits(i64 seed, i64 offset, i64 bh, i64 q, i64 kv) {
  u32 c0 = u32(kv >> 2), c1 = u32(q), c2 = u32(bh), c3 = u32(offset);
  u32 k0 = u32(seed), k1 = u32(u64(seed) >> 32);
  for (i32 round = 0; round < kPhiloxRounds; ++round) {
    const u64 p0 = u64(kPhiloxMultiplier0) * c0, p1 = u64(kPhiloxMultiplier1) * c2;
    c0 = u32(p1 >> 32) ^ c1 ^ k0;
    c1 = u32(p1);
    c2 = u32(p0 >> 32) ^ c3 ^ k1;
    c3 = u32(p0);
    k0 += kPhiloxKeyStep0;
    k1 += kPhiloxKeyStep1;
  }
  const i32 word = i32(kv & 3);
  return i64(word == 0 ? c0 : word == 1 ? c1 : word == 2 ? c2 : c3);
}
