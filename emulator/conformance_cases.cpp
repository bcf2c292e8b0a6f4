// The kernels of the conformance tests.
#include "emulator/conformance.h"

namespace tilewright {
namespace {

using Input = ConformanceCase::Input;

std::vector<ConformanceCase> base_cases() {
  return {
      {.name = "shared memory in all widths",
       .body = R"(
  const u32 s = shared_base();
  st_shared_u8(s + t, u8(in[t]));
  st_shared_u16(s + 128 + 2 * t, u16(in[t] >> 8));
  st_shared_u32(s + 256 + 4 * t, in[t]);
  st_shared_u64(s + 512 + 8 * t, u64(in[t]) << 32 | in[t ^ 1]);
  st_shared_vec4(s + 1024 + 16 * t, Vec4{in[t], in[t ^ 1], in[t ^ 2], in[t ^ 3]});
  block_sync();
  const u32 o = t ^ 5;
  const Vec4 v = ld_shared_vec4(s + 1024 + 16 * o);
  const u64 d = ld_shared_u64(s + 512 + 8 * o);
  out[8 * t] = ld_shared_u8(s + o) | ld_shared_u16(s + 128 + 2 * o) << 8;
  out[8 * t + 1] = ld_shared_u32(s + 256 + 4 * o);
  out[8 * t + 2] = u32(d);
  out[8 * t + 3] = u32(d >> 32);
  out[8 * t + 4] = v.x ^ v.w;
  out[8 * t + 5] = v.y ^ v.z;
  out[8 * t + 6] = f32_bits(ld_shared_f32(s + 256 + 4 * o));
  out[8 * t + 7] = u32(f64_bits(ld_shared_f64(s + 512 + 8 * o)) >> 16);)",
       .shared_bytes = 2048,
       .output_words = 256},
      {.name = "global memory in all widths",
       .body = R"(
  const Vec4 v = ld_global_vec4(in + 4 * t);
  st_global_vec4(out + 8 * t, Vec4{v.w, v.z, v.y, v.x});
  out[8 * t + 4] = ld_global_nc_u32(in + t);
  out[8 * t + 5] = ld_global_nc_u16(in + t);
  out[8 * t + 6] = f32_bits(ld_global_nc_f32(in + t));
  out[8 * t + 7] = u32(f64_bits(ld_global_nc_f64(in + 2 * t)) >> 20);)",
       .output_words = 256},
      {.name = "shuffles and votes",
       .body = R"(
  u32 sum = 0;
  TW_NO_UNROLL
  for (u32 mask = 1; mask < 32; mask *= 2) sum = sum * 31 + shuffle_xor_u32(in[t], mask);
  out[8 * t] = sum;
  out[8 * t + 1] = shuffle_u32(in[t], 7);
  out[8 * t + 2] = shuffle_u32(in[t], u32(t) ^ 21);
  out[8 * t + 3] = f32_bits(shuffle_xor_f32(bits_f32(in[t]), 9));
  out[8 * t + 4] = u32(f64_bits(shuffle_xor_f64(bits_f64(u64(in[t]) << 32 | in[t ^ 1]), 3)));
  out[8 * t + 5] = warp_ballot(in[t] & 1);
  out[8 * t + 6] = warp_any(in[t] == in[3]);
  out[8 * t + 7] = warp_any(false);)",
       .output_words = 256},
      {.name = "named barriers",
       .body = R"(
  const u32 s = shared_base();
  if (t < 64) {
    st_shared_u32(s + 4 * t, in[t]);
    named_arrive(1, 128);
  } else {
    named_sync(1, 128);
    out[t - 64] = ld_shared_u32(s + 4 * (127 - t));
  })",
       .threads = 128,
       .shared_bytes = 1024,
       .output_words = 64},
      {.name = "atomic additions",
       .body = R"(
  atomic_add_i32(reinterpret_cast<i32*>(out), i32(in[t]));
  atomic_add_i64(reinterpret_cast<i64*>(out + 2), i64(in[t]));)",
       .threads = 256,
       .output_words = 4},
      {.name = "conversions",
       .body = R"(
  const float x = bits_f32(in[t]), y = bits_f32(in[t + 32]);
  out[8 * t] = f32_to_bf16(x);
  out[8 * t + 1] = f32_to_f16(x);
  out[8 * t + 2] = pack_bf16(x, y);
  out[8 * t + 3] = pack_f16(x * 1.0e-5f, y * 1.0e4f);
  out[8 * t + 4] = f32_bits(bf16_to_f32(u16(in[t])));
  out[8 * t + 5] = f32_bits(f16_to_f32(u16(in[t] & 0x7bff)));
  out[8 * t + 6] = f32_bits(rint_f32(x * 8)) ^ f32_bits(trunc_f32(y * 8));
  out[8 * t + 7] = mul_hi_u32(in[t], in[t + 32]);)",
       .output_words = 256,
       .input = Input::floats},
      {.name = "arithmetic that is exact to the bit",
       .body = R"(
  const float x = bits_f32(in[t]), y = bits_f32(in[t + 32]);
  out[8 * t] = f32_bits(fma_f32(x, y, x));
  out[8 * t + 1] = f32_bits(sqrt_f32(abs_f32(x)));
  out[8 * t + 2] = u32(f64_bits(fma_f64(x, y, x)) >> 3);
  out[8 * t + 3] = f32_bits(x / y);
  out[8 * t + 4] = f32_bits(min_f32(x, y));
  out[8 * t + 5] = f32_bits(max_f32(x, neg_inf()));
  out[8 * t + 6] = f32_bits(floor_f32(x * 4)) ^ f32_bits(ceil_f32(y * 4));
  out[8 * t + 7] = u32(f64_bits(sqrt_f64(double(x) * x + 2)) >> 3);)",
       .output_words = 256,
       .input = Input::floats},
      {.name = "approximations of 22 bits",
       .body = R"(
  const float x = bits_f32(in[t]);
  out[4 * t] = f32_bits(exp2_approx(x));
  out[4 * t + 1] = f32_bits(log2_approx(abs_f32(x) + 0.125f));
  out[4 * t + 2] = f32_bits(rcp_approx(x * x + 0.5f));
  out[4 * t + 3] = f32_bits(exp2_approx(neg_inf()));)",
       .output_words = 128,
       .input = Input::floats,
       .tolerance = 1.0 / (1 << 20)},
      {.name = "tanh of 10 bits",
       .body = "  out[t] = f32_bits(tanh_approx(bits_f32(in[t])));",
       .input = Input::floats,
       .tolerance = 1.0 / (1 << 9)},
      {.name = "elementary functions",
       .body = R"(
  const float x = bits_f32(in[t]);
  out[8 * t] = f32_bits(exp_f32(x));
  out[8 * t + 1] = f32_bits(log_f32(abs_f32(x) + 0.125f));
  out[8 * t + 2] = f32_bits(tanh_f32(x));
  out[8 * t + 3] = f32_bits(erf_f32(x));
  out[8 * t + 4] = f32_bits(float(exp_f64(x)));
  out[8 * t + 5] = f32_bits(float(log_f64(x * x + 0.125)));
  out[8 * t + 6] = f32_bits(float(tanh_f64(x)));
  out[8 * t + 7] = f32_bits(float(erf_f64(x)));)",
       .output_words = 256,
       .input = Input::floats,
       .tolerance = 1.0 / (1 << 20)},
  };
}

std::vector<ConformanceCase> sm80_cases() {
  const auto mma = [](const char* type) {
    return ConformanceCase{.name = fmt::format("mma m16n8k16 {}", type),
                           .primitives = CudaPrimitives::sm80,
                           .body = fmt::format(R"(
  const u32 a[4] = {{in[t], in[t + 32], in[t + 64], in[t + 96]}};
  float c[4] = {{1.0f, 2.0f, float(t), -1.0f}};
  mma_m16n8k16_{}(c, a, in[t + 128], in[t + 160]);
  TW_UNROLL
  for (int i = 0; i < 4; ++i) out[4 * t + i] = f32_bits(c[i]);)",
                                               type),
                           .output_words = 128,
                           .input = Input::pairs,
                           .tolerance = 1.0 / (1 << 18)};
  };
  return {
      {.name = "cp.async, with and without a source",
       .primitives = CudaPrimitives::sm80,
       .body = R"(
  const u32 s = shared_base();
  cp_async_16(s + 16 * t, in + 4 * t, t % 3 != 0);
  cp_async_commit();
  cp_async_16(s + 512 + 16 * t, in + 4 * (t ^ 1), true);
  cp_async_commit();
  cp_async_wait<1>();
  block_sync();
  out[2 * t] = ld_shared_u32(s + 16 * (t ^ 7) + 4);
  cp_async_wait<0>();
  block_sync();
  out[2 * t + 1] = ld_shared_u32(s + 512 + 16 * (t ^ 7) + 8);)",
       .shared_bytes = 1024,
       .output_words = 64},
      {.name = "ldmatrix, as it lies and transposed",
       .primitives = CudaPrimitives::sm80,
       .body = R"(
  const u32 s = shared_base();
  for (u32 i = 0; i < 4; ++i) st_shared_u32(s + 4 * (t + 32 * i), in[t + 32 * i]);
  block_sync();
  u32 a[4], b[4];
  ldmatrix_x4(a, s + 16 * t);
  ldmatrix_x4_trans(b, s + 16 * (31 - t));
  TW_UNROLL
  for (int i = 0; i < 4; ++i) {
    out[8 * t + i] = a[i];
    out[8 * t + 4 + i] = b[i];
  })",
       .shared_bytes = 1024,
       .output_words = 256},
      mma("bf16"),
      mma("f16"),
  };
}

std::vector<ConformanceCase> sm90_cases() {
  constexpr const char* kLoad = R"(
  const u32 box = shared_base(), barrier = box + 64 * 128;
  if (t == 0) {
    mbarrier_init(barrier, 1);
    mbarrier_init_fence();
  }
  block_sync();
  if (t == 0) {
    mbarrier_expect(barrier, 64 * 128);
    tma_load_3d(box, &map0, barrier, 0, -3, 1);
  }
  mbarrier_wait(barrier, 0);
)";
  const auto wgmma = [](const char* name, const char* product, double tolerance) {
    return ConformanceCase{.name = name,
                           .primitives = CudaPrimitives::sm90,
                           .body = fmt::format(R"(
  const u32 q = shared_base(), k = q + 64 * 128, barrier = k + 64 * 128;
  if (t == 0) {{
    mbarrier_init(barrier, 1);
    mbarrier_init_fence();
  }}
  block_sync();
  if (t == 0) {{
    mbarrier_expect(barrier, 2 * 64 * 128);
    tma_load_2d(q, &map0, barrier, 0, 0);
    tma_load_2d(k, &map0, barrier, 0, 64);
  }}
  mbarrier_wait(barrier, 0);
  const u64 layout = u64{{1}} << 62 | u64{{1024 >> 4}} << 32;
  float d[32];
  TW_UNROLL
  for (int i = 0; i < 32; ++i) d[i] = float(i);
  wgmma_fence();
{}
  wgmma_commit();
  wgmma_wait<0>();
  TW_UNROLL
  for (int i = 0; i < 32; ++i) out[32 * t + i] = f32_bits(d[i]);)",
                                               product),
                           .before = "TW_WGMMA(bf16, 64)\n",
                           .threads = 128,
                           .shared_bytes = 2 * 64 * 128 + 1024,
                           .output_words = 32 * 128,
                           .input = Input::pairs,
                           .tolerance = tolerance,
                           .maps = {{{64, 128}, {64, 64}}}};
  };
  return {
      {.name = "TMA loads, swizzled, zero outside the tensor",
       .primitives = CudaPrimitives::sm90,
       .body = std::string(kLoad) + "  for (i32 i = t; i < 64 * 32; i += 32) out[i] = ld_shared_u32(box + 4 * i);",
       .shared_bytes = 64 * 128 + 1024,
       .output_words = 64 * 32,
       .maps = {{{64, 50, 2}, {64, 64, 1}}}},
      {.name = "TMA stores, and what lies outside is left alone",
       .primitives = CudaPrimitives::sm90,
       .body = std::string(kLoad) + R"(
  fence_proxy_async();
  block_sync();
  if (t == 0) {
    tma_store_3d(&map1, box, 0, 5, 0);
    tma_store_commit();
    tma_store_wait_read<0>();
  })",
       .shared_bytes = 64 * 128 + 1024,
       .output_words = 60 * 32 + 32,
       .maps = {{{64, 50, 2}, {64, 64, 1}}, {{64, 60, 1}, {64, 64, 1}, true}}},
      {.name = "mbarriers over several phases",
       .primitives = CudaPrimitives::sm90,
       .body = R"(
  const u32 s = shared_base(), full = s + 1024, empty = full + 8;
  if (t == 0) {
    mbarrier_init(full, 32);
    mbarrier_init(empty, 32);
    mbarrier_init_fence();
  }
  block_sync();
  TW_NO_UNROLL
  for (u32 round = 0; round < 6; ++round) {
    if (t < 32) {
      if (round > 0) mbarrier_wait(empty, (round - 1) & 1);
      st_shared_u32(s + 4 * t, in[t + 32 * round]);
      mbarrier_arrive(full);
    } else {
      mbarrier_wait(full, round & 1);
      out[t - 32 + 32 * round] = ld_shared_u32(s + 4 * ((t - 32) ^ 11));
      mbarrier_arrive(empty);
    }
  })",
       .threads = 64,
       .shared_bytes = 2048,
       .output_words = 192},
      wgmma("wgmma of two tiles in shared memory", "  wgmma_bf16_ss_x4(d, layout | q >> 4, layout | k >> 4, true);",
            1.0 / (1 << 16)),
      wgmma("wgmma with A in registers and B transposed", R"(
  const u32 p[4] = {in[t], in[t + 128], in[t + 256], in[t + 384]};
  wgmma_bf16_rs_tb(d, p, layout | u64{1} << 16 | k >> 4, true);)",
            1.0 / (1 << 16)),
  };
}

}  // namespace

const std::vector<ConformanceCase>& conformance_cases() {
  static const std::vector<ConformanceCase> all = [] {
    std::vector<ConformanceCase> cases = base_cases();
    for (const auto& more : {sm80_cases(), sm90_cases()}) cases.insert(cases.end(), more.begin(), more.end());
    return cases;
  }();
  return all;
}

}  // namespace tilewright
