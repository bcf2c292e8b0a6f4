// Workspaces kept between runs of one kernel: fresh pages cost more than small kernels do.
#pragma once

#include <mutex>
#include <vector>

#include "runtime/aligned_buffer.h"

namespace tilewright {

class BufferPool {
 public:
  AlignedBuffer take(int64_t bytes) {
    {
      std::lock_guard lock(mutex_);
      for (AlignedBuffer& buffer : buffers_)
        if (buffer.bytes() >= bytes && buffer.bytes() <= 4 * bytes + (1 << 20)) {
          AlignedBuffer found = std::move(buffer);
          std::swap(buffer, buffers_.back());
          buffers_.pop_back();
          return found;
        }
    }
    return AlignedBuffer(bytes);
  }

  void give_back(AlignedBuffer buffer) {
    std::lock_guard lock(mutex_);
    int64_t kept = buffer.bytes();
    for (const AlignedBuffer& other : buffers_) kept += other.bytes();
    if (buffers_.size() < kMostBuffers && kept <= kMostBytes) buffers_.push_back(std::move(buffer));
  }

 private:
  static constexpr size_t kMostBuffers = 4;
  static constexpr int64_t kMostBytes = int64_t{256} << 20;
  std::mutex mutex_;
  std::vector<AlignedBuffer> buffers_;
};

}  // namespace tilewright
