// Which GPU templates take which variants: a variant that silently falls back to the generic template is a failure, and
// those that do are listed here with their reasons.
#include <gtest/gtest.h>

#include <map>

#include "tests/emulator/variant_runs.h"

namespace tilewright::testing {
namespace {

struct Exception {
  int variant;
  CudaTemplate kernel;
  std::string_view reason;  ///< part of what the plan says
};

constexpr Exception kExceptions[] = {
    {20, CudaTemplate::sm90_prefill, "q is the same in all rows"},  // each query has keys of its own: tiles of one row
    {23, CudaTemplate::decode, "a sum of 2 products"},
    {23, CudaTemplate::sm80_prefill, "a sum of 2 products"},
    {23, CudaTemplate::sm90_prefill, "2 products"},
};

std::string_view exception(int variant, CudaTemplate kernel) {
  for (const Exception& one : kExceptions)
    if (one.variant == variant && one.kernel == kernel) return one.reason;
  return {};
}

class Coverage : public ::testing::TestWithParam<Variant> {};

TEST_P(Coverage, IsThatOfEveryFastTemplateOrNamesItsReason) {
  const Variant& variant = GetParam();
  const Graph graph = spell(variant, Numbers::bf16, 64, 64);
  const auto canonical = canonicalize(graph);
  ASSERT_TRUE(canonical) << to_string(canonical.error());
  const auto program = fuse(*canonical);
  ASSERT_TRUE(program) << to_string(program.error());
  int attentions = 0;
  for (const Step& step : program->steps) {
    const auto* attention = std::get_if<AttentionStep>(&step.what);
    if (!attention) continue;
    ++attentions;
    const TileProgram tiles = build_tile_program(attention->spec);
    for (const auto& [kernel, architecture] : {std::pair{CudaTemplate::decode, "sm_80"},
                                               {CudaTemplate::sm80_prefill, "sm_80"},
                                               {CudaTemplate::sm90_prefill, "sm_90a"}}) {
      const std::string refused = refusal_of(kernel, tiles, *parse_cuda_target(architecture));
      RecordProperty(fmt::format("{}_{}", attentions, to_string(kernel)), refused.empty() ? "taken" : refused);
      const std::string_view expected = exception(variant.number, kernel);
      EXPECT_TRUE(expected.empty() ? refused.empty() : refused.find(expected) != std::string::npos)
          << to_string(kernel) << " was to " << (expected.empty() ? "take it" : expected) << ": " << refused;
    }
  }
  EXPECT_GE(attentions, 1) << "no attention is fused";
}

INSTANTIATE_TEST_SUITE_P(Suite, Coverage, ::testing::ValuesIn(all_variants(variant_folder())), variant_name);

}  // namespace
}  // namespace tilewright::testing
