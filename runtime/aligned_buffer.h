// Memory for workspaces: 64-byte aligned, not cleared, and on huge pages where it is large.
#pragma once

#include <cstdint>
#include <utility>

namespace tilewright {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  /// data() is null when the memory cannot be had.
  explicit AlignedBuffer(int64_t bytes);
  AlignedBuffer(AlignedBuffer&& other) noexcept { *this = std::move(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~AlignedBuffer();

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

constexpr int64_t align_up(int64_t bytes, int64_t alignment = 64) {
  return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace tilewright
