// Attention by FMA, a warp to a query row: for the rare thread block that met operands which may not be taken apart. Keys
// are a lane's, 32 at a time; columns of O are a lane's, 32 apart. Slow, small, and all in f32.

TW_DEVICE float warp_max(float x) {
  TW_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) x = max_f32(x, shuffle_xor_f32(x, mask));
  return x;
}
TW_DEVICE float warp_total(float x) {
  TW_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) x += shuffle_xor_f32(x, mask);
  return x;
}

/// One row over the keys [begin, end); is_visible(kv): whether K and V of a key may be read, else they are zeros.
template <class Variant, class IsVisible>
TW_DEVICE void attend_whole_row(const Args& args, i32 b, i32 h, i32 q, i32 begin, i32 end, i32 lane,
                                const IsVisible& is_visible) {
  constexpr int kHeadDim = Variant::kHeadDim, kValueDim = Variant::kValueDim, kColumns = (kValueDim + 31) / 32;
  const auto* query = Variant::query(args, b, h, q);
  const i64 query_stride = Variant::query_stride(args), key_stride = Variant::key_stride(args);
  const i64 value_stride = Variant::value_stride(args);
  SoftmaxRow row;
  softmax_init(row);
  float acc[kColumns];
  TW_UNROLL
  for (int i = 0; i < kColumns; ++i) acc[i] = 0.0f;
  TW_NO_UNROLL
  for (i32 first = begin; first < end; first += 32) {
    const i32 kv = first + lane < end ? first + lane : end - 1;
    float s = 0.0f;
    if (is_visible(kv)) {
      const auto* key = Variant::key(args, b, h, kv);
      TW_NO_UNROLL
      for (int d = 0; d < kHeadDim; ++d)
        s = fma_f32(load_element(query + d * query_stride), load_element(key + d * key_stride), s);
    }
    s = Variant::score(args, s, b, h, q, kv);
    bool keep = first + lane < end;
    if constexpr (Variant::kMasked) keep = keep & Variant::keep(args, b, h, q, kv);
    float p = keep ? s : neg_inf(), alpha, reference;
    alpha = softmax_step(row, warp_max(p), reference);
    p = exp2_approx(p - reference);
    row.l += p;
    if constexpr (Variant::kHasWeightFactor) p *= Variant::weight_factor(args, b, h, q, kv);
    TW_UNROLL
    for (int i = 0; i < kColumns; ++i) acc[i] *= alpha;
    TW_NO_UNROLL
    for (int j = 0; j < 32 && first + j < end; ++j) {
      const float weight = shuffle_f32(p, j);
      if (!is_visible(first + j)) continue;
      const auto* value = Variant::value(args, b, h, first + j);
      TW_UNROLL
      for (int i = 0; i < kColumns; ++i)
        if (lane + 32 * i < kValueDim)
          acc[i] = fma_f32(weight, load_element(value + (lane + 32 * i) * value_stride), acc[i]);
    }
  }
  row.l = warp_total(row.l);
  float scale = 1.0f;
  if constexpr (Variant::kHasSink) scale = softmax_add_sink(row, Variant::sink(args, b, h, q));
  if constexpr (Variant::kHasLogsumexp)
    if (lane == 0) *Variant::logsumexp(args, b, h, q) = softmax_logsumexp(row);
  scale *= softmax_scale(row);
  TW_UNROLL
  for (int i = 0; i < kColumns; ++i)
    if (lane + 32 * i < kValueDim)
      store_element(Variant::output(args, b, h, q) + (lane + 32 * i) * Variant::output_stride(args), acc[i] * scale);
}
