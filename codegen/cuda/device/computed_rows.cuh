// Rows of Q and K that are computed (RoPE, norms over the head dim): written once to the workspace, where the template
// that runs after this phase reads them as it reads any others. K is computed per KV head, not per query head.
//
//   one warp = one row, those of Q first; sums over the row are the warp's, columns are 32 lanes apart
//   registers: what the expressions take; no shared memory
//
// Costs a write and a read of the rows: little beside the products of a prefill, which would else compute every row of K
// once per block of queries; a decode reads its keys three times instead of once.
// Keys that keep_kv hides from all query heads of the group are neither read nor written: no template reads their rows
// but for scores that are masked.

template <class Variant, bool kQueries, bool kKeys, i32 kWarps>
TW_DEVICE void compute_rows(const Args& args) {
  const i64 batch = Variant::batch(args);
  const i32 heads = Variant::heads(args), q_len = Variant::q_len(args), kv_len = Variant::kv_len(args);
  i64 row = block_index() * kWarps + warp_index();
  if constexpr (kQueries) {
    const i64 queries = batch * heads * q_len;
    if (row < queries) {
      const i32 q = take_index(row, q_len), h = take_index(row, heads), b = i32(row);
      auto* to = const_cast<typename Variant::Query*>(Variant::query(args, b, h, q));
      const auto sums = Variant::query_sums(args, 0, b, h, q);
      TW_NO_UNROLL
      for (i32 d = lane_index(); d < Variant::kHeadDim; d += 32)
        store_element(to + d, Variant::query_element(args, 0, b, h, q, d, sums));
      return;
    }
    row -= queries;
  }
  if constexpr (kKeys) {
    const i32 kv_heads = heads / Variant::kHeadGroup;
    if (row >= batch * kv_heads * kv_len) return;
    const i32 kv = take_index(row, kv_len), h = take_index(row, kv_heads) * Variant::kHeadGroup, b = i32(row);
    bool visible = !Variant::kHasKeepKv;
    if constexpr (Variant::kHasKeepKv) {
      TW_NO_UNROLL
      for (i32 head = h; head < h + Variant::kHeadGroup; ++head)
        visible = visible | Variant::keep_kv(args, b, head, kv);
    }
    if (!visible) return;
    auto* to = const_cast<typename Variant::Key*>(Variant::key(args, b, h, kv));
    const auto sums = Variant::key_sums(args, 0, b, h, kv);
    TW_NO_UNROLL
    for (i32 d = lane_index(); d < Variant::kHeadDim; d += 32)
      store_element(to + d, Variant::key_element(args, 0, b, h, kv, d, sums));
  }
}
