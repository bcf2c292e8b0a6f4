// Ops on tiles. The product keeps R rows × NV vectors of C in registers over a piece of depth, reads B by vectors and A
// by broadcasts: 6 × 4 of 32 registers with AVX-512, 6 × 2 of 16 with AVX2.
#include "runtime/tier/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/tier/tile_ops.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "runtime/tier/formulas.h"
#include "runtime/tier/isa_ops.h"

#if TILEWRIGHT_TIER_TARGET
HWY_BEFORE_NAMESPACE();
namespace tilewright::tier::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int kRows = 6;
constexpr int kVectors = HWY_TARGET == HWY_AVX3 ? 4 : 2;

template <class T, int R, int NV>
HWY_NOINLINE void multiply_block(int64_t depth, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc,
                                 bool add) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kWidth = HWY_LANES(T);
  hn::Vec<decltype(d)> sums[R][NV];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) sums[r][v] = hn::Zero(d);
  for (int64_t k = 0; k < depth; ++k) {
    hn::Vec<decltype(d)> right[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) right[v] = hn::LoadU(d, b + k * ldb + v * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const auto left = hn::Set(d, a[r * lda + k]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) sums[r][v] = hn::MulAdd(left, right[v], sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      T* to = c + r * ldc + v * kWidth;
      hn::StoreU(add ? hn::Add(hn::LoadU(d, to), sums[r][v]) : sums[r][v], d, to);
    }
}

template <class T, int NV>
void multiply_panel(int64_t rows, int64_t depth, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc,
                    bool add) {
  for (; rows >= kRows; rows -= kRows, a += kRows * lda, c += kRows * ldc)
    multiply_block<T, kRows, NV>(depth, a, lda, b, ldb, c, ldc, add);
  switch (rows) {
    case 5: return multiply_block<T, 5, NV>(depth, a, lda, b, ldb, c, ldc, add);
    case 4: return multiply_block<T, 4, NV>(depth, a, lda, b, ldb, c, ldc, add);
    case 3: return multiply_block<T, 3, NV>(depth, a, lda, b, ldb, c, ldc, add);
    case 2: return multiply_block<T, 2, NV>(depth, a, lda, b, ldb, c, ldc, add);
    case 1: return multiply_block<T, 1, NV>(depth, a, lda, b, ldb, c, ldc, add);
    default: return;
  }
}

template <class T>
void multiply(int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t lda, const T* b, int64_t ldb, T* c,
              int64_t ldc, bool add) {
  constexpr int64_t kWidth = HWY_LANES(T);
  int64_t column = 0;
  for (; column + kVectors * kWidth <= columns; column += kVectors * kWidth)
    multiply_panel<T, kVectors>(rows, depth, a, lda, b + column, ldb, c + column, ldc, add);
  for (; column < columns; column += kWidth)
    multiply_panel<T, 1>(rows, depth, a, lda, b + column, ldb, c + column, ldc, add);
}

/// Four keys at once hide the latency of their sums.
template <class T, int N>
HWY_INLINE void dots(int64_t depth, const T* a, const T* b, int64_t ldb, T* c, bool add) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kWidth = HWY_LANES(T);
  hn::Vec<decltype(d)> sums[N];
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) sums[n] = hn::Zero(d);
  int64_t k = 0;
  for (; k + kWidth <= depth; k += kWidth) {
    const auto left = hn::LoadU(d, a + k);
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sums[n] = hn::MulAdd(left, hn::LoadU(d, b + n * ldb + k), sums[n]);
  }
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
    T sum = hn::GetLane(hn::SumOfLanes(d, sums[n]));
    for (int64_t rest = k; rest < depth; ++rest) sum += a[rest] * b[n * ldb + rest];
    c[n] = add ? c[n] + sum : sum;
  }
}

template <class T>
void multiply_nt(int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t lda, const T* b, int64_t ldb, T* c,
                 int64_t ldc, bool add) {
  int64_t column = 0;
  for (; column + 4 <= columns; column += 4)
    for (int64_t row = 0; row < rows; ++row)
      dots<T, 4>(depth, a + row * lda, b + column * ldb, ldb, c + row * ldc + column, add);
  for (; column < columns; ++column)
    for (int64_t row = 0; row < rows; ++row)
      dots<T, 1>(depth, a + row * lda, b + column * ldb, ldb, c + row * ldc + column, add);
}

/// dst[i] = f(a[i], b[i]) by vectors.
template <class T, class F>
HWY_INLINE void map(T* dst, const T* a, bool a_one, const T* b, bool b_one, int64_t count, const F& f) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kWidth = HWY_LANES(T);
  // What serves all is read before dst is written, which it may lie in.
  const auto same_a = hn::Set(d, a && a_one ? a[0] : T{0}), same_b = hn::Set(d, b && b_one ? b[0] : T{0});
  for (int64_t i = 0; i < count; i += kWidth)
    hn::StoreU(f(a && !a_one ? hn::LoadU(d, a + i) : same_a, b && !b_one ? hn::LoadU(d, b + i) : same_b), d, dst + i);
}

template <class T>
void combine(TileOp op, T* dst, const T* a, bool a_one, const T* b, bool b_one, int64_t count, T literal) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const Formula<decltype(d)> formula;
  const V minus_infinity = formula.c(-elementary::kInfinity), zero = hn::Zero(d), fill = hn::Set(d, literal);
  const auto each = [&](const auto& f) { map(dst, a, a_one, b, b_one, count, f); };
  switch (op) {
    case TileOp::fill: return each([&](V, V) { return fill; });
    case TileOp::max: return each([&](V x, V y) { return hn::IfThenElse(hn::Gt(x, y), x, y); });
    case TileOp::finite_or_zero:
      return each([&](V x, V) { return hn::IfThenElse(hn::Eq(x, minus_infinity), zero, x); });
    case TileOp::exp2_sub: return each([&](V x, V y) { return elementary::exp2(formula, hn::Sub(x, y)); });
    case TileOp::mul: return each([&](V x, V y) { return hn::Mul(x, y); });
    case TileOp::add: return each([&](V x, V y) { return hn::Add(x, y); });
    case TileOp::div_or_zero:
      return each([&](V x, V y) { return hn::IfThenElse(hn::Eq(y, zero), zero, hn::Div(x, y)); });
    case TileOp::log2_add:
      return each([&](V x, V y) {
        return hn::IfThenElse(hn::Eq(y, zero), minus_infinity, elementary::logsumexp(formula, x, y));
      });
    default: TW_CHECK(!"an elementwise tile op");
  }
}

template <class T>
T fold(TileOp op, const T* a, int64_t count) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kWidth = HWY_LANES(T);
  const bool sum = op == TileOp::row_sum;
  auto folded = hn::Set(d, static_cast<T>(sum ? 0.0 : -elementary::kInfinity));
  for (int64_t i = 0; i < count; i += kWidth) {
    const auto next = hn::LoadU(d, a + i);
    folded = sum ? hn::Add(folded, next) : hn::IfThenElse(hn::Gt(next, folded), next, folded);
  }
  return hn::GetLane(sum ? hn::SumOfLanes(d, folded) : hn::MaxOfLanes(d, folded));
}

template <class T>
TileOps<T> table() {
  return {multiply<T>, multiply_nt<T>, combine<T>, fold<T>};
}
TileOps<float> table_f32() { return table<float>(); }
TileOps<double> table_f64() { return table<double>(); }

}  // namespace tilewright::tier::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif

#if HWY_ONCE
namespace tilewright::tier {

template <>
TileOps<float> tile_ops_of<float>(CpuIsa isa) {
  return isa == CpuIsa::avx512 ? N_AVX3::table_f32() : N_AVX2::table_f32();
}
template <>
TileOps<double> tile_ops_of<double>(CpuIsa isa) {
  return isa == CpuIsa::avx512 ? N_AVX3::table_f64() : N_AVX2::table_f64();
}

const IsaOps& isa_ops(CpuIsa isa) {
  const auto of = [](CpuIsa level) {
    return IsaOps{execute_of(level), tile_ops_of<float>(level), tile_ops_of<double>(level)};
  };
  static const IsaOps avx2 = of(CpuIsa::avx2), avx512 = of(CpuIsa::avx512);
  return isa == CpuIsa::avx512 ? avx512 : avx2;
}

}  // namespace tilewright::tier
#endif
