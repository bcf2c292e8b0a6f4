#include "ir/shape.h"

#include <algorithm>
#include <numeric>

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

std::string to_string(const TensorType& type) { return std::string(to_string(type.dtype)) + to_string(type.shape); }

namespace {
/// INT64_MIN counts as overflow, so that every coefficient can be negated.
bool overflows(bool carried, int64_t value) { return carried || value == INT64_MIN; }
}  // namespace

std::optional<Dim> checked_add(const Dim& a, const Dim& b) {
  int64_t sum = 0;
  if (overflows(__builtin_add_overflow(a.constant(), b.constant(), &sum), sum)) return std::nullopt;
  for (const auto& [name, coefficient] : b.terms()) {
    const auto found = a.terms().find(name);
    if (found == a.terms().end()) continue;
    if (overflows(__builtin_add_overflow(found->second, coefficient, &sum), sum)) return std::nullopt;
  }
  return a + b;
}

std::optional<Dim> checked_multiply(const Dim& a, int64_t factor) {
  int64_t scaled = 0;
  if (overflows(__builtin_mul_overflow(a.constant(), factor, &scaled), scaled)) return std::nullopt;
  for (const auto& [name, coefficient] : a.terms())
    if (overflows(__builtin_mul_overflow(coefficient, factor, &scaled), scaled)) return std::nullopt;
  return a * factor;
}

namespace {

/// A shape's element count as constant · Π factors, the factors being dims with coprime coefficients, sorted by text.
struct ElementCount {
  int64_t constant = 1;
  bool overflow = false;
  std::vector<std::string> factors;
};

ElementCount element_count(const Shape& shape) {
  ElementCount count;
  for (const Dim& dim : shape) {
    int64_t common = dim.constant();
    for (const auto& [name, coefficient] : dim.terms()) common = std::gcd(common, coefficient);
    if (dim.is_constant(0)) return {0, false, {}};
    if (__builtin_mul_overflow(count.constant, common, &count.constant)) count.overflow = true;
    if (dim.is_constant()) continue;
    Dim factor = dim.constant() / common;
    for (const auto& [name, coefficient] : dim.terms()) factor = factor + Dim::named(name, coefficient / common);
    count.factors.push_back(to_string(factor));
  }
  std::sort(count.factors.begin(), count.factors.end());
  return count;
}

}  // namespace

bool same_element_count(const Shape& a, const Shape& b) {
  const ElementCount x = element_count(a), y = element_count(b);
  return !x.overflow && !y.overflow && x.constant == y.constant && x.factors == y.factors;
}

std::optional<Dim> product(const Shape& dims) {
  Dim result = 1;
  for (const Dim& dim : dims) {
    std::optional<Dim> next;
    if (dim.is_constant())
      next = checked_multiply(result, dim.constant());
    else if (result.is_constant())
      next = checked_multiply(dim, result.constant());
    if (!next) return std::nullopt;
    result = *next;
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
