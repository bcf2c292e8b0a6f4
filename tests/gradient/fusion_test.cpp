// Fusion finds flash backward in what gradient() spells: for every variant, in both modes, and nothing score-sized is
// left in memory.
#include <gtest/gtest.h>

#include <algorithm>

#include "compiler/gradient.h"
#include "compiler/passes.h"
#include "ir/text.h"
#include "tests/support/paths.h"
#include "tests/support/variant_case.h"

namespace tilewright::testing {
namespace {

class Fusion : public ::testing::TestWithParam<Variant> {};

bool is_score_sized(const TensorType& type) {
  const auto count = [&](const char* name) {
    return std::count(type.shape.begin(), type.shape.end(), Dim::named(name));
  };
  return (count("Sq") > 0 && count("Sk") > 0) || count("N") > 1;
}

TEST_P(Fusion, FindsFlashBackward) {
  for (bool recompute : {false, true}) {
    SCOPED_TRACE(recompute ? "recompute" : "save");
    const auto made = gradient(GetParam().graph, {{}, recompute});
    ASSERT_TRUE(made.ok());
    const auto canonical = canonicalize(made->backward);
    ASSERT_TRUE(canonical.ok());
    const auto program = fuse(*canonical);
    ASSERT_TRUE(program.ok());
    int found = 0;
    for (const Step& step : program->steps) found += std::holds_alternative<BackwardStep>(step.what);
    EXPECT_EQ(found, GetParam().number == 24 ? 2 : 1);
    for (const ProgramTensor& tensor : program->tensors)
      EXPECT_FALSE(tensor.role == TensorRole::temporary && is_float(tensor.type.dtype) && is_score_sized(tensor.type))
          << tensor.name << ": " << to_string(tensor.type);
    if (HasFailure()) {
      ADD_FAILURE() << print(made->backward);
      for (const FusionNote& note : program->not_fused) ADD_FAILURE() << note.value << ": " << note.reason;
      return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Suite, Fusion, ::testing::ValuesIn(all_variants(testing::source_dir() + "/examples/variants")),
                         [](const auto& variant) { return "v" + variant.param.stem; });

}  // namespace
}  // namespace tilewright::testing
