// The sm_90a prefill on the emulator: every variant of the suite that it takes against the oracle (semantics 19).
#include <map>

#include "ir/accuracy.h"
#include "ir/text.h"
#include "tests/emulator/emulated_program.h"
#include "tests/emulator/sm90_case.h"
#include "tests/support/paths.h"
#include "tests/support/variant_case.h"

namespace tilewright::testing {
namespace {

constexpr int64_t kSm90HeadDims[] = {64, 32, 72, 16, 128};
const Sizes kSm90Sizes[] = {
    {"several blocks", 1, 150, 170}, {"ragged", 2, 19, 37},    {"more queries", 1, 137, 70},
    {"several items", 2, 70, 140},   {"one query", 2, 1, 150}, {"no keys", 2, 9, 0},
};

/// Variants that the template refuses, with what the reason holds.
const std::map<int, std::string> kRefused = {{26, "computed"}};

/// The rules' own tiles, or small ones that make the rings turn over.
CudaSchedule schedule_of(const TileProgram& program, const CudaTarget& target, bool small) {
  const CudaPlan plan = plan_cuda(program, target);
  const CudaPlan::Choice* hopper = sm90_choice(plan);
  CudaSchedule schedule = hopper ? hopper->schedule : plan.choices[0].schedule;
  if (!small || schedule.kernel != CudaTemplate::sm90_prefill) return schedule;
  return sm90_schedule(std::min<int64_t>(schedule.block_kv, 32), 2);
}

/// The same elements in a layout that TMA takes.
std::vector<TestTensor> contiguous(const std::vector<TestTensor>& tensors, std::mt19937_64& random) {
  std::vector<TestTensor> copies;
  for (const TestTensor& tensor : tensors) {
    TestTensor& copy = copies.emplace_back(tensor.view().dtype, tensor.shape(), Layout::contiguous, random);
    for (int64_t i = 0; i < tensor.size(); ++i) copy.set(i, tensor.get(i));
  }
  return copies;
}

class Sm90Variants : public ::testing::TestWithParam<Variant> {};

TEST_P(Sm90Variants, MatchTheOracle) {
  const Variant& variant = GetParam();
  const auto number = static_cast<size_t>(variant.number);
  std::mt19937_64 random(number);
  const int64_t dim = kSm90HeadDims[number % std::size(kSm90HeadDims)];
  const Numbers numbers = number % 2 == 0 ? Numbers::bf16 : Numbers::f16;
  const Graph graph = respell(variant.graph, numbers, number == 22 ? 192 : dim, number == 22 ? 128 : dim);
  CudaTarget target = kSm90;
  target.multiprocessors = 3;
  const std::vector<EmulatorOptions> executions = sm90_executions(2);
  for (const bool small : {true, false}) {
    int attentions = 0, taken = 0;
    std::string reason;
    auto program = EmulatedProgram::create(
        graph,
        [&](const TileProgram& tiles, const CudaTarget& on) {
          const CudaSchedule schedule = schedule_of(tiles, on, small);
          ++attentions;
          taken += schedule.kernel == CudaTemplate::sm90_prefill;
          for (const CudaPlan::Refusal& refusal : plan_cuda(tiles, on).refused)
            if (refusal.kernel == CudaTemplate::sm90_prefill) reason = refusal.reason;
          return schedule;
        },
        target);
    if (const auto refused = kRefused.find(variant.number); refused != kRefused.end()) {
      EXPECT_EQ(taken, 0);
      EXPECT_NE(reason.find(refused->second), std::string::npos) << reason;
      return;
    }
    ASSERT_TRUE(program) << to_string(program.error());
    EXPECT_GE(attentions, 1);
    EXPECT_EQ(taken, attentions) << reason;
    for (size_t turn = 0; turn < (small ? 3 : 1); ++turn) {
      const Sizes& sizes =
          small ? kSm90Sizes[turn == 0 ? 0 : (number + 2 * turn) % std::size(kSm90Sizes)] : kSm90Sizes[1];
      const EmulatorOptions& options = executions[(number + 3 * turn) % executions.size()];
      SCOPED_TRACE(sizes.name + ", " + describe(options));
      const DimBindings dims = bind_sizes(graph, sizes);
      const std::vector<TestTensor> inputs = contiguous(variant_inputs(graph, dims, random), random);
      const std::vector<TensorView> views = views_of(inputs);
      std::vector<TestTensor> outputs;
      for (const ValueId result : graph.results)
        outputs.emplace_back(graph.type(result).dtype, concrete_shape(graph.type(result), dims), Layout::contiguous,
                             random);
      for (TestTensor& output : outputs) output.poison();
      ASSERT_EQ(program->run(dims, views, views_of(outputs), options), "");
      for (const TestTensor& output : outputs) EXPECT_TRUE(output.gaps_intact());
      auto reports = verify_outputs(graph, dims, views, views_of(outputs));
      ASSERT_TRUE(reports) << to_string(reports.error());
      for (const AccuracyReport& report : *reports) EXPECT_TRUE(report.pass) << report.failure << to_string(report);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Suite, Sm90Variants, ::testing::ValuesIn(variants(source_dir() + "/examples/variants")),
                         [](const auto& test) { return "variant_" + std::to_string(test.param.number); });

}  // namespace
}  // namespace tilewright::testing
