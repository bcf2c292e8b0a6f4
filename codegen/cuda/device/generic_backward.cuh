// The generic backward template, over the tiles of generic_tiles.cuh: recomputed scores s, the products t, weights made
// of them, and three kinds of sums, each a kernel of its own that adds in a fixed order and writes every element once.
//
//   rows:     a block owns block_q query rows of (b, h) and visits the keys       out[q, d]  = Σ_kv W[q, kv] · X[kv, d]
//   columns:  a block owns block_kv keys of (b, kv head) and visits the queries
//             of the group's heads                                                out[kv, d] = Σ_h Σ_q W[q, kv] · X[q, d]
//   captured: a block owns the places that only it reaches, and visits the rest   out[index(b, h, q, kv)] += W[q, kv]
//
// An Operand (made per kernel) is rows of a tensor over q or kv:
//   struct … { static constexpr i32 kColumns; static constexpr bool kKeys;  static Acc element(args, b, h, row, d); };

/// The keys of one thread block: blocks fastest, then kv heads, then b. `h` is the first query head of the group.
struct KeyRows {
  i32 b, h, kv_begin, kv_end;
};
template <class Space, i32 block_kv>
TW_DEVICE KeyRows key_rows(const Args& args) {
  const i64 blocks = (Space::kv_len(args) + block_kv - 1) / block_kv, heads = Space::heads(args) / Space::kHeadGroup;
  const i64 item = block_index(), row = item / blocks;
  const i32 kv_begin = i32(item % blocks) * block_kv;
  return {i32(row / heads), i32(row % heads) * Space::kHeadGroup, kv_begin,
          int_min(kv_begin + block_kv, Space::kv_len(args))};
}

/// Rows begin … end - 1; those past them, and keys that keep_kv hides, become zeros, and their memory is not touched.
template <class Space, class Operand, class T>
TW_DEVICE void load_rows(const Args& args, i32 b, i32 h, i32 begin, i32 end, T tile) {
  TW_NO_UNROLL
  for (i32 i = warp_index(); i < T::kRows; i += T::kThreads / 32) {
    const i32 row = begin + i;
    bool visible = row < end;
    if (Operand::kKeys && Space::kHasKeepKv && visible) visible = Space::keep_kv(args, b, h, row);
    TW_NO_UNROLL
    for (i32 d = lane_index(); d < T::kColumns; d += 32)
      tile_set(tile, i, d, visible ? Operand::element(args, b, h, row, d) : 0);
  }
  block_sync();
}

/// dst = W(s, t) where keep is true, 0 elsewhere. Weight: struct { static Acc value(args, s, t, b, h, q, kv); }.
template <class Space, class Weight, class D, class S, class T>
TW_DEVICE void tile_weight(const Args& args, const QueryRows& rows, i32 kv_begin, i32 kv_end, D dst, S s, T t) {
  TW_NO_UNROLL
  for (i32 i = thread_index(); i < D::kRows * D::kColumns; i += D::kThreads) {
    const i32 row = i / D::kColumns, column = i % D::kColumns;
    const i32 q = rows.q_begin + row, kv = kv_begin + column;
    typename D::Element weight = 0;
    if (q < rows.q_end && kv < kv_end && Space::keep(args, rows.b, rows.h, q, kv))
      weight = Weight::value(args, tile_get(s, row, column), tile_get(t, row, column), rows.b, rows.h, q, kv);
    tile_set(dst, row, column, weight);
  }
  block_sync();
}

/// Output: struct { static … address(args, b, h, row);  static i64 stride(args); }.
template <class Output, class A>
TW_DEVICE void store_rows(const Args& args, i32 b, i32 h, i32 begin, i32 end, A a) {
  const i64 stride = Output::stride(args);
  TW_NO_UNROLL
  for (i32 i = thread_index(); i < A::kRows * A::kColumns; i += A::kThreads) {
    const i32 row = i / A::kColumns, column = i % A::kColumns;
    if (begin + row < end)
      store_element(Output::address(args, b, h, begin + row) + column * stride, tile_get(a, row, column));
  }
}

// Captured: struct { static i64 offset(args, b, h, q, kv); static … element(args, i64 offset); …
// sums(args, chunk); … }, offsets being row-major over the output's shape.

template <class Captured, class A>
TW_DEVICE void store_captured(const Args& args, const QueryRows& rows, i32 kv_begin, i32 kv_end, A a) {
  TW_NO_UNROLL
  for (i32 i = thread_index(); i < A::kRows * A::kColumns; i += A::kThreads) {
    const i32 row = i / A::kColumns, column = i % A::kColumns;
    const i32 q = rows.q_begin + row, kv = kv_begin + column;
    if (q < rows.q_end && kv < kv_end)
      store_element(Captured::element(args, Captured::offset(args, rows.b, rows.h, q, kv)), tile_get(a, row, column));
  }
}

/// Adds the tile's weights to `sums`, each by the thread that owns its place, in row-major order.
template <class Captured, class W>
TW_DEVICE void add_captured(const Args& args, const QueryRows& rows, i32 kv_begin, i32 kv_end, W weights, u32 offsets,
                            typename W::Element* sums) {
  constexpr i32 kCount = W::kRows * W::kColumns;
  TW_NO_UNROLL
  for (i32 i = thread_index(); i < kCount; i += W::kThreads) {
    const i32 q = rows.q_begin + i / W::kColumns, kv = kv_begin + i % W::kColumns;
    const bool inside = q < rows.q_end && kv < kv_end;
    const i64 offset = inside ? Captured::offset(args, rows.b, rows.h, q, kv) : -1;
    st_shared_u64(offsets + u32(i) * 8, u64(offset));
  }
  block_sync();
  TW_NO_UNROLL
  for (i32 i = 0; i < kCount; ++i) {
    const i64 offset = i64(ld_shared_u64(offsets + u32(i) * 8));
    if (offset >= 0 && i32(offset & (W::kThreads - 1)) == thread_index())
      sums[offset] += tile_get(weights, i / W::kColumns, i % W::kColumns);
  }
  block_sync();
}

/// Before: what nothing reaches is 0.
template <class Captured, bool direct, i32 threads>
TW_DEVICE void clear_captured(const Args& args) {
  const i64 n = block_index() * threads + thread_index();
  if (n >= Captured::elements(args)) return;
  if constexpr (direct) {
    store_element(Captured::element(args, n), 0.0f);
  } else {
    for (i32 chunk = 0; chunk < Captured::kChunks; ++chunk) Captured::sums(args, chunk)[n] = 0;
  }
}
/// After: the sums of all chunks to where they belong.
template <class Captured, i32 threads>
TW_DEVICE void finish_captured(const Args& args) {
  const i64 n = block_index() * threads + thread_index();
  if (n >= Captured::elements(args)) return;
  auto sum = Captured::sums(args, 0)[n];
  TW_NO_UNROLL
  for (i32 chunk = 1; chunk < Captured::kChunks; ++chunk) sum += Captured::sums(args, chunk)[n];
  store_element(Captured::element(args, n), sum);
}
