// Kernels run with subnormals flushed (they cost 65x) and default rounding; the caller's state comes back afterwards.
#pragma once

#include <immintrin.h>

namespace tilewright {

class FloatEnvironment {
 public:
  FloatEnvironment() : saved_(_mm_getcsr()) { _mm_setcsr(kMaskedNearest | kFlushToZero | kDenormalsAreZero); }
  ~FloatEnvironment() { _mm_setcsr(saved_); }
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

 private:
  static constexpr unsigned kMaskedNearest = 0x1F80, kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  unsigned saved_;
};

}  // namespace tilewright
