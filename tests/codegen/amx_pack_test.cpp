// Operands split into bf16 parts and multiplied on tiles: within the bound that split_terms.h states, on every family
// of inputs (field bug R23), and what may not be split is said to be so.
#include "codegen/cpu/amx_pack.h"

#include <immintrin.h>

#include <cmath>

#include "codegen/cpu/amx_tiles.h"
#include "codegen/cpu/split_terms.h"
#include "tests/codegen/jit_support.h"
#include "tests/support/input_family.h"

namespace tilewright::testing {
namespace {
using cpu::AmxTiles;
using cpu::LlvmBuilder;
using cpu::TilePacker;
using llvm::Value;

constexpr int64_t kLargest = 192;  // of the summed dimension
constexpr int64_t kStage = 32 * kLargest;

/// What the kernel works on. A is [16][n] ([n = 32][16] when transposed), B is [16][n]: C[m][k] = Σ A[m]·B[k].
struct alignas(64) PackScratch {
  float a[kStage], b[kStage];
  uint8_t temporary[1024], a_tiles[kStage * 6], b_tiles[kStage * 6], file[9 << 10];
  float c[256];
  int64_t flags[2];
};

CpuModule product_module(const CpuTarget& target, int64_t n, int64_t products, bool transposed) {
  CpuModule module = make_cpu_module("product");
  LlvmBuilder b(module.state(), target);
  AmxTiles tiles(b);
  TilePacker packer(b);
  const int64_t parts = cpu::split_parts(products), steps = n / 32;
  const TilePacker::Shape a_shape{transposed ? TilePacker::Form::a_transposed : TilePacker::Form::a,
                                  transposed ? 32 : n, transposed ? 32 : n, parts};
  const TilePacker::Shape b_shape{TilePacker::Form::b, n, n, parts};
  packer.declare(a_shape);
  packer.declare(b_shape);
  b.begin_kernel("product");
  const auto at = [&](size_t offset) { return b.byte_pointer(b.argument(3), b.i64(static_cast<int64_t>(offset))); };
  const auto pack = [&](const TilePacker::Shape& shape, size_t from, size_t to, size_t flag) {
    b.store(DType::i64, packer.call(shape, at(from), at(offsetof(PackScratch, temporary)), at(to)), at(flag));
  };
  pack(a_shape, offsetof(PackScratch, a), offsetof(PackScratch, a_tiles), offsetof(PackScratch, flags));
  pack(b_shape, offsetof(PackScratch, b), offsetof(PackScratch, b_tiles), offsetof(PackScratch, flags) + 8);
  tiles.enter(at(offsetof(PackScratch, file)));
  tiles.configure();
  for (int64_t step = 0; step < steps; ++step)
    for (const auto& term : cpu::split_terms(products)) {
      const auto tile = [&](size_t base, int part) {
        return at(base + static_cast<size_t>((part * steps + step) * AmxTiles::kTileBytes));
      };
      tiles.load(4, tile(offsetof(PackScratch, a_tiles), term.a), b.i64(64));
      tiles.load(6, tile(offsetof(PackScratch, b_tiles), term.b), b.i64(64));
      tiles.dp_bf16(0, 4, 6);
    }
  tiles.store(0, at(offsetof(PackScratch, c)), b.i64(64));
  tiles.release();
  b.ret();
  return module;
}

bool may_be_split(float x) {
  const float size = std::abs(x);
  return size < 0x1p-126f || (size >= 0x1p-103f && size < 0x1p58f);  // a NaN is in neither
}

void fill(float* to, int64_t count, DType dtype, Family family, std::mt19937_64& random) {
  TestTensor tensor(dtype, {count / 32, 32}, Layout::contiguous, random);
  fill_family(tensor, family, random);
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(tensor.get(i));
}

void check_packed(const JitCode& code, int64_t n, int64_t products, bool transposed, DType dtype, Family family,
                  std::mt19937_64& random) {
  static PackScratch scratch;
  fill(scratch.a, transposed ? 1024 : 16 * n, dtype, family, random);
  fill(scratch.b, 16 * n, dtype, family, random);
  const PackScratch given = scratch;
  const unsigned saved = _mm_getcsr();
  _mm_setcsr(saved | 0x8040);
  code.find_as<KernelFunction>("product")(nullptr, 0, 0, &scratch);
  _mm_setcsr(saved);
  bool split = true;
  for (int64_t i = 0; i < (transposed ? 1024 : 16 * n); ++i) split = split && may_be_split(given.a[i]);
  for (int64_t i = 0; i < 16 * n; ++i) split = split && may_be_split(given.b[i]);
  EXPECT_EQ(scratch.flags[0] == 0 && scratch.flags[1] == 0, split || products == 1);
  if (!split) return;
  const auto flushed = [](float x) { return std::abs(x) < 0x1p-126f ? 0.0 : static_cast<double>(x); };
  for (int64_t m = 0; m < 16; ++m)
    for (int64_t k = 0; k < 16; ++k) {
      double sum = 0, magnitude = 0;
      for (int64_t i = 0; i < n; ++i) {
        const double product = flushed(given.a[transposed ? i * 32 + m : m * n + i]) * flushed(given.b[k * n + i]);
        sum += product;
        magnitude += std::abs(product);
      }
      const double got = scratch.c[m * 16 + k];
      // Two parts hold an f16, and one a bf16.
      const bool exact = (products == 4 && dtype == DType::f16) || (products == 1 && dtype == DType::bf16);
      const double relative = exact ? cpu::split_rounding_bound(products, n) : cpu::split_error_bound(products, n);
      const double bound = relative * magnitude + static_cast<double>(6 * n) * 0x1p-126;
      ASSERT_LE(std::abs(got - sum), bound) << "at " << m << ", " << k << ": " << got << " for " << sum;
    }
}

TEST(AmxSplit, ErrorsAreWithinTheBoundOnEveryFamily) {
  for (const CpuTarget& target : tile_targets())
    for (const int64_t products : {1, 3, 4, 6})
      for (const auto& [n, transposed] : {std::pair<int64_t, bool>{32, false}, {kLargest, false}, {32, true}}) {
        const auto code = link_module(product_module(target, n, products, transposed), target);
        ASSERT_NE(code, nullptr);
        std::mt19937_64 random(17);
        for (const Family family : kFamilies) {
          SCOPED_TRACE(fmt::format("{} products of {}{}, {}, {}", products, n, transposed ? " transposed" : "",
                                   to_string(family), to_string(target.isa)));
          for (int round = 0; round < 4; ++round)
            for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
              check_packed(*code, n, products, transposed, dtype, family, random);
          if (::testing::Test::HasFailure()) return;
        }
      }
}

// What ir/precision.h promises of a product under each policy covers what is left out of one on tiles.
TEST(AmxSplit, ThePoliciesBoundsHoldWhatIsLeftOut) {
  EXPECT_LE(1.01 * cpu::split_left_out(3), 0x1p-14);    // f32_x3
  EXPECT_GT(cpu::split_left_out(3), 0x1p-15);           // and are not idle
  EXPECT_LE(cpu::split_left_out(1), 0x1p-7 + 0x1p-16);  // bf16
  for (int64_t n = 1; n <= 1024; ++n)                   // f32, of a sum
    EXPECT_LE(cpu::split_error_bound(6, n), static_cast<double>(std::max<int64_t>(n, 27)) * 0x1p-24) << n;
}

TEST(AmxSplit, ATermLeftOutIsFarOutsideTheBound) {
  // The bound is worth something: three products miss that of six by far.
  EXPECT_GT(cpu::split_error_bound(3, 64), 20 * cpu::split_error_bound(6, 64));
  EXPECT_LT(cpu::split_error_bound(6, 64), 64 * 0x1p-24);  // a plain chain in f32
}

}  // namespace
}  // namespace tilewright::testing
