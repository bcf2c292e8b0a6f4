// Primitives of level sm90 on the emulator: TMA boxes, mbarriers, products of warpgroups, against plain loops.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "emulator/tensor_map.h"
#include "tests/emulator/kernel.h"

namespace tilewright::testing {
namespace {

uint16_t to_bf16(float value) {
  uint32_t word;
  std::memcpy(&word, &value, 4);
  return static_cast<uint16_t>(word >> 16);
}

/// Small integers, exact in bf16 and in sums of products.
struct Matrix {
  std::vector<uint16_t> bits;
  std::vector<float> values;
  Matrix(size_t count, uint32_t seed) : bits(count), values(count) {
    std::mt19937 random(seed);
    for (size_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>(static_cast<int>(random() % 17) - 8);
      bits[i] = to_bf16(values[i]);
    }
  }
};

EmulatedTensorMap map_of(const Matrix& matrix, std::vector<int64_t> extents, std::vector<int64_t> box) {
  TensorMapGeometry geometry;
  geometry.base = matrix.bits.data();
  geometry.extents = extents;
  int64_t stride = 2;
  for (size_t axis = 1; axis < extents.size(); ++axis) geometry.stride_bytes.push_back(stride *= extents[axis - 1]);
  geometry.box = std::move(box);
  const auto map = encode_tensor_map(geometry);
  EXPECT_TRUE(map) << to_string(map.error());
  return *map;
}

TEST(Tma, BoxesLandSwizzledAndZeroOutside) {
  const EmulatedModule module = build({R"(
    const u32 box = shared_base(), barrier = box + 64 * 128;
    if (thread_index() == 0) {
      mbarrier_init(barrier, 1);
      mbarrier_init_fence();
    }
    block_sync();
    if (thread_index() == 0) {
      mbarrier_expect(barrier, 64 * 128);
      tma_load_3d(box, &map0, barrier, 32, -3, 1);
    }
    mbarrier_wait(barrier, 0);
    u32* out = static_cast<u32*>(args.tensors[0]);
    for (i32 i = thread_index(); i < 64 * 32; i += 32) {
      const u32 row = i / 32, column = i % 32;
      out[i] = ld_shared_u32(box + row * 128 + (((column / 4) ^ (row % 8)) * 4 + column % 4) * 4);
    }
  )",
                                       CudaPrimitives::sm90, 1, 1});
  // [2][50][80]: the box starts 3 rows before the second slice and ends 32 columns beyond its rows of 80.
  const Matrix tensor(2 * 50 * 80, 3);
  std::vector<uint16_t> out(64 * 64);
  for (const EmulatorOptions& options : legal_executions()) {
    ASSERT_EQ(run(module, {32, 64 * 128 + 64}, {out.data()}, options, {map_of(tensor, {80, 50, 2}, {64, 64, 1})}), "");
    for (int row = 0; row < 64; ++row)
      for (int column = 0; column < 64; ++column) {
        const int y = row - 3, x = column + 32;
        const bool inside = y >= 0 && y < 50 && x < 80;
        EXPECT_EQ(out[static_cast<size_t>(row * 64 + column)],
                  inside ? tensor.bits[static_cast<size_t>((50 + y) * 80 + x)] : 0);
      }
  }
}

TEST(Tma, LoadsThatArePutOffMayComeAtAnyTime) {
  const EmulatedModule module = build({R"(
    const u32 box = shared_base(), barrier = box + 64 * 128;
    if (thread_index() == 0) {
      mbarrier_init(barrier, 1);
      mbarrier_init_fence();
      mbarrier_expect(barrier, 64 * 128);
      tma_load_2d(box, &map0, barrier, 0, 0);
    }
    u32 turns = 0;
    for (; turns < 1000; ++turns) {
      const float first = ld_shared_f32(box);
      if (warp_any(first == first)) break;
    }
    static_cast<u32*>(args.tensors[0])[thread_index()] = turns;
    mbarrier_wait(barrier, 0);
  )",
                                       CudaPrimitives::sm90, 1, 1});
  const Matrix tensor(64 * 64, 3);
  for (const uint64_t seed : {0, 1, 2}) {
    EmulatorOptions options;
    options.check_races = false;
    options.late_tma = true;
    options.seed = seed;
    std::vector<uint32_t> turns(32);
    ASSERT_EQ(run(module, {32, 64 * 128 + 64}, {turns.data()}, options, {map_of(tensor, {64, 64}, {64, 64})}), "");
    // With an odd seed they come before anybody waits for them.
    EXPECT_EQ(turns[0] < 1000, seed % 2 == 1) << turns[0];
  }
}

TEST(Tma, StoresWriteWhatLiesInside) {
  const EmulatedModule module = build({R"(
    const u32 box = shared_base();
    for (i32 i = thread_index(); i < 64 * 32; i += 32) {
      const u32 row = i / 32, column = i % 32;
      st_shared_u32(box + row * 128 + (((column / 4) ^ (row % 8)) * 4 + column % 4) * 4, i * 2 | (i * 2 + 1) << 16);
    }
    fence_proxy_async();
    block_sync();
    if (thread_index() == 0) {
      tma_store_2d(&map0, box, 32, 10);
      tma_store_commit();
      tma_store_wait_read<0>();
    }
  )",
                                       CudaPrimitives::sm90, 1, 1});
  for (const EmulatorOptions& options : legal_executions()) {
    Matrix tensor(50 * 80, 3);
    const std::vector<uint16_t> before = tensor.bits;
    ASSERT_EQ(run(module, {32, 64 * 128}, {nullptr}, options, {map_of(tensor, {80, 50}, {64, 64})}), "");
    for (int y = 0; y < 50; ++y)
      for (int x = 0; x < 80; ++x)
        EXPECT_EQ(tensor.bits[static_cast<size_t>(y * 80 + x)],
                  y >= 10 && x >= 32 ? (y - 10) * 64 + x - 32 : before[static_cast<size_t>(y * 80 + x)]);
  }
}

// One block of 128 threads: Q[64][64] · K[N][64]ᵀ through shared memory, then the sums, rounded to bf16, times
// V[N][64].
std::string product_kernel(int n) {
  return fmt::format(R"(
    const u32 q = shared_base(), k = q + 64 * 128, v = k + {0} * 128, barrier = v + {0} * 128;
    const i32 t = thread_index();
    if (t == 0) {{
      mbarrier_init(barrier, 1);
      mbarrier_init_fence();
    }}
    block_sync();
    if (t == 0) {{
      mbarrier_expect(barrier, 64 * 128 + 2 * {0} * 128);
      tma_load_2d(q, &map0, barrier, 0, 0);
      tma_load_2d(k, &map1, barrier, 0, 0);
      tma_load_2d(v, &map2, barrier, 0, 0);
    }}
    mbarrier_wait(barrier, 0);
    const u64 layout = u64{{1}} << 62 | u64{{1024 >> 4}} << 32;
    float s[{0} / 2], o[32];
    for (int i = 0; i < 32; ++i) o[i] = 0;
    wgmma_fence();
    wgmma_bf16_ss_x4(s, layout | q >> 4, layout | k >> 4, false);
    wgmma_commit();
    wgmma_wait<0>();
    float* sums = static_cast<float*>(args.tensors[0]);
    for (int i = 0; i < {0} / 2; ++i)
      sums[(t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8) * {0} + i / 4 * 8 + t % 4 * 2 + i % 2] = s[i];
    wgmma_fence();
    for (int step = 0; step < {0} / 16; ++step) {{
      u32 p[4];
      for (int i = 0; i < 4; ++i) p[i] = pack_bf16(s[8 * step + 2 * i], s[8 * step + 2 * i + 1]);
      wgmma_bf16_rs_tb(o, p, layout | u64{{1}} << 16 | (v + step * 2048) >> 4, true);
    }}
    wgmma_commit();
    wgmma_wait<0>();
    float* out = static_cast<float*>(args.tensors[1]);
    for (int i = 0; i < 32; ++i)
      out[(t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8) * 64 + i / 4 * 8 + t % 4 * 2 + i % 2] = o[i];
  )",
                     n);
}

TEST(Wgmma, ProductsOfDescriptorsAndOfRegisters) {
  for (const int n : {16, 80, 256}) {
    const EmulatedModule module = build({product_kernel(n), CudaPrimitives::sm90, 2, 3});
    const Matrix q(64 * 64, 1), k(static_cast<size_t>(n * 64), 2), v(static_cast<size_t>(n * 64), 3);
    const std::vector<EmulatedTensorMap> maps = {map_of(q, {64, 64}, {64, 64}), map_of(k, {64, n}, {64, n}),
                                                 map_of(v, {64, n}, {64, n})};
    for (const EmulatorOptions& options : legal_executions()) {
      std::vector<float> s(static_cast<size_t>(64 * n)), o(64 * 64);
      ASSERT_EQ(run(module, {128, 64 * 128 + 2 * n * 128 + 64}, {s.data(), o.data()}, options, maps), "");
      for (int row = 0; row < 64; ++row) {
        std::vector<float> rounded;
        for (int column = 0; column < n; ++column) {
          float sum = 0;
          for (int d = 0; d < 64; ++d)
            sum += q.values[static_cast<size_t>(row * 64 + d)] * k.values[static_cast<size_t>(column * 64 + d)];
          ASSERT_EQ(s[static_cast<size_t>(row * n + column)], sum) << n << " " << row << " " << column;
          uint32_t word;
          std::memcpy(&word, &sum, 4);
          word = (word + 0x7fff + (word >> 16 & 1)) & 0xffff0000u;
          std::memcpy(&sum, &word, 4);
          rounded.push_back(sum);
        }
        for (int d = 0; d < 64; ++d) {
          float sum = 0;
          for (int column = 0; column < n; ++column)
            sum += rounded[static_cast<size_t>(column)] * v.values[static_cast<size_t>(column * 64 + d)];
          EXPECT_FLOAT_EQ(o[static_cast<size_t>(row * 64 + d)], sum);
        }
      }
    }
  }
}

TEST(Registers, MoveFromProducersToConsumers) {
  const EmulatedModule module = build({R"(
    if (thread_index() < 128) registers_decrease<24>();
    else registers_increase<240>();
  )",
                                       CudaPrimitives::sm90});
  for (const EmulatorOptions& options : legal_executions()) EXPECT_EQ(run(module, {384}, {nullptr}, options), "");
  const EmulatedModule greedy = build({R"(
    if (thread_index() < 128) registers_decrease<40>();
    else registers_increase<240>();
  )",
                                       CudaPrimitives::sm90});
  EXPECT_NE(run(greedy, {384}, {nullptr}).find("wait at setmaxnreg.inc to registers (240)"), std::string::npos);
}

}  // namespace
}  // namespace tilewright::testing
