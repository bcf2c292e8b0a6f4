#include "ir/interp/panel.h"

#include <cstring>

namespace tilewright::interp {
namespace {

template <class T>
void multiply_portable(const T* a, int64_t stride, int64_t rows, int64_t depth, const T* panel, T* out) {
  for (int64_t row = 0; row < rows; ++row) {
    T sum[kPanel];
    std::memcpy(sum, out + row * kPanel, sizeof(sum));
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t column = 0; column < kPanel; ++column)
        sum[column] += a[row * stride + k] * panel[k * kPanel + column];
    std::memcpy(out + row * kPanel, sum, sizeof(sum));
  }
}

#if defined(__x86_64__)
template <class T, int kRows>
__attribute__((target("avx2"))) void multiply_rows_avx2(const T* a, int64_t stride, int64_t depth, const T* panel,
                                                        T* out) {
  // Element-aligned vectors, loaded and stored whole: copies through memcpy stall on store forwarding.
  typedef T Vector __attribute__((vector_size(32)));
  typedef T Unaligned __attribute__((vector_size(32), aligned(sizeof(T)), may_alias));
  constexpr int kLanes = 32 / static_cast<int>(sizeof(T)), kVectors = static_cast<int>(kPanel) / kLanes;
  Vector sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
      sum[row][v] = *reinterpret_cast<const Unaligned*>(out + row * kPanel + v * kLanes);
  for (int64_t k = 0; k < depth; ++k) {
    Vector b[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) b[v] = *reinterpret_cast<const Unaligned*>(panel + k * kPanel + v * kLanes);
#pragma GCC unroll 4
    for (int row = 0; row < kRows; ++row) {
      const T x = a[row * stride + k];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[row][v] += x * b[v];
    }
  }
#pragma GCC unroll 4
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) *reinterpret_cast<Unaligned*>(out + row * kPanel + v * kLanes) = sum[row][v];
}

template <class T>
void multiply_avx2(const T* a, int64_t stride, int64_t rows, int64_t depth, const T* panel, T* out) {
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4)
    multiply_rows_avx2<T, 4>(a + row * stride, stride, depth, panel, out + row * kPanel);
  for (; row < rows; ++row) multiply_rows_avx2<T, 1>(a + row * stride, stride, depth, panel, out + row * kPanel);
}

bool have_avx2() {
  static const bool have = __builtin_cpu_supports("avx2") > 0;
  return have;
}
#endif

template <class T>
void multiply(const T* a, int64_t stride, int64_t rows, int64_t depth, const T* panel, T* out) {
#if defined(__x86_64__)
  if (have_avx2()) return multiply_avx2(a, stride, rows, depth, panel, out);
#endif
  multiply_portable(a, stride, rows, depth, panel, out);
}

}  // namespace

template <>
void multiply_panel(const float* a, int64_t stride, int64_t rows, int64_t depth, const float* panel, float* out) {
  multiply(a, stride, rows, depth, panel, out);
}
template <>
void multiply_panel(const double* a, int64_t stride, int64_t rows, int64_t depth, const double* panel, double* out) {
  multiply(a, stride, rows, depth, panel, out);
}
template <>
void multiply_panel(const long double* a, int64_t stride, int64_t rows, int64_t depth, const long double* panel,
                    long double* out) {
  multiply_portable(a, stride, rows, depth, panel, out);
}

template <class T>
void multiply_panel_skipping_zeros(const T* a, int64_t stride, int64_t rows, int64_t depth, const T* panel, T* out) {
  for (int64_t row = 0; row < rows; ++row) {
    T sum[kPanel];
    std::memcpy(sum, out + row * kPanel, sizeof(sum));
    for (int64_t k = 0; k < depth; ++k) {
      const T x = a[row * stride + k];
      for (int64_t column = 0; x != 0 && column < kPanel; ++column) sum[column] += x * panel[k * kPanel + column];
    }
    std::memcpy(out + row * kPanel, sum, sizeof(sum));
  }
}

template void multiply_panel_skipping_zeros(const float*, int64_t, int64_t, int64_t, const float*, float*);
template void multiply_panel_skipping_zeros(const double*, int64_t, int64_t, int64_t, const double*, double*);
template void multiply_panel_skipping_zeros(const long double*, int64_t, int64_t, int64_t, const long double*,
                                            long double*);

}  // namespace tilewright::interp
