#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/convert_bulk.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "runtime/convert.h"

HWY_BEFORE_NAMESPACE();
namespace tilewright {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Round to nearest even by hand on the bits: the same on every target.
uint16_t bf16_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

void f32_to_bf16(const float* from, uint16_t* to, int64_t count) {
  const hn::ScalableTag<uint32_t> d32;
  const hn::Rebind<uint16_t, decltype(d32)> d16;
  const hn::RebindToSigned<decltype(d32)> di32;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d32));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto bits = hn::LoadU(d32, reinterpret_cast<const uint32_t*>(from + i));
    const auto magnitude = hn::BitCast(di32, hn::And(bits, hn::Set(d32, 0x7FFFFFFFu)));
    const auto is_nan = hn::RebindMask(d32, hn::Gt(magnitude, hn::Set(di32, 0x7F800000)));
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1u));
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(d32, 0x7FFFu))));
    const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(d32, 0x40u));
    const auto narrow = hn::IfThenElse(is_nan, quiet, rounded);
    hn::StoreU(hn::TruncateTo(d16, narrow), d16, to + i);
  }
  for (; i < count; ++i) to[i] = bf16_of(from[i]);
}

void bf16_to_f32(const uint16_t* from, float* to, int64_t count) {
  const hn::ScalableTag<uint32_t> d32;
  const hn::Rebind<uint16_t, decltype(d32)> d16;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d32));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto wide = hn::PromoteTo(d32, hn::LoadU(d16, from + i));
    hn::StoreU(hn::ShiftLeft<16>(wide), d32, reinterpret_cast<uint32_t*>(to + i));
  }
  for (; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(from[i]) << 16;
    __builtin_memcpy(to + i, &bits, sizeof bits);
  }
}

void f16_to_f32(const uint16_t* from, float* to, int64_t count) {
  const hn::ScalableTag<float> d32;
  const hn::Rebind<hwy::float16_t, decltype(d32)> d16;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d32));
  const auto* source = reinterpret_cast<const hwy::float16_t*>(from);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(hn::PromoteTo(d32, hn::LoadU(d16, source + i)), d32, to + i);
  for (; i < count; ++i) to[i] = static_cast<float>(read_element(DType::f16, from + i));
}

void f32_to_f16(const float* from, uint16_t* to, int64_t count) {
  const hn::ScalableTag<float> d32;
  const hn::Rebind<hwy::float16_t, decltype(d32)> d16;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d32));
  auto* target = reinterpret_cast<hwy::float16_t*>(to);
  int64_t i = 0;
#if HWY_TARGET <= HWY_AVX2  // vcvtps2ph rounds to even; Highway's emulation below it truncates subnormals
  for (; i + lanes <= count; i += lanes) hn::StoreU(hn::DemoteTo(d16, hn::LoadU(d32, from + i)), d16, target + i);
#else
  (void)d16;
  (void)lanes;
  (void)target;
#endif
  for (; i < count; ++i) write_element(DType::f16, to + i, static_cast<double>(from[i]));
}

}  // namespace HWY_NAMESPACE
}  // namespace tilewright
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tilewright {
HWY_EXPORT(f32_to_bf16);
HWY_EXPORT(bf16_to_f32);
HWY_EXPORT(f32_to_f16);
HWY_EXPORT(f16_to_f32);

void convert_f32_to_bf16(const float* from, uint16_t* to, int64_t count) {
  HWY_DYNAMIC_DISPATCH(f32_to_bf16)(from, to, count);
}
void convert_bf16_to_f32(const uint16_t* from, float* to, int64_t count) {
  HWY_DYNAMIC_DISPATCH(bf16_to_f32)(from, to, count);
}
void convert_f32_to_f16(const float* from, uint16_t* to, int64_t count) {
  HWY_DYNAMIC_DISPATCH(f32_to_f16)(from, to, count);
}
void convert_f16_to_f32(const uint16_t* from, float* to, int64_t count) {
  HWY_DYNAMIC_DISPATCH(f16_to_f32)(from, to, count);
}
}  // namespace tilewright
#endif
