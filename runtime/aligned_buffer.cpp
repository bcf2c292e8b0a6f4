#include "runtime/aligned_buffer.h"

#include <sys/mman.h>

#include <cstdlib>

namespace tilewright {
namespace {
constexpr int64_t kHugePage = 2 << 20;
}

AlignedBuffer::AlignedBuffer(int64_t bytes) {
  if (bytes <= 0) return;
  const bool huge = bytes >= 2 * kHugePage;
  const int64_t alignment = huge ? kHugePage : 64;
  if (bytes > INT64_MAX - alignment) return;
  bytes = align_up(bytes, alignment);
  data_ = std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(bytes));
  if (!data_) return;
  bytes_ = bytes;
  if (huge) madvise(data_, static_cast<size_t>(bytes), MADV_HUGEPAGE);
}

AlignedBuffer::~AlignedBuffer() { std::free(data_); }

}  // namespace tilewright
