#include "runtime/convert.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "ir/result.h"
#include "runtime/integer_ops.h"

namespace tilewright {
namespace {

template <class T>
T load(const void* address) {
  T value;
  std::memcpy(&value, address, sizeof value);
  return value;
}
template <class T>
void store(void* address, T value) {
  std::memcpy(address, &value, sizeof value);
}

double f16_value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  double value = 0;
  if (exponent == 31)
    value = fraction ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  else if (exponent == 0)
    value = std::ldexp(fraction, -24);
  else
    value = std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -value : value;
}

/// Nearest even with `fraction_bits` stored bits and exponents from `min_exponent`; no range limit above.
double round_float(double value, int fraction_bits, int min_exponent) {
  if (value == 0 || !std::isfinite(value)) return value;
  const int exponent = std::max(std::ilogb(value), min_exponent);
  return std::ldexp(std::nearbyint(std::ldexp(value, fraction_bits - exponent)), exponent - fraction_bits);
}

uint16_t f16_bits(double value) {
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  if (std::isnan(value)) return static_cast<uint16_t>(sign | 0x7E00);
  const double magnitude = round_float(std::abs(value), 10, -14);
  if (magnitude > 65504) return static_cast<uint16_t>(sign | 0x7C00);
  if (magnitude == 0) return sign;
  const int exponent = std::ilogb(magnitude);
  if (exponent < -14) return static_cast<uint16_t>(sign | static_cast<int>(std::ldexp(magnitude, 24)));
  const int fraction = static_cast<int>(std::ldexp(magnitude, 10 - exponent)) - 1024;
  return static_cast<uint16_t>(sign | (exponent + 15) << 10 | fraction);
}

uint16_t bf16_bits(double value) {
  // Rounded from the double at once: through float it would round twice.
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  if (std::isnan(value)) return static_cast<uint16_t>(sign | 0x7FC0);
  const double magnitude = round_float(std::abs(value), 7, -126);
  if (magnitude > static_cast<double>(std::numeric_limits<float>::max())) return static_cast<uint16_t>(sign | 0x7F80);
  return static_cast<uint16_t>(sign | std::bit_cast<uint32_t>(static_cast<float>(magnitude)) >> 16);
}

bool contiguous_run(const TensorView& view, int axis) { return view.shape[axis] <= 1 || view.strides[axis] == 1; }

void convert_row(const TensorView& from, const std::byte* source, int64_t source_step, const TensorView& to,
                 std::byte* target, int64_t target_step, int64_t count, bool contiguous) {
  const int64_t source_bytes = size_of(from.dtype), target_bytes = size_of(to.dtype);
  if (contiguous && from.dtype == to.dtype) {
    std::memcpy(target, source, static_cast<size_t>(count * source_bytes));
    return;
  }
  if (contiguous && from.dtype == DType::f32 && to.dtype == DType::bf16)
    return convert_f32_to_bf16(reinterpret_cast<const float*>(source), reinterpret_cast<uint16_t*>(target), count);
  if (contiguous && from.dtype == DType::f32 && to.dtype == DType::f16)
    return convert_f32_to_f16(reinterpret_cast<const float*>(source), reinterpret_cast<uint16_t*>(target), count);
  if (contiguous && from.dtype == DType::bf16 && to.dtype == DType::f32)
    return convert_bf16_to_f32(reinterpret_cast<const uint16_t*>(source), reinterpret_cast<float*>(target), count);
  if (contiguous && from.dtype == DType::f16 && to.dtype == DType::f32)
    return convert_f16_to_f32(reinterpret_cast<const uint16_t*>(source), reinterpret_cast<float*>(target), count);
  for (int64_t i = 0; i < count; ++i) {
    const std::byte* in = source + i * source_step * source_bytes;
    std::byte* out = target + i * target_step * target_bytes;
    if (from.dtype == to.dtype)
      std::memcpy(out, in, static_cast<size_t>(source_bytes));
    else
      write_element(to.dtype, out, read_element(from.dtype, in));
  }
}

}  // namespace

double read_element(DType dtype, const void* address) {
  switch (dtype) {
    case DType::f64: return load<double>(address);
    case DType::f32: return static_cast<double>(load<float>(address));
    case DType::f16: return f16_value(load<uint16_t>(address));
    case DType::bf16:
      return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(load<uint16_t>(address)) << 16));
    case DType::i64: return static_cast<double>(load<int64_t>(address));
    case DType::i32: return load<int32_t>(address);
    case DType::i8: return load<int8_t>(address);
    case DType::boolean: return load<uint8_t>(address) != 0 ? 1 : 0;
  }
  TW_CHECK(false);
}

void write_element(DType dtype, void* address, double value) {
  switch (dtype) {
    case DType::f64: return store(address, value);
    case DType::f32: return store(address, static_cast<float>(value));
    case DType::f16: return store(address, f16_bits(value));
    case DType::bf16: return store(address, bf16_bits(value));
    case DType::i64: return store(address, saturate<int64_t>(value));
    case DType::i32: return store(address, saturate<int32_t>(value));
    case DType::i8: return store(address, saturate<int8_t>(value));
    case DType::boolean: return store(address, static_cast<uint8_t>(value != 0));
  }
  TW_CHECK(false);
}

void convert(const TensorView& from, const TensorView& to) {
  TW_CHECK(from.rank == to.rank);
  for (int i = 0; i < from.rank; ++i) {
    TW_CHECK(from.shape[i] == to.shape[i]);
    if (from.shape[i] == 0) return;
  }
  const int last = from.rank - 1;
  const int64_t count = from.rank == 0 ? 1 : from.shape[last];
  const bool contiguous = from.rank == 0 || (contiguous_run(from, last) && contiguous_run(to, last));
  std::array<int64_t, kMaxRank> index{};
  for (;;) {
    int64_t source = 0, target = 0;
    for (int i = 0; i < last; ++i) {
      source += index[i] * from.strides[i];
      target += index[i] * to.strides[i];
    }
    convert_row(from, static_cast<const std::byte*>(from.data) + source * size_of(from.dtype),
                from.rank ? from.strides[last] : 0, to, static_cast<std::byte*>(to.data) + target * size_of(to.dtype),
                to.rank ? to.strides[last] : 0, count, contiguous);
    int axis = last - 1;
    for (; axis >= 0 && ++index[axis] == from.shape[axis]; --axis) index[axis] = 0;
    if (axis < 0) return;
  }
}

}  // namespace tilewright
