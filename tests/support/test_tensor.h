// TestTensor: memory that catches kernels misbehaving. Guard pages on both sides, poison (NaN, or a wild integer) in
// every byte that is not an element, any strides.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "ir/tensor_view.h"

namespace tilewright::testing {

enum class Layout : uint8_t {
  contiguous,  ///< row-major, flush against the upper guard page
  permuted,    ///< axes stored in a random order
  gapped,      ///< permuted, with random gaps, the innermost stride often not 1
  reversed     ///< gapped, some strides negative
};

class TestTensor {
 public:
  TestTensor() = default;
  TestTensor(DType dtype, std::vector<int64_t> shape, Layout layout, std::mt19937_64& random);

  const TensorView& view() const { return view_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  int64_t size() const { return view_.element_count(); }

  /// Element by row-major position, converted (round to nearest even; ints and bools from whole numbers).
  void set(int64_t position, double value);
  double get(int64_t position) const;
  /// Every element and every gap poisoned.
  void poison();
  /// False when a byte outside the elements was written since the last poison().
  bool gaps_intact() const;

 private:
  struct Mapping;
  int64_t offset(int64_t position) const;  ///< bytes from view_.data

  std::shared_ptr<Mapping> mapping_;
  TensorView view_;
  std::vector<int64_t> shape_;
};

std::vector<TensorView> views_of(std::span<const TestTensor> tensors);

/// Element conversion through memory, by its own code.
void store_element(DType dtype, void* pointer, double value);
double load_element(DType dtype, const void* pointer);

}  // namespace tilewright::testing
