// The AMX peak: 2×2 tiles of sums over panels that stay in L1.
//
//   A  2 strips of 16 rows × 256 bf16      B  2 strips of 16 columns × 256 bf16, in pairs along k (VNNI)
//   per step of 32 along k:  load a0 a1 b0 b1; c00 += a0·b0; c01 += a0·b1; c10 += a1·b0; c11 += a1·b1
//
// 32 KB of panels, eight tiles of 1 KB: four sums, four operands. Data is N(0,1) rounded to bf16, since zeros cost the
// unit less power and run at a clock that no real product sees.
#include <immintrin.h>

#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <numbers>

#include "runtime/aligned_buffer.h"
#include "runtime/host_tiles.h"
#include "runtime/limits.h"

namespace tilewright {
namespace {

constexpr int kSteps = 8;                       // of 32 along k
constexpr int64_t kStripBytes = kSteps * 1024;  // 16 rows × 256 values
constexpr double kFlopsOfRound = kSteps * 4 * 2.0 * 16 * 16 * 32;

struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0;
  std::array<uint8_t, 14> reserved{};
  std::array<uint16_t, 16> row_bytes{};
  std::array<uint8_t, 16> rows{};
};
static_assert(sizeof(TileConfiguration) == 64);

/// bf16 pairs of N(0,1), by Box and Muller from a small generator.
void fill_normal(std::span<uint16_t> values) {
  uint64_t state = 0x9e3779b97f4a7c15;
  const auto uniform = [&] {
    state = state * 6364136223846793005 + 1442695040888963407;
    return (static_cast<double>(state >> 11) + 0.5) * 0x1p-53;
  };
  for (uint16_t& value : values) {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    const auto normal = static_cast<float>(radius * std::cos(2 * std::numbers::pi * uniform()));
    value = static_cast<uint16_t>((std::bit_cast<uint32_t>(normal) + 0x8000) >> 16);
  }
}

/// `rounds` times the whole panels; the sums go to `out` (four tiles).
[[gnu::target("amx-tile,amx-bf16"), gnu::noinline]] void multiply_panels(const std::byte* a, const std::byte* b,
                                                                         std::byte* out, int64_t rounds) {
  TileConfiguration configuration;
  for (size_t tile = 0; tile < 8; ++tile) {
    configuration.rows[tile] = 16;
    configuration.row_bytes[tile] = 64;
  }
  // The compiler's tile intrinsics do not say that they read memory and write it.
  __asm__ volatile("" : : "r"(&configuration), "r"(a), "r"(b) : "memory");
  _tile_loadconfig(&configuration);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int step = 0; step < kSteps; ++step) {
      _tile_loadd(4, a + step * 1024, 64);
      _tile_loadd(5, a + kStripBytes + step * 1024, 64);
      _tile_loadd(6, b + step * 1024, 64);
      _tile_loadd(7, b + kStripBytes + step * 1024, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, out, 64);
  _tile_stored(1, out + 1024, 64);
  _tile_stored(2, out + 2048, 64);
  _tile_stored(3, out + 3072, 64);
  _tile_release();
  __asm__ volatile("" : : "r"(out) : "memory");
}

}  // namespace

double measure_amx_peak(const CpuTarget& target, Executor& executor, double seconds, TimeOf clock) {
  if (target.isa != CpuIsa::amx || !request_tile_permission()) return 0;
  std::atomic<double> rate{0};
  executor.run([&](int) {
    // A worker's own panels: shared lines would be read from another core's cache.
    const AlignedBuffer panels(4 * kStripBytes + 4096);
    auto* const data = static_cast<std::byte*>(panels.data());
    if (!data) return;
    const HostTiles kept(true);
    fill_normal({reinterpret_cast<uint16_t*>(data), static_cast<size_t>(2 * kStripBytes)});
    const auto multiply = [&] { multiply_panels(data, data + 2 * kStripBytes, data + 4 * kStripBytes, 2000); };
    multiply();
    double flops = 0;
    const double start = now(clock);
    do {
      multiply();
      flops += 2000 * kFlopsOfRound;
    } while (now(clock) - start < seconds);
    rate.fetch_add(flops / (now(clock) - start) * 1e-9);
  });
  return rate.load();
}

}  // namespace tilewright
