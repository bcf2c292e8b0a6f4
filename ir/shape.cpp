#include "ir/shape.h"

#include <algorithm>

#include "ir/result.h"

namespace tilewright {

Dim Dim::named(std::string name, int64_t coefficient) {
  Dim dim;
  if (coefficient != 0) dim.terms_[std::move(name)] = coefficient;
  return dim;
}

std::optional<int64_t> Dim::evaluate(const DimBindings& bindings) const {
  int64_t sum = constant_;
  for (const auto& [name, coefficient] : terms_) {
    auto found = bindings.find(name);
    int64_t term = 0;
    if (found == bindings.end() || __builtin_mul_overflow(coefficient, found->second, &term) ||
        __builtin_add_overflow(sum, term, &sum))
      return std::nullopt;
  }
  return sum;
}

Dim operator+(const Dim& a, const Dim& b) {
  Dim sum = a;
  sum.constant_ += b.constant_;
  for (const auto& [name, coefficient] : b.terms_)
    if ((sum.terms_[name] += coefficient) == 0) sum.terms_.erase(name);
  return sum;
}

Dim operator-(const Dim& a, const Dim& b) { return a + b * -1; }

Dim operator*(const Dim& a, int64_t factor) {
  if (factor == 0) return 0;
  Dim scaled = a;
  scaled.constant_ *= factor;
  for (auto& [name, coefficient] : scaled.terms_) coefficient *= factor;
  return scaled;
}

std::string to_string(const Dim& dim) {
  std::string text;
  for (const auto& [name, coefficient] : dim.terms()) {
    if (coefficient > 0 && !text.empty()) text += '+';
    if (coefficient == -1)
      text += '-';
    else if (coefficient != 1)
      text += fmt::format("{}*", coefficient);
    text += name;
  }
  if (dim.constant() != 0 || text.empty()) {
    if (dim.constant() >= 0 && !text.empty()) text += '+';
    text += std::to_string(dim.constant());
  }
  return text;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? "," : "") + to_string(shape[i]);
  return text + "]";
}

std::string to_string(const TensorType& type) {
  return std::string(to_string(type.dtype)) + to_string(type.shape);
}

std::optional<Dim> product(const Shape& dims) {
  Dim result = 1;
  for (const Dim& dim : dims) {
    if (dim.is_constant())
      result = result * dim.constant();
    else if (result.is_constant())
      result = dim * result.constant();
    else
      return std::nullopt;
  }
  return result;
}

std::optional<Shape> broadcast(const Shape& a, const Shape& b) {
  Shape out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    const Dim x = i < a.size() ? a[a.size() - 1 - i] : Dim(1);
    const Dim y = i < b.size() ? b[b.size() - 1 - i] : Dim(1);
    if (x != y && !x.is_constant(1) && !y.is_constant(1)) return std::nullopt;
    out[out.size() - 1 - i] = x.is_constant(1) ? y : x;
  }
  return out;
}

}  // namespace tilewright
