// The online-softmax recurrence of one row, said once for all fast templates; the contract is ir/tile_program.h.
//
//   init    m = -inf, l = 0, acc = 0
//   step    ref = max(m, block max), 0 where that is -inf;   alpha = exp2(m - ref), p = exp2(s - ref)
//           m = max(m, block max), l = l·alpha + sum of p, acc = acc·alpha + p·V
//   merge   m the largest of the partial states' m, l = sum of l·exp2(m_part - ref), acc likewise
//   finish  the sink is a score without a value; O = acc / l, 0 where l is 0; LSE = (m + log2 l)·ln 2, -inf where l is 0
//
// All in base 2. The reference is finite, so that a masked score, -inf, gives exactly 0 and never (-inf) - (-inf). max
// passes NaN over; it reaches l and acc through p.

/// The position at which expressions are evaluated: what they load is not read beyond the last one.
template <class Variant>
TW_DEVICE i32 readable(i32 at, i32 last) {
  return !Variant::kReadsTensors || at < last ? at : last;
}

struct SoftmaxRow {
  float m, l;
};

TW_DEVICE float finite_or_zero(float a) { return a == neg_inf() ? 0.0f : a; }

TW_DEVICE void softmax_init(SoftmaxRow& row) {
  row.m = neg_inf();
  row.l = 0.0f;
}

/// Takes new scores into account, of which only the maximum is known. Returns alpha, the factor of acc; p of a score s is
/// exp2_approx(s - reference), and the caller adds their sum to l.
TW_DEVICE float softmax_step(SoftmaxRow& row, float block_max, float& reference) {
  const float m = max_f32(row.m, block_max);
  reference = finite_or_zero(m);
  const float alpha = exp2_approx(row.m - reference);
  row.m = m;
  row.l *= alpha;
  return alpha;
}

/// Of a partial state that is joined with others: the factor of its l and acc, m being the largest of their references.
TW_DEVICE float softmax_share(const SoftmaxRow& part, float m) { return exp2_approx(part.m - finite_or_zero(m)); }

/// `sink` in natural units. Returns alpha, the factor of acc.
TW_DEVICE float softmax_add_sink(SoftmaxRow& row, float sink) {
  float reference;
  const float alpha = softmax_step(row, sink * 1.44269504f, reference);
  row.l += exp2_approx(sink * 1.44269504f - reference);
  return alpha;
}

/// The factor that makes O of acc. One Newton step makes the reciprocal of a power of two exact.
TW_DEVICE float softmax_scale(const SoftmaxRow& row) {
  const float r = rcp_approx(row.l);
  return row.l == 0.0f ? 0.0f : fma_f32(r, fma_f32(-row.l, r, 1.0f), r);
}

/// In natural units.
TW_DEVICE float softmax_logsumexp(const SoftmaxRow& row) {
  return row.l == 0.0f ? neg_inf() : (row.m + log2_approx(row.l)) * 0.693147181f;
}
