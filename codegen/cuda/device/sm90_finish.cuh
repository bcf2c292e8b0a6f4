// The end of a work item of the sm_90a prefill: sums become outputs and logarithms, through shared memory where TMA can
// store them. A warpgroup stages its 64 rows of O in the slab of its rows of Q, which nothing reads any more.

TW_DEVICE void sm90_store(float* to, float v) { *to = v; }
TW_DEVICE void sm90_store(BF16* to, float v) { to->bits = f32_to_bf16(v); }
TW_DEVICE void sm90_store(F16* to, float v) { to->bits = f32_to_f16(v); }

/// Takes the sink in and stores the LSE. Returns the factor of each row's sums. Sums of weights are per lane on entry.
template <class Variant, class Layout>
TW_DEVICE void sm90_end_rows(const Args& args, const Sm90Item& item, Sm90Rows& rows, i32 q_len, float (&factor)[2]) {
  TW_UNROLL
  for (int r = 0; r < 2; ++r) {
    factor[r] = 1.0f;
    if constexpr (Variant::kSoftmax) {
      SoftmaxRow& row = rows.state[r];
      row.l = sm90_row_sum(row.l);
      if constexpr (Variant::kHasSink)
        factor[r] = softmax_add_sink(row, Variant::sink(args, item.b, item.h, rows.q_read[r]));
      factor[r] *= softmax_scale(row);
      if constexpr (Variant::kHasLogsumexp) {
        if ((thread_index() & 3) == 0 && rows.q[r] < q_len)
          sm90_store(Variant::logsumexp(args, item.b, item.h, rows.q[r]), softmax_logsumexp(row));
      }
    }
  }
}

/// An item without a visited block. The slab of Q may already hold that of the next item: plain stores.
template <class Variant, class Layout>
TW_DEVICE void sm90_store_empty(const Args& args, const Sm90Item& item, Sm90Rows& rows, i32 q_len) {
  float factor[2];
  sm90_end_rows<Variant, Layout>(args, item, rows, q_len, factor);
  TW_UNROLL
  for (int r = 0; r < 2; ++r) {
    if (rows.q[r] >= q_len) continue;
    typename Variant::Output* to = Variant::output(args, item.b, item.h, rows.q[r]);
    const i64 stride = Variant::output_stride(args);
    TW_NO_UNROLL
    for (i32 d = thread_index() & 3; d < Variant::kValueDim; d += 4) sm90_store(to + d * stride, 0.0f);
  }
}

template <class Variant, class Layout>
TW_DEVICE void sm90_finish(const Args& args, const Sm90Item& item, Sm90Rows& rows,
                           const float (&o)[Variant::kValueDim / 2], i32 q_len, const TensorMap* output_map, u32 base) {
  float factor[2];
  sm90_end_rows<Variant, Layout>(args, item, rows, q_len, factor);
  const u32 thread = static_cast<u32>(thread_index()) & 127, group = static_cast<u32>(thread_index()) / 128 - 1;
  const u32 pair = thread & 3;  // columns 2·pair and 2·pair + 1 of each eight
  if constexpr (Variant::kTmaStore) {
    const u32 slab = base + group * Layout::kWarpgroupRows * Layout::kRowBytes;
    const u32 row = thread / 32 * 16 + thread % 32 / 4;
    const u32 first = slab + row * Layout::kRowBytes + ((row & 7) << 4) + pair * 4;  // boxes are 1024-byte aligned
    named_sync(4 + group, 128);  // every warp has read its Q, and the store before has read its O
    TW_UNROLL
    for (int i = 0; i < Variant::kValueDim / 8; ++i) {
      const u32 to = (first ^ static_cast<u32>(i % 8 << 4)) + i / 8 * Layout::kQueryBox;
      typedef typename Variant::Output Output;
      st_shared_u32(to, sm90_pack(Output{}, o[4 * i] * factor[0], o[4 * i + 1] * factor[0]));
      st_shared_u32(to + 8 * Layout::kRowBytes, sm90_pack(Output{}, o[4 * i + 2] * factor[1], o[4 * i + 3] * factor[1]));
    }
    fence_proxy_async();
    named_sync(4 + group, 128);
    if (thread == 0) {
      TW_UNROLL
      for (int box = 0; box < Layout::kValueBoxes; ++box)
        Variant::store_output(args, output_map, slab + box * Layout::kQueryBox, item.b, item.h,
                              item.q_begin + static_cast<i32>(group) * Layout::kWarpgroupRows,
                              box * Layout::kBoxColumns);
      tma_store_commit();
      tma_store_wait_read<0>();
    }
  } else {
    const i64 stride = Variant::output_stride(args);
    TW_UNROLL
    for (int r = 0; r < 2; ++r) {
      if (rows.q[r] >= q_len) continue;
      typename Variant::Output* to = Variant::output(args, item.b, item.h, rows.q[r]) + 2 * pair * stride;
      TW_UNROLL
      for (int i = 0; i < Variant::kValueDim / 8; ++i) {
        sm90_store(to + 8 * i * stride, o[4 * i + 2 * r] * factor[r]);
        sm90_store(to + (8 * i + 1) * stride, o[4 * i + 2 * r + 1] * factor[r]);
      }
    }
  }
}
