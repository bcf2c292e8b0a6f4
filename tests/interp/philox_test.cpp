// Philox4x32-10 against the known answers of its authors' distribution (Random123, kat_vectors), and what random_bits
// and dropout make of it.
#include "ir/interp/philox.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ir/interp.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace tilewright {
namespace {

using interp::philox4x32_10;
using interp::random_bits;

TEST(Philox, KnownAnswers) {
  using Block = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32_10({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

/// Key, counter and word as semantics 13 lays them out.
TEST(Philox, RandomBitsLayout) {
  for (int64_t word = 0; word < 4; ++word)
    EXPECT_EQ(random_bits(0x299f31d0a4093822, 0x03707344, 0x13198a2e, 0x85a308d3, 0x243f6a88 * int64_t{4} + word),
              (std::array<int64_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}[static_cast<size_t>(word)]));
  EXPECT_EQ(random_bits(7, 1, (int64_t{1} << 32) + 5, 2, 3), random_bits(7, 1, 5, 2, 3)) << "b·Hq + h modulo 2^32";
}

/// dropout of ones of [2, 3, 5, 40].
std::vector<long double> dropped(const std::string& rate, int64_t seed, int64_t offset) {
  const auto graph = parse_graph(
      "graph @g(%x: f32[2,3,5,40], %seed: i64[], %offset: i64[]) -> f32[2,3,5,40] {\n"
      "  %y = dropout %x, seed=%seed, offset=%offset, rate=" +
      rate + " : f32[2,3,5,40]\n  return %y\n}\n");
  EXPECT_TRUE(graph) << to_string(graph.error());
  EXPECT_EQ(to_string(verify(*graph)), "");
  EXPECT_NE(print(*graph).find("dropout %x, seed=%seed, offset=%offset, rate=" + rate), std::string::npos);
  std::vector<float> ones(1200, 1);
  const std::vector<TensorView> params{TensorView::contiguous(ones.data(), DType::f32, {2, 3, 5, 40}),
                                       TensorView::contiguous(&seed, DType::i64, {}),
                                       TensorView::contiguous(&offset, DType::i64, {})};
  const auto out = interpret(*graph, {}, params, 0, std::nullopt, Precision::oracle);
  EXPECT_TRUE(out) << to_string(out.error());
  return out->values;
}

TEST(Dropout, KeepsWhereTheBitsReachTheThreshold) {
  const auto found = dropped("0.25", 99, 4);
  for (int64_t i = 0; i < 1200; ++i) {
    const int64_t kv = i % 40, q = i / 40 % 5, bh = i / 200;
    const bool kept = random_bits(99, 4, bh, q, kv) >= int64_t{1} << 30;
    ASSERT_EQ(static_cast<double>(found[static_cast<size_t>(i)]), kept ? 1 / 0.75 : 0) << i;
  }
}

TEST(Dropout, RatesAtTheEnds) {
  for (const long double value : dropped("0", 1, 1)) EXPECT_EQ(value, 1);
  for (const long double value : dropped("1", 1, 1)) EXPECT_EQ(value, 0);
}

TEST(Dropout, WrongOnesAreNamed) {
  const auto errors = [](const std::string& statement) {
    const auto graph =
        parse_graph("graph @g(%x: f32[2,40], %seed: i64[], %s: i64[2], %i: i32[]) -> f32[2,40] {\n  %y = " + statement +
                    " : f32[2,40]\n  return %y\n}\n");
    return graph ? to_string(verify(*graph)) : to_string(graph.error());
  };
  EXPECT_EQ(errors("dropout %x, seed=%seed, offset=%seed, rate=1.5"),
            "line 2: %y: dropout: rate=1.5 is outside [0, 1]");
  EXPECT_EQ(errors("dropout %x, seed=%seed, offset=%seed, rate=-0.1"),
            "line 2: %y: dropout: rate=-0.1 is outside [0, 1]");
  EXPECT_EQ(errors("dropout %x, seed=%seed, offset=%seed, rate=nan"),
            "line 2: %y: dropout: rate=nan is outside [0, 1]");
  EXPECT_EQ(errors("dropout %x, seed=%s, offset=%seed, rate=0.1"),
            "line 2: %y: dropout: seed must be i64[], but %s is i64[2]");
  EXPECT_EQ(errors("dropout %x, seed=%seed, offset=%i, rate=0.1"),
            "line 2: %y: dropout: offset must be i64[], but %i is i32[]");
  EXPECT_EQ(errors("dropout %x, seed=%seed, rate=0.1"), "line 2: %y: dropout needs the attribute offset=");
  EXPECT_EQ(errors("dropout %x, seed=3, offset=%seed, rate=0.1"), "") << "a literal seed is an i64";
}

/// Statistics of a large sample: the keep rate, and that neighbours in kv, q, head, batch and successive offsets are
/// independent. Six standard deviations of a binomial; the numbers are fixed by the seed.
TEST(Dropout, Statistics) {
  constexpr int64_t kRows = 256, kColumns = 1024, kCount = kRows * kColumns;
  for (const double rate : {0.1, 0.5, 0.9}) {
    const auto least = static_cast<int64_t>(std::floor(rate * 4294967296.0));
    const auto kept = [&](int64_t offset, int64_t bh, int64_t q, int64_t kv) {
      return random_bits(1234567890123, offset, bh, q, kv) >= least;
    };
    int64_t all = 0, beside = 0, below = 0, head = 0, later = 0;
    for (int64_t q = 0; q < kRows; ++q)
      for (int64_t kv = 0; kv < kColumns; ++kv) {
        if (!kept(0, 0, q, kv)) continue;
        ++all;
        beside += kept(0, 0, q, kv + 1);
        below += kept(0, 0, q + 1, kv);
        head += kept(0, 1, q, kv);
        later += kept(1, 0, q, kv);
      }
    const double keep = 1 - rate;
    const auto near = [&](int64_t count, double probability) {
      EXPECT_NEAR(static_cast<double>(count), kCount * probability,
                  6 * std::sqrt(kCount * probability * (1 - probability)))
          << rate;
    };
    near(all, keep);
    for (const int64_t pairs : {beside, below, head, later}) near(pairs, keep * keep);
  }
}

}  // namespace
}  // namespace tilewright
