#include "codegen/cpu/amx_tiles.h"

#include <immintrin.h>

#include <cmath>
#include <cstring>

#include "runtime/cpu_detect.h"
#include "tests/codegen/jit_support.h"

namespace tilewright::testing {
namespace {
using cpu::AmxTiles;
using cpu::LlvmBuilder;
using cpu::TileShape;
using llvm::Value;

// Where things lie in the test's scratch: the tile file, three operands with rows 80 bytes apart, and flags.
constexpr int64_t kFile = 9 << 10, kStride = 80, kOperand = 16 * kStride;
using Shapes = std::array<TileShape, AmxTiles::kTiles>;

struct TileScratch {
  alignas(64) std::array<uint8_t, kFile + 4 * kOperand> bytes;
  uint8_t* operand(int which) { return bytes.data() + kFile + which * kOperand; }
};

CpuModule tile_module(const CpuTarget& target, const std::function<void(LlvmBuilder&, AmxTiles&)>& body) {
  CpuModule module = make_cpu_module("tiles");
  LlvmBuilder b(module.state(), target);
  AmxTiles tiles(b);
  b.begin_kernel("tiles");
  tiles.enter(b.argument(3));
  body(b, tiles);
  b.ret();
  return module;
}

Value* operand(LlvmBuilder& b, int which) { return b.byte_pointer(b.argument(3), b.i64(kFile + which * kOperand)); }

/// Two products into tile 2 of what lies in operands 0 (A) and 1 (B), on top of operand 2; stored to operand 3.
void two_products(LlvmBuilder& b, AmxTiles& tiles, const Shapes& shapes) {
  Value* stride = b.i64(kStride);
  tiles.configure(shapes);
  tiles.load(0, operand(b, 0), stride);
  tiles.load(1, operand(b, 1), stride);
  tiles.load(2, operand(b, 2), stride);
  tiles.dp_bf16(2, 0, 1);
  tiles.dp_bf16(2, 0, 1);
  tiles.store(2, operand(b, 3), stride);
  tiles.release();
}

float bf16(const uint8_t* at) {
  uint16_t half = 0;
  std::memcpy(&half, at, 2);
  const uint32_t word = static_cast<uint32_t>(half) << 16;
  float value = 0;
  std::memcpy(&value, &word, 4);
  return value;
}
float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.f, x) : x; }

/// The instruction as its manual's pseudo-code has it, on the host's scalars.
float product(float c, const uint8_t* a, const uint8_t* b, int m, int n, int pairs) {
  float even = 0, odd = 0;
  for (int k = 0; k < pairs; ++k) {
    const uint8_t *left = a + m * kStride + 4 * k, *right = b + k * kStride + 4 * n;
    even = flushed(std::fma(flushed(bf16(left)), flushed(bf16(right)), even));
    odd = flushed(std::fma(flushed(bf16(left + 2)), flushed(bf16(right + 2)), odd));
  }
  return flushed(flushed(c) + flushed(even + odd));
}

bool same(float a, float b) { return std::isnan(a) ? std::isnan(b) : std::memcmp(&a, &b, 4) == 0; }

CpuTarget level(CpuIsa isa) {
  CpuTarget target = detect_cpu();
  target.isa = isa;
  return target;
}

void set_flushing(unsigned bits) { _mm_setcsr((_mm_getcsr() & ~0x8040u) | bits); }

TEST(AmxTiles, EmulatedTilesGiveWhatTheManualSaysOfEveryShape) {
  const auto target = target_at(CpuIsa::amx_emulated);
  if (!target) GTEST_SKIP() << to_string(target.error());
  std::mt19937 random(5);
  for (const auto& [rows, pairs, columns] : {std::array{16, 16, 16}, {16, 1, 16}, {3, 5, 7}, {1, 16, 2}}) {
    Shapes shapes;
    shapes[0] = {rows, 4 * pairs};
    shapes[1] = {pairs, 4 * columns};
    shapes[2] = {rows, 4 * columns};
    const auto code = link_module(
        tile_module(*target, [&](LlvmBuilder& b, AmxTiles& tiles) { two_products(b, tiles, shapes); }), *target);
    ASSERT_NE(code, nullptr);
    for (int round = 0; round < 20; ++round) {
      TileScratch scratch;
      for (uint8_t& byte : scratch.bytes) byte = static_cast<uint8_t>(random());
      // Random bytes are values of all magnitudes; tame most of them, or every sum is an infinity.
      for (int64_t i = 1; round >= 4 && i < 4 * kOperand; i += 2) {
        uint8_t& high = scratch.operand(0)[i];
        if (round < 12 || i % 7 != 0) high = static_cast<uint8_t>((high & 0x80) | 0x3f);
      }
      TileScratch want = scratch;
      for (int m = 0; m < rows; ++m)
        for (int n = 0; n < columns; ++n) {
          float c = 0;
          std::memcpy(&c, want.operand(2) + m * kStride + 4 * n, 4);
          c = product(c, want.operand(0), want.operand(1), m, n, pairs);
          c = product(c, want.operand(0), want.operand(1), m, n, pairs);
          std::memcpy(want.operand(3) + m * kStride + 4 * n, &c, 4);
        }
      set_flushing(0x8040);
      code->find_as<KernelFunction>("tiles")(nullptr, 0, 0, scratch.bytes.data());
      set_flushing(0);
      for (int64_t i = 0; i < kOperand; ++i) {
        const int m = static_cast<int>(i / kStride), byte = static_cast<int>(i % kStride);
        if (m < rows && byte < 4 * columns && byte % 4 == 0) {
          float got = 0, expected = 0;
          std::memcpy(&got, scratch.operand(3) + i, 4);
          std::memcpy(&expected, want.operand(3) + i, 4);
          ASSERT_TRUE(same(got, expected)) << rows << "x" << pairs << "x" << columns << " round " << round << " at "
                                           << m << ", " << byte / 4 << ": " << got << " for " << expected;
        } else if (m >= rows || byte >= 4 * columns) {
          ASSERT_EQ(scratch.operand(3)[i], want.operand(3)[i]) << "wrote outside the tile at byte " << i;
        }
      }
    }
  }
}

TEST(AmxTiles, LoadsAndZerosClearWhatTheShapeLeavesOut) {
  const auto target = target_at(CpuIsa::amx_emulated);
  if (!target) GTEST_SKIP() << to_string(target.error());
  Shapes shapes;
  shapes[5] = {3, 20};
  const auto code = link_module(tile_module(*target,
                                            [&](LlvmBuilder& b, AmxTiles& tiles) {
                                              tiles.configure(shapes);
                                              tiles.load(5, operand(b, 0), b.i64(kStride));
                                              tiles.load(6, operand(b, 0), b.i64(kStride));
                                              tiles.zero(6);
                                            }),
                                *target);
  ASSERT_NE(code, nullptr);
  TileScratch scratch;
  scratch.bytes.fill(0xcd);
  code->find_as<KernelFunction>("tiles")(nullptr, 0, 0, scratch.bytes.data());
  for (int64_t i = 0; i < AmxTiles::kTileBytes; ++i) {
    EXPECT_EQ(scratch.bytes[5 * AmxTiles::kTileBytes + i], i / 64 < 3 && i % 64 < 20 ? 0xcd : 0) << i;
    EXPECT_EQ(scratch.bytes[6 * AmxTiles::kTileBytes + i], 0) << i;
  }
}

TEST(AmxTiles, NativeTilesAreTheInstructions) {
  const CpuTarget target = level(CpuIsa::amx);
  EXPECT_EQ(AmxTiles::file_bytes(target), 0);
  const auto object = compile_module(tile_module(target,
                                                 [&](LlvmBuilder& b, AmxTiles& tiles) {
                                                   two_products(b, tiles, {});
                                                   tiles.zero(7);
                                                 }),
                                     target, {.verify = true, .want_text = true});
  ASSERT_TRUE(object) << to_string(object.error());
  const std::string& text = object->assembly;
  for (const char* expected : {"ldtilecfg", "tileloadd", "tdpbf16ps\t%tmm1, %tmm0, %tmm2", "tilestored\t%tmm2",
                               "tilezero\t%tmm7", "tilerelease"})
    EXPECT_NE(text.find(expected), std::string::npos) << expected << " in\n" << text;
  EXPECT_EQ(text.find("callq"), std::string::npos) << text;
}

}  // namespace
}  // namespace tilewright::testing
