// The kernels of level sm90, and what they give: TMA, mbarriers, wgmma, registers.
#include <fmt/format.h>

#include "emulator/conformance_words.h"

namespace tilewright {
namespace {

/// 64 × n sums of a warpgroup to memory, row-major.
std::string store_sums(size_t n, const char* sums, const char* to) {
  return fmt::format(
      "for (i32 i = 0; i < {0} / 2; ++i) {2}[(t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8) * {0} + i / 4 * 8 + t % 4 * 2 "
      "+ i % 2] "
      "= f32_bits({1}[i]);",
      n, sums, to);
}

}  // namespace

void add_hopper_cases(std::vector<ConformanceCase>& all) {
  ConformanceCase loads;
  loads.name = "TMA load and store with bounds and swizzle";
  loads.primitives = CudaPrimitives::sm90;
  loads.shared_bytes = 64 * 128 + 64;
  // in, out: [3][40][96] halves. The box goes over the end of rows and starts before the slice.
  loads.maps = {{false, {96, 40, 3}, {64, 32, 2}}, {true, {96, 40, 3}, {64, 32, 2}}};
  loads.body = R"(
    const u32 barrier = base + 64 * 128;
    if (t == 0) {
      mbarrier_init(barrier, 1);
      mbarrier_init_fence();
    }
    block_sync();
    if (t == 0) {
      tma_prefetch(&map0);
      mbarrier_expect(barrier, 64 * 128);
      tma_load_3d(base, &map0, barrier, 64, -5, 1);
    }
    mbarrier_wait(barrier, 0);
    // Row r of the box moves to row 63 - r, swizzle to swizzle.
    u32 words[64];
    for (i32 row = 0; row < 64; ++row) words[row] = ld_shared_u32(base + row * 128 + ((t / 4 ^ (row & 7)) * 4 + t % 4) * 4);
    block_sync();
    for (i32 row = 0; row < 64; ++row) st_shared_u32(base + (63 - row) * 128 + ((t / 4 ^ (7 - (row & 7))) * 4 + t % 4) * 4, words[row]);
    fence_proxy_async();
    block_sync();
    if (t == 0) {
      tma_store_3d(&map1, base, 40, 20, 2);
      tma_store_commit();
      tma_store_wait_read<0>();
    })";
  loads.input = random_input(3 * 40 * 48);
  loads.output_words = 3 * 40 * 48;
  loads.expected = [](const Words& input) {
    Words words(3 * 40 * 48);
    for (int64_t row = 0; row < 64; ++row)
      for (int64_t column = 0; column < 64; ++column) {
        const int64_t z = 1 + row / 32, y = -5 + row % 32, x = 64 + column;
        const uint32_t half =
            z < 3 && y >= 0 && y < 40 && x < 96 ? half_of(input, static_cast<size_t>((z * 40 + y) * 96 + x)) : 0;
        const int64_t to_z = 2 + (63 - row) / 32, to_y = 20 + (63 - row) % 32, to_x = 40 + column;
        if (to_z >= 3 || to_y >= 40 || to_x >= 96) continue;
        const auto to = static_cast<size_t>((to_z * 40 + to_y) * 96 + to_x);
        words[to / 2] |= half << (16 * (to % 2));
      }
    return words;
  };
  all.push_back(loads);

  for (const int rank : {2, 4, 5}) {
    // [2]…[2][20][64] halves; the box, one slice of the outer axes and 16 rows, begins before the first row of one
    // slice and goes to the end of another, beyond it.
    ConformanceCase moves;
    moves.name = fmt::format("TMA load and store in {} dimensions", rank);
    moves.primitives = CudaPrimitives::sm90;
    moves.shared_bytes = 16 * 128 + 64;
    std::vector<int64_t> extents = {64, 20}, box = {64, 16};
    std::string from = "0, -3", to = "0, 9";
    int64_t slices = 1, from_slice = 0, to_slice = 0;
    for (int axis = 2; axis < rank; ++axis) {
      extents.push_back(axis == 2 ? 3 : 2);
      box.push_back(1);
      const int64_t at = axis == 2 ? 2 : axis % 2;
      from += fmt::format(", {}", at);
      to += fmt::format(", {}", 1 - at % 2);
      from_slice += at * slices;
      to_slice += (1 - at % 2) * slices;
      slices *= extents.back();
    }
    moves.maps = {{false, extents, box}, {true, extents, box}};
    moves.body = fmt::format(R"(
    const u32 barrier = base + 16 * 128;
    if (t == 0) {{
      mbarrier_init(barrier, 1);
      mbarrier_init_fence();
      mbarrier_expect(barrier, 16 * 128);
      tma_load_{0}d(base, &map0, barrier, {1});
      mbarrier_wait(barrier, 0);
      tma_store_{0}d(&map1, base, {2});
      tma_store_commit();
      tma_store_wait_read<0>();
    }})",
                             rank, from, to);
    const auto words_of_slice = size_t{20 * 32};
    moves.input = random_input(static_cast<size_t>(slices) * words_of_slice);
    moves.output_words = static_cast<size_t>(slices) * words_of_slice;
    moves.expected = [=](const Words& input) {
      Words words(input.size());
      for (int64_t row = 0; row < 16; ++row)
        for (size_t column = 0; column < 32; ++column) {
          if (9 + row >= 20) continue;
          const auto at = [&](int64_t slice, int64_t y) {
            return static_cast<size_t>(slice) * words_of_slice + static_cast<size_t>(y) * 32 + column;
          };
          words[at(to_slice, 9 + row)] = row >= 3 ? input[at(from_slice, row - 3)] : 0;
        }
      return words;
    };
    all.push_back(moves);
  }

  ConformanceCase registers;
  registers.name = "registers move from one warpgroup to two";
  registers.primitives = CudaPrimitives::sm90;
  registers.threads = 384;
  registers.shared_bytes = 4 * 384;
  // 168 · 384 registers are the kernel's: 24 and twice 240 are as many.
  registers.body = R"(
    if (t < 128) {
      registers_decrease<24>();
      st_shared_u32(base + 4 * t, in[t] + 1);
    } else {
      registers_increase<240>();
      st_shared_u32(base + 4 * t, in[t] + 2);
    }
    block_sync();
    out[t] = ld_shared_u32(base + 4 * (383 - t));)";
  registers.input = random_input(384);
  registers.output_words = 384;
  registers.expected = [](const Words& input) {
    Words words;
    for (size_t t = 384; t-- > 0;) words.push_back(input[t] + (t < 128 ? 1 : 2));
    return words;
  };
  all.push_back(registers);

  ConformanceCase phases;
  phases.name = "mbarriers turn phases";
  phases.primitives = CudaPrimitives::sm90;
  phases.threads = 64;
  phases.shared_bytes = 256 + 32;
  phases.body = R"(
    const u32 full = base + 256, empty = full + 8;
    if (t == 0) {
      mbarrier_init(full, 32);
      mbarrier_init(empty, 32);
      mbarrier_init_fence();
    }
    block_sync();
    for (u32 turn = 0; turn < 6; ++turn) {
      if (t < 32) {
        mbarrier_wait(empty, (turn & 1) ^ 1);
        st_shared_u32(base + 4 * t, in[32 * turn + t]);
        mbarrier_arrive(full);
      } else {
        mbarrier_wait(full, turn & 1);
        out[32 * turn + t - 32] = ld_shared_u32(base + 4 * (63 - t));
        mbarrier_arrive(empty);
      }
    })";
  phases.input = random_input(192);
  phases.output_words = 192;
  phases.expected = [](const Words& input) {
    Words words;
    for (size_t turn = 0; turn < 6; ++turn)
      for (size_t t = 0; t < 32; ++t) words.push_back(input[32 * turn + 31 - t]);
    return words;
  };
  all.push_back(phases);

  for (const bool is_bf16 : {true, false})
    for (const size_t n : {size_t{8}, size_t{64}, size_t{80}, size_t{112}, size_t{128}, size_t{176}, size_t{256}}) {
      const std::string type = is_bf16 ? "bf16" : "f16";
      const auto rows = static_cast<int64_t>(n);
      ConformanceCase wgmma;
      wgmma.name = fmt::format("wgmma m64n{} {} of descriptors", n, type);
      wgmma.primitives = CudaPrimitives::sm90;
      wgmma.threads = 128;
      wgmma.before = fmt::format("TW_WGMMA({}, {})\nTW_REGISTER_FENCE({})\n", type, n, n);
      wgmma.maps = {{false, {64, 64}, {64, 64}}, {false, {64, 64 + rows}, {64, rows}}};
      wgmma.shared_bytes = 64 * 128 + std::max<int64_t>(rows, 8) * 128 + 64;
      const std::string begin = fmt::format(R"(
        const u32 b_at = base + 64 * 128, barrier = b_at + {0} * 128;
        if (t == 0) {{
          mbarrier_init(barrier, 1);
          mbarrier_init_fence();
        }}
        block_sync();
        if (t == 0) {{
          mbarrier_expect(barrier, (64 + {0}) * 128);
          tma_load_2d(base, &map0, barrier, 0, 0);
          tma_load_2d(b_at, &map1, barrier, 0, 64);
        }}
        mbarrier_wait(barrier, 0);
        const u64 layout = u64{{1}} << 62 | u64{{64}} << 32 | u64{{1}} << 16;
        float d[{0} / 2];
      )",
                                            n);
      wgmma.body = begin + fmt::format(R"(
        wgmma_fence();
        for (u32 k = 0; k < 4; ++k)
          wgmma_{0}_ss(d, layout | (base + 32 * k) >> 4, layout | (b_at + 32 * k) >> 4, k > 0);
        wgmma_commit();
        wgmma_wait<0>();
        register_fence(d);
        {1}
        wgmma_fence();
        wgmma_{0}_ss_x4(d, layout | base >> 4, layout | b_at >> 4, false);
        wgmma_commit();
        wgmma_wait<0>();
        register_fence(d);
        {2})",
                                       type, store_sums(n, "d", "out"),
                                       store_sums(n, "d", fmt::format("(out + {})", 64 * n).c_str()));
      wgmma.input = small_integers((64 + n) * 64, is_bf16);
      wgmma.output_words = 2 * 64 * n;
      wgmma.expected = [=](const Words& input) {
        const Words words = product(input, 0, 64, 64 * 64, n, 64, is_bf16);
        Words twice = words;
        twice.insert(twice.end(), words.begin(), words.end());
        return twice;
      };
      all.push_back(wgmma);
      if (n != 64) continue;
      wgmma.name += " of any numbers";
      wgmma.input = normal_halves((64 + n) * 64, is_bf16);
      wgmma.tolerance = 0x1p-16f;
      all.push_back(wgmma);
    }

  // A [64][64] in registers times B [64][columns], columns contiguous in boxes of 64.
  for (const bool is_bf16 : {true, false})
    for (const size_t n : {size_t{64}, size_t{128}, size_t{192}, size_t{256}}) {
      const std::string type = is_bf16 ? "bf16" : "f16";
      const auto columns = static_cast<int64_t>(n);
      ConformanceCase wgmma;
      wgmma.name = fmt::format("wgmma m64n{} {} of registers and a transposed B", n, type);
      wgmma.primitives = CudaPrimitives::sm90;
      wgmma.threads = 128;
      wgmma.before = fmt::format("TW_WGMMA({}, {})\nTW_REGISTER_FENCE({})\n", type, n, n);
      // Behind A: B as [64][n]; the map sees rows of n from the start, A is n-wide rows, too.
      wgmma.maps = {{false, {columns, 64 * 64 / columns + 64}, {64, 64}}};
      wgmma.shared_bytes = columns * 128 + 64;
      wgmma.body = fmt::format(R"(
        const u32 barrier = base + {0} * 128;
        if (t == 0) {{
          mbarrier_init(barrier, 1);
          mbarrier_init_fence();
        }}
        block_sync();
        if (t == 0) {{
          mbarrier_expect(barrier, {0} * 128);
          for (i32 box = 0; box < {0} / 64; ++box) tma_load_2d(base + box * 8192, &map0, barrier, box * 64, {2});
        }}
        mbarrier_wait(barrier, 0);
        const u64 layout = u64{{1}} << 62 | u64{{64}} << 32 | u64{{512}} << 16;
        const i32 row = t / 32 * 16 + t % 32 / 4;
        u32 a[16];
        for (i32 k = 0; k < 4; ++k)
          for (i32 i = 0; i < 4; ++i) a[4 * k + i] = in[(row + i % 2 * 8) * 32 + k * 8 + i / 2 * 4 + t % 4];
        float d[{0} / 2];
        for (i32 i = 0; i < {0} / 2; ++i) d[i] = 0;
        register_fence(d);
        wgmma_fence();
        for (u32 k = 0; k < 4; ++k) {{
          const u32 step[4] = {{a[4 * k], a[4 * k + 1], a[4 * k + 2], a[4 * k + 3]}};
          wgmma_{1}_rs_tb(d, step, layout | (base + 2048 * k) >> 4, true);
        }}
        wgmma_rs_x4;
        wgmma_commit();
        wgmma_wait<0>();
        register_fence(d);
        {3})",
                               n, type, 64 * 64 / n, store_sums(n, "d", "out"));
      const size_t at = wgmma.body.find("wgmma_rs_x4;");
      wgmma.body.replace(at, 12, "wgmma_" + type + "_rs_tb_x4(d, a, layout | base >> 4);");
      wgmma.input = small_integers((64 + n) * 64 + 128, is_bf16);
      wgmma.output_words = 64 * n;
      wgmma.expected = [=](const Words& input) {
        Words words;
        const size_t b = 64 * 64 / n * n;  // where the box starts, in elements
        for (size_t m = 0; m < 64; ++m)
          for (size_t column = 0; column < n; ++column) {
            float sum = 0;
            for (size_t k = 0; k < 64; ++k)
              sum += half_value(input, m * 64 + k, is_bf16) * half_value(input, b + k * n + column, is_bf16);
            words.push_back(as_bits(2 * sum));
          }
        return words;
      };
      all.push_back(wgmma);
    }
}

}  // namespace tilewright
