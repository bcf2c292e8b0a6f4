// The tiles of a host application beside those of a kernel: configuration and contents are as they were.
#include "runtime/host_tiles.h"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <cstring>

#include "runtime/cpu_detect.h"

namespace tilewright {
namespace {

struct alignas(64) TileState {
  std::array<uint8_t, 64> configuration{};  ///< palette, start row; bytes per row from byte 16 on; rows from byte 48 on
  std::array<uint8_t, 3 * 1024> contents{};
};

/// Three tiles of different shapes; the others are empty, so that naming one would fault.
TileState host_state() {
  TileState state;
  state.configuration[0] = 1;
  const auto shape = [&](size_t tile, uint8_t rows, uint8_t row_bytes) {
    state.configuration[16 + 2 * tile] = row_bytes;
    state.configuration[48 + tile] = rows;
  };
  shape(0, 16, 64);
  shape(3, 5, 64);
  shape(7, 16, 12);
  for (size_t i = 0; i < state.contents.size(); ++i) state.contents[i] = static_cast<uint8_t>(1 + 7 * i);
  return state;
}

[[gnu::target("amx-tile"), gnu::noinline]] void load(const TileState& state) {
  __asm__ volatile("" : : "r"(&state) : "memory");
  _tile_loadconfig(state.configuration.data());
  _tile_loadd(0, state.contents.data(), 64);
  _tile_loadd(3, state.contents.data() + 1024, 64);
  _tile_loadd(7, state.contents.data() + 2048, 64);
}

/// What a kernel does: tiles of its own, then none.
[[gnu::target("amx-tile"), gnu::noinline]] void overwrite() {
  TileState other;
  other.configuration[0] = 1;
  for (size_t tile = 0; tile < 8; ++tile) {
    other.configuration[16 + 2 * tile] = 64;
    other.configuration[48 + tile] = 16;
  }
  __asm__ volatile("" : : "r"(&other) : "memory");
  _tile_loadconfig(other.configuration.data());
  _tile_loadd(0, other.contents.data(), 64);
  _tile_loadd(3, other.contents.data(), 64);
  _tile_loadd(7, other.contents.data(), 64);
  _tile_release();
}

[[gnu::target("amx-tile"), gnu::noinline]] TileState store_configuration() {
  TileState state;
  _tile_storeconfig(state.configuration.data());
  __asm__ volatile("" : : "r"(&state) : "memory");
  return state;
}

[[gnu::target("amx-tile"), gnu::noinline]] TileState store_and_release() {
  TileState state = store_configuration();
  _tile_stored(0, state.contents.data(), 64);
  _tile_stored(3, state.contents.data() + 1024, 64);
  _tile_stored(7, state.contents.data() + 2048, 64);
  _tile_release();
  __asm__ volatile("" : : "r"(&state) : "memory");
  return state;
}

[[gnu::target("amx-tile"), gnu::noinline]] void release_tiles() { _tile_release(); }

class HostTilesOfAmx : public ::testing::Test {
 protected:
  void SetUp() override {
    if (detect_cpu().isa < CpuIsa::amx) GTEST_SKIP() << "this CPU lacks amx_bf16";
    if (!request_tile_permission()) GTEST_SKIP() << "the operating system refuses this process tiles";
  }
};

TEST_F(HostTilesOfAmx, AreAsTheyWereAfterAKernel) {
  const TileState given = host_state();
  load(given);
  {
    const HostTiles kept(true);
    overwrite();
  }
  const TileState found = store_and_release();
  EXPECT_EQ(found.configuration, given.configuration);
  const auto expect_tile = [&](size_t at, size_t rows, size_t row_bytes) {
    for (size_t row = 0; row < rows; ++row)
      EXPECT_EQ(std::memcmp(found.contents.data() + at + 64 * row, given.contents.data() + at + 64 * row, row_bytes), 0)
          << "tile at " << at << ", row " << row;
  };
  expect_tile(0, 16, 64);
  expect_tile(1024, 5, 64);
  expect_tile(2048, 16, 12);
}

// Without it they are gone: the test above can fail.
TEST_F(HostTilesOfAmx, AreLostWithoutBeingKept) {
  load(host_state());
  overwrite();
  EXPECT_EQ(store_configuration().configuration[0], 0);
}

TEST_F(HostTilesOfAmx, NoneStayNone) {
  release_tiles();
  {
    const HostTiles kept(true);
    overwrite();
  }
  EXPECT_EQ(store_configuration().configuration[0], 0);
}

}  // namespace
}  // namespace tilewright
