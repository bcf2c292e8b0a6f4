// Dims are affine sums of named dims and constants (`Sk = Past + Sq`, `32*B`, `128`); a shape is a list of them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/dtype.h"

namespace tilewright {

/// Sizes that named dims have in one run.
using DimBindings = std::map<std::string, int64_t, std::less<>>;

class Dim {
 public:
  Dim() = default;
  Dim(int64_t constant) : constant_(constant) {}  // NOLINT(google-explicit-constructor)
  static Dim named(std::string name, int64_t coefficient = 1);

  int64_t constant() const { return constant_; }
  /// Non-zero coefficients by name, in name order.
  const std::map<std::string, int64_t, std::less<>>& terms() const { return terms_; }
  bool is_constant() const { return terms_.empty(); }
  bool is_constant(int64_t value) const { return terms_.empty() && constant_ == value; }

  /// Value under the bindings; nullopt when a name is unbound or the sum overflows int64.
  std::optional<int64_t> evaluate(const DimBindings& bindings) const;

  friend Dim operator+(const Dim& a, const Dim& b);
  friend Dim operator-(const Dim& a, const Dim& b);
  friend Dim operator*(const Dim& a, int64_t factor);
  friend bool operator==(const Dim&, const Dim&) = default;

 private:
  int64_t constant_ = 0;
  std::map<std::string, int64_t, std::less<>> terms_;
};

using Shape = std::vector<Dim>;

/// dtype and shape of a value; strides belong to run-time views, not to types.
struct TensorType {
  DType dtype = DType::f32;
  Shape shape;

  int64_t rank() const { return static_cast<int64_t>(shape.size()); }
  friend bool operator==(const TensorType&, const TensorType&) = default;
};

/// "Past+Sq", "32*B+1", "128", "Sk-Sq": no spaces, names in order, constant last. Parses back.
std::string to_string(const Dim& dim);
/// "[B,32,Sq,128]"
std::string to_string(const Shape& shape);
/// "bf16[B,32,Sq,128]"
std::string to_string(const TensorType& type);

/// Sum and product; nullopt when a coefficient overflows int64. For dims that come from outside.
std::optional<Dim> checked_add(const Dim& a, const Dim& b);
std::optional<Dim> checked_multiply(const Dim& a, int64_t factor);

/// True when both shapes hold equally many elements for every size of the named dims, as far as that can be seen.
bool same_element_count(const Shape& a, const Shape& b);

/// Product of dims when all but one are constant; nullopt otherwise (products of names are not affine)
/// and on overflow.
std::optional<Dim> product(const Shape& dims);

/// Right-aligned broadcast of two shapes (semantics 15); nullopt when they do not broadcast.
std::optional<Shape> broadcast(const Shape& a, const Shape& b);

}  // namespace tilewright
