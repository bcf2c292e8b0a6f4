// Primitives of level base: the PTX bodies. docs/gpu.md has the table; emulator/device has the other bodies.

// Threads, blocks, barriers.
TW_DEVICE i32 thread_index() { return static_cast<i32>(threadIdx.x); }
TW_DEVICE i64 block_index() { return static_cast<i64>(blockIdx.x); }
TW_DEVICE i64 block_count() { return static_cast<i64>(gridDim.x); }
TW_DEVICE void block_sync() { __syncthreads(); }
TW_DEVICE void named_sync(u32 id, u32 threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
TW_DEVICE void named_arrive(u32 id, u32 threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
TW_DEVICE void fence_global() { __threadfence(); }

// Shared memory, by byte address.
TW_DEVICE u32 shared_base() {
  extern __shared__ __align__(1024) unsigned char tw_shared[];
  return static_cast<u32>(__cvta_generic_to_shared(tw_shared));
}
#define TW_SHARED(name, type, ptx, constraint, register_type)                                                \
  TW_DEVICE type ld_shared_##name(u32 address) {                                                             \
    register_type value;                                                                                     \
    asm volatile("ld.shared." ptx " %0, [%1];" : "=" constraint(value) : "r"(address) : "memory");           \
    return static_cast<type>(value);                                                                         \
  }                                                                                                          \
  TW_DEVICE void st_shared_##name(u32 address, type value) {                                                 \
    asm volatile("st.shared." ptx " [%0], %1;" ::"r"(address), constraint(static_cast<register_type>(value)) \
                 : "memory");                                                                                \
  }
TW_SHARED(u8, u8, "u8", "r", u32)
TW_SHARED(u16, u16, "u16", "h", u16)
TW_SHARED(u32, u32, "u32", "r", u32)
TW_SHARED(u64, u64, "u64", "l", u64)
TW_SHARED(f32, float, "f32", "f", float)
TW_SHARED(f64, double, "f64", "d", double)
#undef TW_SHARED
TW_DEVICE Vec4 ld_shared_vec4(u32 address) {
  Vec4 v;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
TW_DEVICE void st_shared_vec4(u32 address, Vec4 v) {
  asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

// Global memory. `nc`: through the read-only path; nothing may write there while the kernel runs.
TW_DEVICE Vec4 ld_global_vec4(const void* from) { return *static_cast<const Vec4*>(from); }
TW_DEVICE void st_global_vec4(void* to, Vec4 v) { *static_cast<Vec4*>(to) = v; }
#define TW_GLOBAL_NC(name, type, ptx, constraint)                                                        \
  TW_DEVICE type ld_global_nc_##name(const void* from) {                                                 \
    type value;                                                                                          \
    asm("ld.global.nc." ptx " %0, [%1];" : "=" constraint(value) : "l"(__cvta_generic_to_global(from))); \
    return value;                                                                                        \
  }
TW_GLOBAL_NC(u16, u16, "u16", "h")
TW_GLOBAL_NC(u32, u32, "u32", "r")
TW_GLOBAL_NC(f32, float, "f32", "f")
TW_GLOBAL_NC(f64, double, "f64", "d")
#undef TW_GLOBAL_NC
/// Give what was there before.
TW_DEVICE i32 atomic_add_i32(i32* at, i32 value) { return atomicAdd(at, value); }
TW_DEVICE i64 atomic_add_i64(i64* at, i64 value) {
  return static_cast<i64>(atomicAdd(reinterpret_cast<u64*>(at), static_cast<u64>(value)));
}

// The whole warp.
TW_DEVICE void warp_sync() { __syncwarp(); }
TW_DEVICE bool warp_any(bool value) { return __any_sync(0xffffffffu, value); }
/// Bit l: what lane l gave.
TW_DEVICE u32 warp_ballot(bool value) { return __ballot_sync(0xffffffffu, value); }
TW_DEVICE u32 shuffle_xor_u32(u32 v, u32 mask) { return __shfl_xor_sync(0xffffffffu, v, static_cast<i32>(mask)); }
TW_DEVICE float shuffle_xor_f32(float v, u32 mask) { return __shfl_xor_sync(0xffffffffu, v, static_cast<i32>(mask)); }
TW_DEVICE double shuffle_xor_f64(double v, u32 mask) { return __shfl_xor_sync(0xffffffffu, v, static_cast<i32>(mask)); }
TW_DEVICE u32 shuffle_u32(u32 v, u32 lane) { return __shfl_sync(0xffffffffu, v, static_cast<i32>(lane)); }
TW_DEVICE float shuffle_f32(float v, u32 lane) { return __shfl_sync(0xffffffffu, v, static_cast<i32>(lane)); }
TW_DEVICE double shuffle_f64(double v, u32 lane) { return __shfl_sync(0xffffffffu, v, static_cast<i32>(lane)); }

// Bits.
TW_DEVICE u32 f32_bits(float x) { return __float_as_uint(x); }
TW_DEVICE float bits_f32(u32 bits) { return __uint_as_float(bits); }
TW_DEVICE u64 f64_bits(double x) { return static_cast<u64>(__double_as_longlong(x)); }
TW_DEVICE double bits_f64(u64 bits) { return __longlong_as_double(static_cast<i64>(bits)); }
TW_DEVICE float neg_inf() { return __uint_as_float(0xff800000u); }
/// Upper half of the 64-bit product.
TW_DEVICE u32 mul_hi_u32(u32 a, u32 b) { return __umulhi(a, b); }

// Approximations of f32, subnormals flushed to zeros on both sides.
#define TW_APPROXIMATE(name, ptx)           \
  TW_DEVICE float name(float x) {           \
    float y;                                \
    asm(ptx " %0, %1;" : "=f"(y) : "f"(x)); \
    return y;                               \
  }
TW_APPROXIMATE(exp2_approx, "ex2.approx.ftz.f32")
TW_APPROXIMATE(log2_approx, "lg2.approx.ftz.f32")
TW_APPROXIMATE(rcp_approx, "rcp.approx.ftz.f32")
TW_APPROXIMATE(tanh_approx, "tanh.approx.f32")
#undef TW_APPROXIMATE

// min and max drop a NaN beside a number.
TW_DEVICE float min_f32(float a, float b) { return fminf(a, b); }
TW_DEVICE float max_f32(float a, float b) { return fmaxf(a, b); }
TW_DEVICE double min_f64(double a, double b) { return fmin(a, b); }
TW_DEVICE double max_f64(double a, double b) { return fmax(a, b); }
TW_DEVICE float abs_f32(float x) { return fabsf(x); }
TW_DEVICE double abs_f64(double x) { return fabs(x); }
TW_DEVICE float ceil_f32(float x) { return ceilf(x); }
TW_DEVICE double ceil_f64(double x) { return ceil(x); }
TW_DEVICE float trunc_f32(float x) { return truncf(x); }
TW_DEVICE double trunc_f64(double x) { return trunc(x); }
/// To the nearest integer, ties to even.
TW_DEVICE float rint_f32(float x) { return rintf(x); }
TW_DEVICE double rint_f64(double x) { return rint(x); }

// 16-bit floats: to the nearest, ties to even; NaN stays NaN; f16 overflows to infinity.
TW_DEVICE u16 f32_to_bf16(float x) {
  u16 r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(x));
  return r;
}
TW_DEVICE float bf16_to_f32(u16 bits) { return __uint_as_float(static_cast<u32>(bits) << 16); }
TW_DEVICE u16 f32_to_f16(float x) {
  u16 r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(x));
  return r;
}
TW_DEVICE float f16_to_f32(u16 bits) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(bits));
  return r;
}
/// Two in a word, `low` in bits 0–15.
TW_DEVICE u32 pack_bf16(float low, float high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
TW_DEVICE u32 pack_f16(float low, float high) {
  u32 r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
