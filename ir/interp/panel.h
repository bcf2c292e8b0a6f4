// The oracle's matrix product: rows of A times a panel of kPanel columns of B, k ascending, one accumulator per
// element.
#pragma once

#include <cstdint>

namespace tilewright::interp {

constexpr int64_t kPanel = 8;

/// out[row * kPanel + column] += Σ_k a[row * stride + k] · panel[k * kPanel + column], sequential in k, no fused
/// multiply-add, so that in float this is the naive sum of semantics 19.
template <class T>
void multiply_panel(const T* a, int64_t stride, int64_t rows, int64_t depth, const T* panel, T* out);

/// The same, but a zero of A contributes nothing whatever stands in the panel.
template <class T>
void multiply_panel_skipping_zeros(const T* a, int64_t stride, int64_t rows, int64_t depth, const T* panel, T* out);

}  // namespace tilewright::interp
