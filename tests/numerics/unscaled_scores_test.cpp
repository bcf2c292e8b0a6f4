// Scores that nothing scales (variant 10, T5): sums in short chains keep them within the accuracy rule, forward and
// backward. The draws are ones that chains of 128 columns took over its bounds, on one template or several.
#include <gtest/gtest.h>

#include <algorithm>

#include "compiler/gradient.h"
#include "tests/support/kernel_check.h"
#include "tests/support/paths.h"
#include "tests/support/variant_case.h"

namespace tilewright::testing {
namespace {

struct Draw {
  bool backward;
  int64_t head_dim, sq, sk;
  uint64_t seed;
  friend void PrintTo(const Draw& d, std::ostream* out) {
    *out << fmt::format("{} d{} {}x{} seed {}", d.backward ? "backward" : "forward", d.head_dim, d.sq, d.sk, d.seed);
  }
};

class UnscaledScores : public ::testing::TestWithParam<Draw> {};

TEST_P(UnscaledScores, AreWithinTheAccuracyRule) {
  const Draw& draw = GetParam();
  const std::vector<Variant> all = variants(source_dir() + "/examples/variants");
  const auto t5 = std::ranges::find(all, 10, &Variant::number);
  ASSERT_NE(t5, all.end());
  Graph graph = respell(t5->graph, Numbers::f32, draw.head_dim, draw.head_dim);
  if (draw.backward) {
    auto passes = gradient(graph, {{}, true});
    ASSERT_TRUE(passes) << to_string(passes.error());
    graph = std::move(passes->backward);
  }
  KernelCheck check(std::move(graph), {{"B", 1}, {"Sq", draw.sq}, {"Sk", draw.sk}}, Layout::contiguous, draw.seed);
  if (draw.backward) check.variants = kernel_variants();  // the tier takes no fused backward pass
  check.run();
}

constexpr Draw kDraws[] = {{false, 64, 50, 23, 8},   {false, 64, 96, 96, 9},  {false, 192, 37, 70, 18},
                           {false, 192, 20, 23, 26}, {true, 64, 37, 70, 4},   {true, 64, 96, 96, 7},
                           {true, 192, 20, 23, 13},  {true, 192, 20, 23, 21}, {true, 192, 10, 130, 17}};
INSTANTIATE_TEST_SUITE_P(Draws, UnscaledScores, ::testing::ValuesIn(kDraws));

}  // namespace
}  // namespace tilewright::testing
