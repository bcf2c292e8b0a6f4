// Every variant of the suite against the oracle (semantics 19): dtypes, head dims, ragged and empty shapes, default and
// generic templates, every ISA of this machine. The fast templates must take all of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>
#include <mutex>
#include <thread>

#include "ir/accuracy.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "runtime/engine.h"
#include "tests/support/paths.h"
#include "tests/support/random_graph.h"
#include "tests/support/test_engines.h"
#include "tests/support/variant_case.h"

namespace tilewright::testing {
namespace {

constexpr int64_t kHeadDims[] = {8, 31, 64, 72, 80, 96, 128, 192, 256};
constexpr Numbers kNumbers[] = {Numbers::f32, Numbers::bf16,      Numbers::f64,
                                Numbers::f16, Numbers::bf16_cast, Numbers::f16_cast};

// Named by what they ask of a kernel. Sq > Sk leaves rows with nothing to attend wherever keys are in the past.
const Sizes kSizes[] = {
    {"more keys", 2, 37, 70},     {"more queries", 2, 50, 23},     {"one query", 2, 1, 130},
    {"a few queries", 1, 5, 300}, {"several blocks", 1, 130, 270}, {"square", 1, 96, 96},
    {"one of each", 3, 1, 1},     {"no queries", 2, 0, 40},        {"no keys", 2, 21, 0},
    {"no batch", 0, 20, 30},
};

struct Way {
  std::string name;
  Engine engine;
  CompileOptions options;
};

const std::vector<Way>& ways() {
  static const std::vector<Way> list = [] {
    std::vector<Way> all;
    for (const Engine& engine : engines_of_every_isa(1)) {
      const CpuIsa isa = engine.target().isa;
      for (bool generic : {false, true}) {
        if (generic && isa > CpuIsa::avx512) continue;  // that template knows no tiles
        CompileOptions options;
        options.require_fused = true;
        options.force_generic = generic;
        options.verify_modules = true;
        options.use_cache = false;
        all.push_back({std::string(to_string(isa)) + (generic ? " generic" : ""), engine, options});
        if (!generic) {
          options.ahead_of_time = true;
          all.push_back({std::string(to_string(isa)) + " ahead of time", engine, options});
        }
      }
    }
    return all;
  }();
  return list;
}

/// What one variant went through.
struct Tally {
  std::mutex lock;
  std::map<std::string, int> templates;  ///< of the runs that were free to choose
  std::vector<std::string> failures;
  int runs = 0;
};

/// One graph, compiled every way, at two sizes.
class VariantCase {
 public:
  VariantCase(const Variant& variant, size_t turn) : random_(turn * 131 + 7) {
    const auto number = static_cast<size_t>(variant.number);
    // Every head dim, dtype and size for each variant; which of them meet differs from variant to variant.
    first_size_ = turn + 7 * number;
    numbers_ = kNumbers[(turn + turn / 6 + number) % std::size(kNumbers)];
    const int64_t dim = kHeadDims[turn % std::size(kHeadDims)];
    const bool apart = number == 22;  // MLA: Dqk and Dv differ
    graph_ = respell(variant.graph, numbers_, dim, apart ? kHeadDims[(turn + 4) % std::size(kHeadDims)] : dim);
    name_ = fmt::format("{} {} d {}", variant.stem, to_string(numbers_), dim);
  }

  void run(Tally& tally) {
    if (const Diagnostics errors = verify(graph_); !errors.empty()) return fail(tally, to_string(errors));
    std::vector<std::pair<const Way*, Kernel>> kernels;
    for (const Way& way : ways()) {
      auto kernel = way.engine.compile(graph_, way.options);
      if (kernel)
        kernels.emplace_back(&way, std::move(*kernel));
      else
        fail(tally, way.name + ": " + to_string(kernel.error()));
    }
    for (size_t step : {0, 3}) run_at(kSizes[(first_size_ + step) % std::size(kSizes)], kernels, tally);
  }

 private:
  void run_at(const Sizes& sizes, const std::vector<std::pair<const Way*, Kernel>>& kernels, Tally& tally) {
    const DimBindings dims = bind_sizes(graph_, sizes);
    const std::vector<TestTensor> inputs = variant_inputs(graph_, dims, random_);
    std::vector<TensorView> views;
    for (const TestTensor& input : inputs) views.push_back(input.view());
    auto judge = OutputJudge::create(graph_, dims, views);
    if (!judge) return fail(tally, std::string(sizes.name) + ": " + to_string(judge.error()));
    std::mt19937_64 random(random_());  // so that inputs do not depend on how many ways there are
    for (const auto& [way, kernel] : kernels) {
      const std::string where = sizes.name + ", " + way->name + ": ";
      TestTensor output(graph_.type(graph_.results[0]).dtype, concrete_shape(graph_.type(graph_.results[0]), dims),
                        static_cast<Layout>(random() % 4), random);
      RunOptions options;
      if (random() % 3 == 0)  // just enough: K and V are packed on the fly
        if (auto least = kernel.memory_estimate(dims, 1, 0))
          options.workspace_limit = least->scratch + least->workspace;
      const TensorView view = output.view();
      if (auto done = kernel.run(views, {&view, 1}, options); !done) {
        fail(tally, where + to_string(done.error()));
        continue;
      }
      if (!output.gaps_intact()) fail(tally, where + "wrote outside its output");
      auto reports = judge->judge({&view, 1});
      if (!reports)
        fail(tally, where + to_string(reports.error()));
      else if (!reports->at(0).pass)
        fail(tally, where + reports->at(0).failure + " (" + to_string(reports->at(0)) + ")");
      note_template(*way, kernel, dims, where, tally);
    }
  }

  void note_template(const Way& way, const Kernel& kernel, const DimBindings& dims, const std::string& where,
                     Tally& tally) {
    if (kernel.program().steps.size() != 1) return fail(tally, where + "is not one step");
    auto choices = kernel.choices(dims);
    if (!choices) return fail(tally, where + to_string(choices.error()));
    const StepReport& report = kernel.stats().step_reports.at(0);
    const CpuTemplate taken = report.schedules.at(choices->at(0)).kernel;
    if ((taken == CpuTemplate::generic) != way.options.force_generic ||
        (taken == CpuTemplate::ahead_of_time) != way.options.ahead_of_time) {
      std::string why;
      for (const auto& refusal : report.refused)
        why += fmt::format("; {} refused: {}", to_string(refusal.kernel), refusal.reason);
      fail(tally, where + "ran the " + std::string(to_string(taken)) + " template" + why);
    }
    const std::lock_guard guard(tally.lock);
    ++tally.runs;
    if (!way.options.force_generic && !way.options.ahead_of_time) ++tally.templates[std::string(to_string(taken))];
  }

  void fail(Tally& tally, const std::string& what) {
    const std::lock_guard guard(tally.lock);
    tally.failures.push_back(name_ + ", " + what);
  }

  size_t first_size_ = 0;
  std::mt19937_64 random_;
  Numbers numbers_;
  Graph graph_;
  std::string name_;
};

class Variants : public ::testing::TestWithParam<Variant> {};

TEST_P(Variants, AgreeWithTheOracleOnFastTemplates) {
  ASSERT_FALSE(ways().empty()) << "this machine has neither AVX2 nor AVX-512";
  Tally tally;
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t turn = next++; turn < 10; turn = next++) VariantCase(GetParam(), turn).run(tally);
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();

  std::string templates;
  for (const auto& [name, count] : tally.templates) templates += fmt::format("  {} {}", name, count);
  std::printf("  %-22s %3d runs; left to itself it took%s\n", GetParam().stem.c_str(), tally.runs, templates.c_str());
  for (size_t i = 0; i < std::min<size_t>(tally.failures.size(), 12); ++i) ADD_FAILURE() << tally.failures[i];
  EXPECT_TRUE(tally.failures.empty()) << tally.failures.size() << " failures in all";
}

INSTANTIATE_TEST_SUITE_P(Suite, Variants, ::testing::ValuesIn(variants(testing::source_dir() + "/examples/variants")),
                         [](const auto& variant) { return variant.param.stem; });

TEST(VariantSuite, IsComplete) {
  std::vector<int> numbers;
  for (const Variant& variant : variants(testing::source_dir() + "/examples/variants"))
    numbers.push_back(variant.number);
  EXPECT_EQ(numbers,
            (std::vector<int>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 21, 22, 25, 27, 28}));
}

}  // namespace
}  // namespace tilewright::testing
