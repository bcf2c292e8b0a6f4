// Primitives of levels base and sm80 on the emulator against the tables of the PTX ISA, written down here once more.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "tests/emulator/kernel.h"

namespace tilewright::testing {
namespace {

TEST(Base, ThreadsMeetAtBarriersAndShuffle) {
  const EmulatedModule module = build({R"(
    const i32 t = thread_index();
    float* out = static_cast<float*>(args.tensors[0]) + block_index() * 64;
    st_shared_f32(shared_base() + 4 * t, static_cast<float>(t));
    block_sync();
    const float other = ld_shared_f32(shared_base() + 4 * (63 - t));
    out[t] = shuffle_xor_f32(other, 1) + 1000.0f * (warp_any(t == 40) ? 1 : 0) + 10000.0f * block_index();
  )"});
  for (const EmulatorOptions& options : legal_executions()) {
    std::vector<float> out(3 * 64, NAN);
    ASSERT_EQ(run(module, {64, 256, 3}, {out.data()}, options), "");
    for (int b = 0; b < 3; ++b)
      for (int t = 0; t < 64; ++t)
        EXPECT_EQ(out[static_cast<size_t>(b * 64 + t)],
                  static_cast<float>((63 - (t ^ 1)) + (t >= 32 ? 1000 : 0) + 10000 * b));
  }
}

/// What each of 64 threads finds in a counter that it raises.
std::vector<uint32_t> turns(const EmulatedModule& module, uint64_t seed) {
  std::vector<uint32_t> out(65);
  EmulatorOptions options;
  options.seed = seed;
  EXPECT_EQ(run(module, {64}, {out.data()}, options), "");
  return out;
}

TEST(Base, ThreadsRunInTheOrderOfTheSeed) {
  const EmulatedModule module = build({R"(
    u32* out = static_cast<u32*>(args.tensors[0]);
    block_sync();
    out[thread_index()] = out[64]++;
  )"});
  const std::vector<uint32_t> one = turns(module, 1);
  EXPECT_EQ(one, turns(module, 1));
  EXPECT_NE(one, turns(module, 2));
  EXPECT_NE(one, turns(module, 0));
  std::vector<bool> taken(64);
  for (size_t t = 0; t < 64; ++t) taken[one[t]] = true;
  EXPECT_EQ(std::count(taken.begin(), taken.end(), true), 64);
}

TEST(Sm80, CopiesMayBeThereBeforeTheWait) {
  const EmulatedModule module = build({R"(
    const i32 t = thread_index();
    float* const in = static_cast<float*>(args.tensors[0]);
    cp_async_16(shared_base() + 16 * t, in + 4 * t, true);
    cp_async_commit();
    static_cast<float*>(args.tensors[1])[t] = ld_shared_f32(shared_base() + 16 * t);
    in[4 * t] = 5;
    cp_async_wait<0>();
    static_cast<float*>(args.tensors[2])[t] = ld_shared_f32(shared_base() + 16 * t);
  )",
                                       CudaPrimitives::sm80, 3});
  for (const bool late : {false, true}) {
    alignas(16) float in[32 * 4];
    float before[32], after[32];
    std::fill(std::begin(in), std::end(in), 3.0f);
    EmulatorOptions options;
    options.check_races = false;
    options.late_copies = late;
    ASSERT_EQ(run(module, {32, 512}, {in, before, after}, options), "");
    for (size_t t = 0; t < 32; ++t) {
      EXPECT_EQ(std::isnan(before[t]), late);  // shared memory starts as NaN
      EXPECT_EQ(after[t], late ? 5 : 3);
    }
  }
}

TEST(Sm80, CopiesAreThereAfterTheWait) {
  const EmulatedModule module = build({R"(
    const i32 t = thread_index();
    const u32 at = shared_base() + 16 * t;
    cp_async_16(at, static_cast<const Vec4*>(args.tensors[0]) + t, t % 4 != 3);
    cp_async_commit();
    cp_async_wait<0>();
    block_sync();
    static_cast<Vec4*>(args.tensors[1])[t] = ld_shared_vec4(shared_base() + 16 * (t ^ 1));
  )",
                                       CudaPrimitives::sm80, 2});
  alignas(16) uint32_t in[32 * 4], out[32 * 4];
  std::iota(std::begin(in), std::end(in), 1u);
  for (const EmulatorOptions& options : legal_executions()) {
    ASSERT_EQ(run(module, {32, 512}, {in, out}, options), "");
    for (uint32_t t = 0; t < 32; ++t)
      for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(out[4 * t + i], (t ^ 1) % 4 == 3 ? 0 : in[4 * (t ^ 1) + i]);
  }
}

TEST(Sm80, MatrixProductOfLoadedFragments) {
  // C[16,8] = A[16,16] · B[16,8]: A row by row, B as [n][k], both through ldmatrix.
  const EmulatedModule module = build({R"(
    const u32 lane = thread_index(), a_at = shared_base(), b_at = a_at + 512;
    for (u32 i = lane; i < 32; i += 32) cp_async_16(a_at + 16 * i, static_cast<const Vec4*>(args.tensors[0]) + i, true);
    for (u32 i = lane; i < 16; i += 32) cp_async_16(b_at + 16 * i, static_cast<const Vec4*>(args.tensors[1]) + i, true);
    cp_async_commit();
    cp_async_wait<0>();
    block_sync();
    u32 a[4], b[4];
    ldmatrix_x4(a, a_at + (lane % 16) * 32 + (lane / 16) * 16);
    ldmatrix_x4(b, b_at + (lane % 8) * 32 + (lane / 8 % 2) * 16);
    float c[4] = {0, 0, 0, 0};
    mma_m16n8k16_bf16(c, a, b[0], b[1]);
    float* out = static_cast<float*>(args.tensors[2]);
    for (i32 i = 0; i < 4; ++i) out[(lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2] = c[i];
  )",
                                       CudaPrimitives::sm80, 3});
  alignas(16) uint16_t a[256], b[128];
  float af[256], bf[128], out[128];
  std::mt19937 random(7);
  const auto fill = [&](uint16_t* bits, float* values, int count) {
    for (int i = 0; i < count; ++i) {
      values[i] = static_cast<float>(static_cast<int>(random() % 17) - 8);
      uint32_t word;
      std::memcpy(&word, &values[i], 4);
      bits[i] = static_cast<uint16_t>(word >> 16);
    }
  };
  fill(a, af, 256);
  fill(b, bf, 128);
  for (const EmulatorOptions& options : legal_executions()) {
    ASSERT_EQ(run(module, {32, 1024}, {a, b, out}, options), "");
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 8; ++n) {
        float sum = 0;
        for (int k = 0; k < 16; ++k) sum += af[m * 16 + k] * bf[n * 16 + k];
        EXPECT_EQ(out[m * 8 + n], sum);
      }
  }
}

}  // namespace
}  // namespace tilewright::testing
