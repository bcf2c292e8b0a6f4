// Every random spelling: canonicalisation verifies and keeps the meaning, fusion finds it, and the fused program
// computes what the graph says.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "compiler/passes.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/support/random_graph.h"
#include "tests/support/run_program.h"

namespace tilewright::testing {
namespace {

void expect_close(const OracleTensor& expected, const OracleTensor& actual, uint64_t seed, const char* what) {
  ASSERT_EQ(expected.values.size(), actual.values.size()) << what << ", seed " << seed;
  for (size_t i = 0; i < expected.values.size(); ++i) {
    const long double e = expected.values[i], a = actual.values[i];
    if (std::isnan(e) && std::isnan(a)) continue;
    if (e == a) continue;
    ASSERT_LE(std::abs(e - a), 1e-6L * (1 + std::abs(e))) << what << ", seed " << seed << ", element " << i;
  }
}

TEST(RandomFusion, FusesAndKeepsTheMeaning) {
  std::map<std::string, std::pair<int, int>> fused_by_spelling;
  for (uint64_t seed = 0; seed < 250; ++seed) {
    const RandomCase test = random_attention(seed);
    auto canonical = canonicalize(test.graph);
    ASSERT_TRUE(canonical.ok()) << "seed " << seed << ": " << to_string(canonical.error());
    const Diagnostics wrong = verify(*canonical);
    ASSERT_TRUE(wrong.empty()) << "seed " << seed << ": " << to_string(wrong) << print(*canonical);
    auto program = fuse(*canonical);
    ASSERT_TRUE(program.ok()) << "seed " << seed << ": " << to_string(program.error());
    // Beside attention there may be one step for each cache that is written in place.
    bool fused = program->not_fused.empty() && program->steps.size() == written_params(test.graph).size() + 1;
    int attentions = 0;
    for (const Step& step : program->steps) {
      const auto* attention = std::get_if<AttentionStep>(&step.what);
      attentions += attention != nullptr;
      if (!attention) continue;
      const Diagnostics bad = verify(attention->spec);
      ASSERT_TRUE(bad.empty()) << "seed " << seed << ": " << to_string(bad) << print(attention->spec);
    }
    fused = fused && attentions == 1;
    for (const std::string& spelling : test.spellings) {
      auto& [count, total] = fused_by_spelling[spelling];
      count += fused;
      ++total;
    }
    EXPECT_TRUE(fused) << "seed " << seed << "\n" << print(test.graph) << print(*program);

    std::mt19937_64 random(seed);
    std::vector<TestTensor> tensors;
    std::vector<TensorView> views;
    for (size_t i = 0; i < test.graph.params.size(); ++i) {
      const TensorType& type = test.graph.type(test.graph.params[i]);
      TestTensor& tensor =
          tensors.emplace_back(type.dtype, concrete_shape(type, test.dims), Layout::contiguous, random);
      fill(tensor, test.fills[i], random);
      views.push_back(tensor.view());
    }
    auto results = run_program(*program, test.dims, views);
    ASSERT_TRUE(results.ok()) << "seed " << seed << ": " << to_string(results.error());
    for (size_t r = 0; r < test.graph.results.size(); ++r) {
      auto expected = interpret(test.graph, test.dims, views, r, std::nullopt, Precision::oracle);
      auto same = interpret(*canonical, test.dims, views, r, std::nullopt, Precision::oracle);
      ASSERT_TRUE(expected.ok() && same.ok()) << "seed " << seed;
      expect_close(*expected, *same, seed, "canonical");
      expect_close(*expected, (*results)[r], seed, "program");
      if (HasFatalFailure()) FAIL() << print(test.graph) << print(*program);
    }
  }
  for (const auto& [spelling, counts] : fused_by_spelling)
    if (counts.first != counts.second) printf("%-40s %d of %d fused\n", spelling.c_str(), counts.first, counts.second);
}

}  // namespace
}  // namespace tilewright::testing
