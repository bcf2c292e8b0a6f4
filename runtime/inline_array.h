// A fixed-size array that lives in its own frame when it is small, so that running a kernel does not allocate.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace tilewright {

template <class T, size_t kInline>
class InlineArray {
 public:
  explicit InlineArray(size_t size, T value = {}) : size_(size) {
    if (size > kInline)
      more_.assign(size, value);
    else
      inline_.fill(value);
  }
  InlineArray(const InlineArray&) = delete;
  InlineArray& operator=(const InlineArray&) = delete;

  T* data() { return more_.empty() ? inline_.data() : more_.data(); }
  const T* data() const { return more_.empty() ? inline_.data() : more_.data(); }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }
  operator std::span<T>() { return {data(), size_}; }              // NOLINT(google-explicit-constructor)
  operator std::span<const T>() const { return {data(), size_}; }  // NOLINT(google-explicit-constructor)

 private:
  size_t size_;
  std::array<T, kInline> inline_;
  std::vector<T> more_;
};

}  // namespace tilewright
