// What gradient() spells fuses: the variants of the suite and random attention, saving and recomputing; every program
// against the oracle of the backward graph.
#include <gtest/gtest.h>

#include <cmath>

#include "compiler/passes.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/support/fusion_case.h"
#include "tests/support/gradient_case.h"
#include "tests/support/paths.h"
#include "tests/support/random_graph.h"
#include "tests/support/run_program.h"
#include "tests/support/variant_case.h"

namespace tilewright::testing {
namespace {

const std::string kFolder = testing::source_dir() + "/examples/variants";

Program fuse_backward(const Graph& backward) {
  const auto canonical = canonicalize(backward);
  EXPECT_TRUE(canonical.ok());
  if (!canonical) return {};
  auto program = fuse(*canonical);
  EXPECT_TRUE(program.ok()) << to_string(program.error());
  if (!program) return {};
  for (const BackwardSpec* spec : backwards(*program)) EXPECT_EQ(to_string(verify(*spec)), "") << print(*spec);
  return std::move(*program);
}

/// The program against the interpreted gradients, after run_backward.
void compare(const GradientCase& test, const Program& program) {
  std::vector<TensorView> views;
  for (const TestTensor& input : test.backward_inputs) views.push_back(input.view());
  const auto results = run_program(program, test.dims, views);
  ASSERT_TRUE(results.ok()) << to_string(results.error());
  for (size_t r = 0; r < test.gradients.size(); ++r) {
    const auto &expected = test.gradients[r], &actual = (*results)[r].values;
    ASSERT_EQ(expected.size(), actual.size());
    long double scale = 1;
    for (long double e : expected) scale = std::max(scale, std::abs(e));
    for (size_t i = 0; i < expected.size(); ++i) {
      if (expected[i] == actual[i] || (std::isnan(expected[i]) && std::isnan(actual[i]))) continue;
      ASSERT_LE(std::abs(expected[i] - actual[i]), 1e-6L * scale) << "result " << r << ", element " << i << "\n"
                                                                  << print(test.gradient.backward) << print(program);
    }
  }
}

/// No product is left over: nothing score-sized is read or written but what is asked for.
bool is_fused(const Program& program) {
  for (const Step& step : program.steps)
    if (const auto* loop = std::get_if<LoopStep>(&step.what); loop && loop->kind == LoopKind::contract) return false;
  return !backwards(program).empty() && program.not_fused.empty();
}

std::string reasons(const Program& program) {
  std::string out;
  for (const FusionNote& note : program.not_fused) out += "\n    %" + note.value + ": " + note.reason;
  return out;
}

class VariantGradients : public ::testing::TestWithParam<Variant> {};

TEST_P(VariantGradients, Fuse) {
  const Variant& variant = GetParam();
  const bool fixed = variant.number == 20 || variant.number == 26;
  const bool slow = fixed || variant.number == 23 || variant.number == 24;  // to interpret
  for (bool recompute : {false, true}) {
    if (slow && recompute) continue;
    SCOPED_TRACE(recompute ? "recompute" : "save");
    GradientCase test;
    test.graph = respell(variant.graph, Numbers::f64, fixed ? 64 : 6, fixed ? 64 : variant.number == 24 ? 128 : 5);
    test.dims = bind_sizes(test.graph, {"ragged", slow ? 1 : 2, slow ? 2 : 5, slow ? 4 : 9});
    test.seed = static_cast<uint64_t>(variant.number);
    test.request.recompute = recompute;
    std::mt19937_64 random(test.seed);
    test.inputs = variant_inputs(test.graph, test.dims, random, Hidden::finite);
    ASSERT_TRUE(run_backward(test));
    const Program program = fuse_backward(test.gradient.backward);
    compare(test, program);
    EXPECT_TRUE(is_fused(program)) << reasons(program) << "\n" << print(test.gradient.backward) << print(program);
  }
}

INSTANTIATE_TEST_SUITE_P(Suite, VariantGradients, ::testing::ValuesIn(all_variants(kFolder)),
                         [](const auto& variant) { return "v" + variant.param.stem; });

TEST(RandomGradients, Fuse) {
  int fused = 0, all = 0, compared = 0;
  std::map<std::string, int> why;
  std::map<std::string, std::pair<int, int>> by_spelling;
  for (uint64_t seed = 0; seed < 250; ++seed) {
    const RandomCase drawn = random_attention(seed);
    SCOPED_TRACE("seed " + std::to_string(seed));
    const GradientRequest request{differentiable_params(drawn.graph), seed % 2 == 1};
    const auto made = gradient(drawn.graph, request);
    ASSERT_TRUE(made.ok()) << to_string(made.error());
    const Program program = fuse_backward(made->backward);
    if (multiplications(drawn) < 40'000) {
      GradientCase test;
      test.graph = drawn.graph;
      test.dims = drawn.dims;
      test.seed = seed;
      test.request = request;
      std::mt19937_64 random(seed);
      for (size_t i = 0; i < test.graph.params.size(); ++i) {
        const TensorType& type = test.graph.type(test.graph.params[i]);
        test.inputs.emplace_back(type.dtype, concrete_shape(type, test.dims), Layout::contiguous, random);
        fill(test.inputs.back(), drawn.fills[i], random);
      }
      ASSERT_TRUE(run_backward(test));
      compare(test, program);
      ++compared;
    }
    if (HasFailure()) FAIL() << print(drawn.graph) << print(made->backward) << print(program);
    const bool is = is_fused(program);
    fused += is;
    ++all;
    for (const std::string& spelling : drawn.spellings) {
      by_spelling[spelling].first += is;
      ++by_spelling[spelling].second;
    }
    if (is) continue;
    const std::string first = program.not_fused.empty() ? "a product is left" : program.not_fused[0].reason;
    if (why[first]++ == 0) printf("seed %d: %s\n", static_cast<int>(seed), first.c_str());
  }
  printf("%d of %d random gradients fuse, %d compared with the oracle\n", fused, all, compared);
  for (const auto& [reason, count] : why) printf("  %d: %s\n", count, reason.c_str());
  for (const auto& [spelling, counts] : by_spelling)
    if (counts.first != counts.second) printf("%-40s %d of %d fused\n", spelling.c_str(), counts.first, counts.second);
  EXPECT_GE(fused * 10, all * 9);
  EXPECT_GE(compared, 50);
}

}  // namespace
}  // namespace tilewright::testing
