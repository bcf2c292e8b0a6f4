#include "tests/support/test_tensor.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "ir/result.h"

namespace tilewright::testing {
namespace {

// Rounds to `bits` of mantissa (implicit one included) with the smallest normal exponent `min_exponent`, ties to even.
double round_mantissa(double value, int bits, int min_exponent, double largest) {
  if (std::isnan(value) || std::isinf(value) || value == 0) return value;
  int exponent = 0;
  std::frexp(value, &exponent);  // value = m · 2^exponent, 0.5 <= |m| < 1
  const int step = std::max(exponent, min_exponent + 1) - bits;
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -step)), step);
  return std::abs(rounded) > largest ? std::copysign(std::numeric_limits<double>::infinity(), value) : rounded;
}

uint16_t to_bf16(double value) {
  const auto narrow = static_cast<float>(round_mantissa(value, 8, -126, 3.3895313892515355e38));
  uint32_t bits = 0;
  std::memcpy(&bits, &narrow, 4);
  if (std::isnan(value)) bits = 0x7fc00000u;
  return static_cast<uint16_t>(bits >> 16);
}

double from_bf16(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value = 0;
  std::memcpy(&value, &bits, 4);
  return value;
}

}  // namespace

void store_element(DType dtype, void* pointer, double value) {
  switch (dtype) {
    case DType::f64: std::memcpy(pointer, &value, 8); return;
    case DType::f32: {
      const auto x = static_cast<float>(value);
      std::memcpy(pointer, &x, 4);
      return;
    }
    case DType::f16: {
      const auto x = static_cast<_Float16>(round_mantissa(value, 11, -14, 65504.0));
      std::memcpy(pointer, &x, 2);
      return;
    }
    case DType::bf16: {
      const uint16_t x = to_bf16(value);
      std::memcpy(pointer, &x, 2);
      return;
    }
    case DType::i64: {
      const auto x = static_cast<int64_t>(value);
      std::memcpy(pointer, &x, 8);
      return;
    }
    case DType::i32: {
      const auto x = static_cast<int32_t>(value);
      std::memcpy(pointer, &x, 4);
      return;
    }
    case DType::i8:
    case DType::boolean: {
      const auto x = static_cast<int8_t>(value);
      std::memcpy(pointer, &x, 1);
      return;
    }
  }
}

double load_element(DType dtype, const void* pointer) {
  const auto read = [&]<class T>(T x) {
    std::memcpy(&x, pointer, sizeof x);
    return static_cast<double>(x);
  };
  switch (dtype) {
    case DType::f64: return read(double{});
    case DType::f32: return read(float{});
    case DType::f16: return read(_Float16{});
    case DType::bf16: {
      uint16_t x = 0;
      std::memcpy(&x, pointer, 2);
      return from_bf16(x);
    }
    case DType::i64: return read(int64_t{});
    case DType::i32: return read(int32_t{});
    case DType::i8: return read(int8_t{});
    case DType::boolean: return read(int8_t{}) != 0;
  }
  return 0;
}

struct TestTensor::Mapping {
  Mapping(int64_t bytes, bool flush_right) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    usable = std::max<int64_t>((bytes + page - 1) / page * page, page);
    total = usable + 2 * page;
    base =
        static_cast<uint8_t*>(mmap(nullptr, static_cast<size_t>(total), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    TW_CHECK(base != MAP_FAILED);
    TW_CHECK(mprotect(base + page, static_cast<size_t>(usable), PROT_READ | PROT_WRITE) == 0);
    data = base + page + (flush_right ? usable - bytes : 0);
    size = bytes;
  }
  ~Mapping() { munmap(base, static_cast<size_t>(total)); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  uint8_t* base = nullptr;
  uint8_t* data = nullptr;
  int64_t total = 0, usable = 0, size = 0;
};

TestTensor::TestTensor(DType dtype, std::vector<int64_t> shape, Layout layout, std::mt19937_64& random)
    : shape_(std::move(shape)) {
  view_ = TensorView::contiguous(nullptr, dtype, shape_);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  std::vector<int> order(shape_.size());
  std::iota(order.begin(), order.end(), 0);
  if (layout != Layout::contiguous) std::shuffle(order.begin(), order.end(), random);
  const bool gaps = layout == Layout::gapped || layout == Layout::reversed;
  int64_t stride = gaps ? 1 + below(3) : 1;
  int64_t lowest = 0, highest = 0;  // element offsets reached
  for (size_t i = order.size(); i-- > 0;) {
    const int axis = order[i];
    const int64_t extent = std::max<int64_t>(shape_[static_cast<size_t>(axis)], 1);
    const bool backwards = layout == Layout::reversed && below(2) == 0;
    view_.strides[axis] = backwards ? -stride : stride;
    (backwards ? lowest : highest) += (extent - 1) * view_.strides[axis];
    stride = stride * extent + (gaps ? below(4) : 0);
  }
  const int64_t item = size_of(dtype);
  mapping_ = std::make_shared<Mapping>((highest - lowest + 1) * item, below(2) == 0 || layout == Layout::contiguous);
  view_.data = mapping_->data - lowest * item;
  poison();
}

int64_t TestTensor::offset(int64_t position) const {
  int64_t elements = 0;
  for (int axis = view_.rank - 1; axis >= 0; --axis) {
    elements += position % view_.shape[axis] * view_.strides[axis];
    position /= view_.shape[axis];
  }
  return elements * size_of(view_.dtype);
}

void TestTensor::set(int64_t position, double value) {
  store_element(view_.dtype, static_cast<uint8_t*>(view_.data) + offset(position), value);
}

double TestTensor::get(int64_t position) const {
  return load_element(view_.dtype, static_cast<uint8_t*>(view_.data) + offset(position));
}

void TestTensor::poison() {
  // 0xff… is a NaN in every float type, -1 in every integer type and true as a bool.
  std::memset(mapping_->data, 0xff, static_cast<size_t>(mapping_->size));
}

bool TestTensor::gaps_intact() const {
  std::vector<bool> element(static_cast<size_t>(mapping_->size), false);
  const int64_t item = size_of(view_.dtype);
  for (int64_t i = 0, n = size(); i < n; ++i) {
    const int64_t at = static_cast<uint8_t*>(view_.data) + offset(i) - mapping_->data;
    std::fill_n(element.begin() + at, item, true);
  }
  for (int64_t i = 0; i < mapping_->size; ++i)
    if (!element[static_cast<size_t>(i)] && mapping_->data[i] != 0xff) return false;
  return true;
}

std::vector<TensorView> views_of(std::span<const TestTensor> tensors) {
  std::vector<TensorView> views;
  for (const TestTensor& tensor : tensors) views.push_back(tensor.view());
  return views;
}

}  // namespace tilewright::testing
