// Tensor: dense row-major values that a layer returns. What it takes are views of anyone's memory.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "ir/tensor_view.h"

namespace tilewright {

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::boolean;  ///< 0 or 1
};
template <class T>
constexpr DType dtype_of = DTypeOf<T>::value;

/// Dense row-major values of any dtype, zeros at first.
struct DenseTensor {
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;

  DenseTensor() = default;
  DenseTensor(DType type, std::vector<int64_t> sizes) : dtype(type), shape(std::move(sizes)) {
    bytes.resize(static_cast<size_t>(TensorView::contiguous(nullptr, dtype, shape).element_count() * size_of(dtype)));
  }
  TensorView view() { return TensorView::contiguous(bytes.data(), dtype, shape); }
};

template <class T>
struct Tensor {
  std::vector<int64_t> shape;
  std::vector<T> values;

  Tensor() = default;
  /// Zeros.
  explicit Tensor(std::vector<int64_t> sizes) : shape(std::move(sizes)) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    values.resize(static_cast<size_t>(count));
  }
  /// Reads and writes go to `values`; the const one is for inputs only.
  TensorView view() { return TensorView::contiguous(values.data(), dtype_of<T>, shape); }
  TensorView view() const { return TensorView::contiguous(const_cast<T*>(values.data()), dtype_of<T>, shape); }
};

}  // namespace tilewright
