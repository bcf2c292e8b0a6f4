// Primitives of level base: the emulated bodies. codegen/cuda/device/primitives/base.cuh has the PTX bodies and says
// what each does.

extern "C" {
/// Of this shared object; set before a launch.
__attribute__((visibility("hidden"))) EmulatorInterface* tw_emulator = nullptr;
__attribute__((visibility("default"), no_sanitize("thread"))) void tw_bind_emulator(EmulatorInterface* emulator) {
  tw_emulator = emulator;
}
}

/// What calls the emulator: its own accesses of memory are not the kernel's.
#define TW_PRIMITIVE static __attribute__((noinline, no_sanitize("thread")))

// Threads, blocks, barriers.
TW_PRIMITIVE i32 thread_index() { return static_cast<i32>(tw_emulator->thread_index); }
TW_PRIMITIVE i64 block_index() { return tw_emulator->block_index; }
TW_PRIMITIVE i64 block_count() { return tw_emulator->block_count; }
TW_PRIMITIVE void block_sync() { tw_emulator->block_barrier(tw_emulator, 0, 0, 1); }
TW_PRIMITIVE void named_sync(u32 id, u32 threads) { tw_emulator->block_barrier(tw_emulator, id, threads, 1); }
TW_PRIMITIVE void named_arrive(u32 id, u32 threads) { tw_emulator->block_barrier(tw_emulator, id, threads, 0); }
TW_DEVICE void fence_global() {}

// Shared memory, by byte address.
TW_PRIMITIVE u32 shared_base() { return tw_emulator->shared_base; }
#define TW_SHARED(name, type)                                                                                        \
  TW_PRIMITIVE type ld_shared_##name(u32 address) {                                                                  \
    type value;                                                                                                      \
    __builtin_memcpy(&value, tw_emulator->shared(tw_emulator, address, sizeof(type), kEmulatedLoad), sizeof(type));  \
    return value;                                                                                                    \
  }                                                                                                                  \
  TW_PRIMITIVE void st_shared_##name(u32 address, type value) {                                                      \
    __builtin_memcpy(tw_emulator->shared(tw_emulator, address, sizeof(type), kEmulatedStore), &value, sizeof(type)); \
  }
TW_SHARED(u8, u8)
TW_SHARED(u16, u16)
TW_SHARED(u32, u32)
TW_SHARED(u64, u64)
TW_SHARED(f32, float)
TW_SHARED(f64, double)
TW_SHARED(vec4, Vec4)
#undef TW_SHARED

// Global memory.
#define TW_GLOBAL(name, type)                                            \
  TW_PRIMITIVE type ld_global_##name(const void* from) {                 \
    type value;                                                          \
    tw_emulator->global(tw_emulator, from, sizeof(type), kEmulatedLoad); \
    __builtin_memcpy(&value, from, sizeof(type));                        \
    return value;                                                        \
  }
TW_GLOBAL(vec4, Vec4)
TW_GLOBAL(nc_u16, u16)
TW_GLOBAL(nc_u32, u32)
TW_GLOBAL(nc_f32, float)
TW_GLOBAL(nc_f64, double)
#undef TW_GLOBAL
TW_PRIMITIVE void st_global_vec4(void* to, Vec4 v) {
  tw_emulator->global(tw_emulator, to, sizeof(v), kEmulatedStore);
  __builtin_memcpy(to, &v, sizeof(v));
}
TW_PRIMITIVE i32 atomic_add_i32(i32* at, i32 value) {
  tw_emulator->global(tw_emulator, at, sizeof(value), kEmulatedStore);
  const i32 before = *at;
  *at = static_cast<i32>(static_cast<u32>(before) + static_cast<u32>(value));
  return before;
}
TW_PRIMITIVE i64 atomic_add_i64(i64* at, i64 value) {
  tw_emulator->global(tw_emulator, at, sizeof(value), kEmulatedStore);
  const i64 before = *at;
  *at = static_cast<i64>(static_cast<u64>(before) + static_cast<u64>(value));
  return before;
}

// Bits.
TW_DEVICE u32 f32_bits(float x) {
  u32 bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}
TW_DEVICE float bits_f32(u32 bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
TW_DEVICE u64 f64_bits(double x) {
  u64 bits;
  __builtin_memcpy(&bits, &x, 8);
  return bits;
}
TW_DEVICE double bits_f64(u64 bits) {
  double x;
  __builtin_memcpy(&x, &bits, 8);
  return x;
}
TW_DEVICE float neg_inf() { return -__builtin_inff(); }
TW_DEVICE u32 mul_hi_u32(u32 a, u32 b) { return static_cast<u32>((static_cast<u64>(a) * b) >> 32); }

// The whole warp.
TW_PRIMITIVE void warp_sync() { tw_emulator->warp_sync(tw_emulator); }
TW_PRIMITIVE u32 warp_ballot(bool value) { return tw_emulator->warp_ballot(tw_emulator, value); }
TW_DEVICE bool warp_any(bool value) { return warp_ballot(value) != 0; }
TW_PRIMITIVE u32 shuffle_u32(u32 v, u32 lane) {
  return static_cast<u32>(tw_emulator->shuffle(tw_emulator, v, lane & 31));
}
TW_DEVICE float shuffle_f32(float v, u32 lane) { return bits_f32(shuffle_u32(f32_bits(v), lane)); }
TW_PRIMITIVE double shuffle_f64(double v, u32 lane) {
  return bits_f64(tw_emulator->shuffle(tw_emulator, f64_bits(v), lane & 31));
}
TW_PRIMITIVE u32 shuffle_xor_u32(u32 v, u32 mask) { return shuffle_u32(v, tw_emulator->thread_index ^ mask); }
TW_PRIMITIVE float shuffle_xor_f32(float v, u32 mask) { return shuffle_f32(v, tw_emulator->thread_index ^ mask); }
TW_PRIMITIVE double shuffle_xor_f64(double v, u32 mask) { return shuffle_f64(v, tw_emulator->thread_index ^ mask); }

// Approximations of f32: nearer the truth than the GPU's, with its flushing.
TW_PRIMITIVE float exp2_approx(float x) { return tw_emulator->approximate(tw_emulator, kEmulatedExp2, x); }
TW_PRIMITIVE float log2_approx(float x) { return tw_emulator->approximate(tw_emulator, kEmulatedLog2, x); }
TW_PRIMITIVE float rcp_approx(float x) { return tw_emulator->approximate(tw_emulator, kEmulatedReciprocal, x); }
TW_PRIMITIVE float tanh_approx(float x) { return tw_emulator->approximate(tw_emulator, kEmulatedTanh, x); }

// Rounding, smaller and larger.
TW_DEVICE float min_f32(float a, float b) {
  if (a == b) return bits_f32(f32_bits(a) | f32_bits(b));  // -0 is smaller than 0
  return a < b || b != b ? a : b;
}
TW_DEVICE float max_f32(float a, float b) {
  if (a == b) return bits_f32(f32_bits(a) & f32_bits(b));
  return a > b || b != b ? a : b;
}
TW_DEVICE double min_f64(double a, double b) {
  if (a == b) return bits_f64(f64_bits(a) | f64_bits(b));  // -0 is smaller than 0
  return a < b || b != b ? a : b;
}
TW_DEVICE double max_f64(double a, double b) {
  if (a == b) return bits_f64(f64_bits(a) & f64_bits(b));
  return a > b || b != b ? a : b;
}
TW_DEVICE float abs_f32(float x) { return __builtin_fabsf(x); }
TW_DEVICE double abs_f64(double x) { return __builtin_fabs(x); }
TW_DEVICE float ceil_f32(float x) { return __builtin_ceilf(x); }
TW_DEVICE double ceil_f64(double x) { return __builtin_ceil(x); }
TW_DEVICE float trunc_f32(float x) { return __builtin_truncf(x); }
TW_DEVICE double trunc_f64(double x) { return __builtin_trunc(x); }
TW_DEVICE float rint_f32(float x) { return __builtin_rintf(x); }
TW_DEVICE double rint_f64(double x) { return __builtin_rint(x); }

// 16-bit floats.
TW_DEVICE u16 f32_to_bf16(float x) {
  const u32 bits = f32_bits(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return static_cast<u16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
TW_DEVICE float bf16_to_f32(u16 bits) { return bits_f32(static_cast<u32>(bits) << 16); }
TW_DEVICE u16 f32_to_f16(float x) {
  const u32 bits = f32_bits(x), magnitude = bits & 0x7fffffffu;
  const u32 sign = (bits >> 16) & 0x8000u;
  if (magnitude > 0x7f800000u) return 0x7fff;
  if (magnitude >= 0x477ff000u) return static_cast<u16>(sign | 0x7c00u);  // 65520 and more round to infinity
  if (magnitude < 0x38800000u) {  // below 2^-14: units of 2^-24, which the sum below leaves in the low bits
    const float units = bits_f32(magnitude) + 0.5f;
    return static_cast<u16>(sign | (f32_bits(units) - 0x3f000000u));
  }
  const u32 rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<u16>(sign | ((rounded - 0x38000000u) >> 13));
}
TW_DEVICE float f16_to_f32(u16 bits) {
  const u32 sign = static_cast<u32>(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u, fraction = bits & 0x3ffu;
  if (exponent == 31) return bits_f32(sign | 0x7f800000u | (fraction << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return bits_f32(sign | f32_bits(magnitude));
  }
  return bits_f32(sign | ((exponent + 112u) << 23) | (fraction << 13));
}
TW_DEVICE u32 pack_bf16(float low, float high) { return f32_to_bf16(low) | static_cast<u32>(f32_to_bf16(high)) << 16; }
TW_DEVICE u32 pack_f16(float low, float high) { return f32_to_f16(low) | static_cast<u32>(f32_to_f16(high)) << 16; }
