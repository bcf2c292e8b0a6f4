// Numbers as memory holds them: conversion to and from each dtype, round to nearest even. The oracle's own code,
// shared with no kernel.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "ir/dtype.h"

namespace tilewright::interp {

inline double from_bf16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

inline double from_f16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 31, fraction = bits & 0x3ff;
  if (exponent == 0) {
    const double magnitude = fraction * 0x1p-24;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t widened = exponent == 31 ? 0xffu : exponent + 112;
  return std::bit_cast<float>(sign | (widened << 23) | (fraction << 13));
}

/// `x` rounded to `precision` significant bits, exponents down to `min_exponent` (of the smallest normal), beyond
/// `max_finite` to infinity.
inline double round_to_format(double x, int precision, int min_exponent, double max_finite) {
  if (!std::isfinite(x) || x == 0) return x;
  const int exponent = static_cast<int>((std::bit_cast<uint64_t>(x) >> 52) & 0x7ff) - 1023;
  const int quantum = (exponent > min_exponent ? exponent : min_exponent) - precision + 1;
  // Adding 1.5·2^52 quanta leaves no room for bits below one quantum; the addition itself rounds to even.
  const double anchor = 1.5 * std::bit_cast<double>(static_cast<uint64_t>(quantum + 52 + 1023) << 52);
  const double rounded = std::copysign((x + anchor) - anchor, x);
  if (std::fabs(rounded) > max_finite) return std::copysign(std::numeric_limits<double>::infinity(), x);
  return rounded;
}

/// Nearest value of a float dtype, ties to even.
inline double round_to(DType dtype, double x) {
  switch (dtype) {
    case DType::f32: return static_cast<float>(x);
    case DType::f16: return round_to_format(x, 11, -14, 65504.0);
    case DType::bf16: return round_to_format(x, 8, -126, 0x1.FEp127);
    default: return x;
  }
}

inline uint16_t to_bf16(double x) {
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(round_to(DType::bf16, x)));
  return static_cast<uint16_t>(std::isnan(x) ? (bits >> 16) | 0x40 : bits >> 16);
}

inline uint16_t to_f16(double x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  if (std::isnan(x)) return static_cast<uint16_t>(sign | 0x7e00);
  const double magnitude = std::fabs(round_to(DType::f16, x));
  if (std::isinf(magnitude)) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude < 0x1p-14) return static_cast<uint16_t>(sign | static_cast<uint16_t>(magnitude * 0x1p24));
  const uint64_t bits = std::bit_cast<uint64_t>(magnitude);
  const uint64_t exponent = (bits >> 52) - 1023 + 15;
  return static_cast<uint16_t>(sign | (exponent << 10) | ((bits >> 42) & 0x3ff));
}

/// Difference between 1 and the next value.
constexpr double epsilon(DType dtype) {
  switch (dtype) {
    case DType::f64: return 0x1p-52;
    case DType::f32: return 0x1p-23;
    case DType::f16: return 0x1p-10;
    case DType::bf16: return 0x1p-7;
    default: return 0;
  }
}

/// Smallest normal value.
constexpr double min_normal(DType dtype) {
  switch (dtype) {
    case DType::f64: return 0x1p-1022;
    case DType::f32:
    case DType::bf16: return 0x1p-126;
    case DType::f16: return 0x1p-14;
    default: return 0;
  }
}

template <class T>
T read_as(const void* base, int64_t element) {
  T value;
  std::memcpy(&value, static_cast<const char*>(base) + element * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

/// Element of a float tensor.
inline double load_real(DType dtype, const void* base, int64_t element) {
  switch (dtype) {
    case DType::f64: return read_as<double>(base, element);
    case DType::f32: return read_as<float>(base, element);
    case DType::f16: return from_f16(read_as<uint16_t>(base, element));
    case DType::bf16: return from_bf16(read_as<uint16_t>(base, element));
    default: return 0;
  }
}

/// Element of an integer or bool tensor; bools come as 0 or 1.
inline int64_t load_int(DType dtype, const void* base, int64_t element) {
  switch (dtype) {
    case DType::i64: return read_as<int64_t>(base, element);
    case DType::i32: return read_as<int32_t>(base, element);
    case DType::i8: return read_as<int8_t>(base, element);
    case DType::boolean: return read_as<uint8_t>(base, element) != 0;
    default: return 0;
  }
}

/// Stores into a float tensor, rounding to its dtype.
inline void store_real(DType dtype, void* base, int64_t element, double value) {
  char* at = static_cast<char*>(base) + element * size_of(dtype);
  const float single = static_cast<float>(value);
  const uint16_t half = dtype == DType::bf16 ? to_bf16(value) : to_f16(value);
  if (dtype == DType::f64) std::memcpy(at, &value, 8);
  if (dtype == DType::f32) std::memcpy(at, &single, 4);
  if (dtype == DType::f16 || dtype == DType::bf16) std::memcpy(at, &half, 2);
}

/// Stores into an integer or bool tensor, wrapping.
inline void store_int(DType dtype, void* base, int64_t element, int64_t value) {
  char* at = static_cast<char*>(base) + element * size_of(dtype);
  if (dtype == DType::boolean) value = value != 0;
  std::memcpy(at, &value, static_cast<size_t>(size_of(dtype)));  // little-endian: the low bytes come first
}

}  // namespace tilewright::interp
