// Engine::tune from outside: what it finds, keeps, refuses, and that it disturbs nobody.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "compiler/gradient.h"
#include "compiler/shape_class.h"
#include "tests/tuner/tuner_support.h"

namespace tilewright::testing {
namespace {

std::string message(const Result<TuneResult>& result) { return result ? "" : to_string(result.error()); }

TEST(Tune, FindsALegalScheduleAndTellsTheWholeStory) {
  const Engine engine = tuning_engine("off");
  TuneOptions options = quick(8);
  options.want_assembly = true;
  std::vector<TuneProgress> told;
  options.progress = [&](const TuneProgress& progress) { told.push_back(progress); };
  const auto result = engine.tune(small_attention(), kSmall, options);
  ASSERT_TRUE(result) << message(result);
  EXPECT_EQ(result->graph, "small");
  EXPECT_EQ(result->database, "");
  ASSERT_EQ(result->steps.size(), 1u);
  const TunedStep& step = result->steps[0];
  EXPECT_NE(step.shape_class.find("prefill"), std::string::npos) << step.shape_class;
  EXPECT_NE(step.shape_class.find("q_len <=512"), std::string::npos) << step.shape_class;
  EXPECT_EQ(step.dims, kSmall);
  EXPECT_GT(step.flops, 0);
  EXPECT_GT(step.bytes, 0);
  EXPECT_GT(step.fma_peak_gflops, 0);
  EXPECT_GT(step.legal, 100);
  EXPECT_FALSE(step.axes.empty());
  EXPECT_NE(step.assembly.find("ret"), std::string::npos);
  int compiled = 0, chosen = 0;
  for (const TunedCandidate& candidate : step.candidates) {
    if (candidate.fate == TunedCandidate::Fate::pruned) continue;
    ++compiled;
    chosen += candidate.fate == TunedCandidate::Fate::chosen;
    EXPECT_EQ(candidate.warm.size(), candidate.cold.size());
    EXPECT_FALSE(candidate.warm.empty());
    EXPECT_EQ(candidate.why, "");
    EXPECT_FALSE(candidate.cost.reasons.empty());
  }
  EXPECT_EQ(compiled, 8);
  EXPECT_EQ(chosen, 1);
  EXPECT_EQ(step.best().fate, TunedCandidate::Fate::chosen);
  EXPECT_GT(step.gflops(step.best()), 0);
  ASSERT_FALSE(told.empty());
  EXPECT_EQ(told.front().stage, "compile");
  EXPECT_EQ(told.back().stage, "limits");
}

TEST(Tune, KernelsCompiledLaterUseWhatWasFound) {
  TemporaryFolder folder;
  const Engine engine = tuning_engine(folder.path() + "/t.json");
  const auto before = engine.compile(small_attention());
  ASSERT_TRUE(engine.tune(small_attention(), kSmall, quick(3)));
  const auto after = engine.compile(small_attention());
  EXPECT_EQ(reasons(*before).find("tuning database"), std::string::npos);
  EXPECT_NE(reasons(*after).find("tuning database"), std::string::npos);
  // Another spelling of the class: other heads, other names, bias-free all the same.
  auto other = parse_graph(R"(graph @other(%x: f32[4,T,32], %y: f32[4,T,32], %z: f32[4,T,32]) -> f32[4,T,32] {
      %s = matmul_nt %x, %y                   : f32[4,T,T]
      %e = mask_causal %s, align=bottom_right : f32[4,T,T]
      %p = softmax %e, axis=2                 : f32[4,T,T]
      %o = matmul %p, %z                      : f32[4,T,32]
      return %o
    })");
  ASSERT_TRUE(other) << to_string(other.error());
  EXPECT_NE(reasons(*engine.compile(*other)).find("tuning database"), std::string::npos);
}

TEST(Tune, BucketsOfLengthsHaveSchedulesOfTheirOwn) {
  TemporaryFolder folder;
  const std::string file = folder.path() + "/t.json";
  ASSERT_TRUE(tuning_engine(file).tune(small_attention(), kSmall, quick(2)));
  // Whatever won: another legal schedule in its place, so that the bucket differs from the rules.
  std::string text = read_file(file);
  const size_t at = text.find("\"block_q\": ") + 11;
  write_file(file, text.replace(at, text.find(',', at) - at, "48"));
  const Engine engine = tuning_engine(file);
  const auto kernel = engine.compile(small_attention());
  ASSERT_TRUE(kernel);
  const StepReport& report = kernel->stats().step_reports[0];
  ASSERT_EQ(report.schedules.size(), 3u) << "decode, short prefill, prefill";
  EXPECT_EQ(report.schedules[1].block_q, 48);
  EXPECT_NE(report.use_when[1].find("512"), std::string::npos) << report.use_when[1];
  EXPECT_NE(report.schedules[2].block_q, 48);
  const auto choice = [&](int64_t length) { return (*kernel->choices({{"B", 1}, {"Sq", length}, {"Sk", length}}))[0]; };
  EXPECT_EQ(choice(1), 0u);
  EXPECT_EQ(choice(17), 1u);
  EXPECT_EQ(choice(512), 1u);
  EXPECT_EQ(choice(513), 2u);
  EXPECT_EQ(choice(5000), 2u);
  for (const int64_t length : {512, 513}) {  // both sides of the border, against the rules
    CompileOptions options;
    options.use_tuning = false;
    const auto rules = engine.compile(small_attention(), options);
    std::vector<float> x(static_cast<size_t>(length * 64)), a(x.size()), b(x.size());
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7919 % 1000) / 500 - 1;
    const auto view = [&](std::vector<float>& data) {
      return TensorView::contiguous(data.data(), DType::f32, {1, 2, length, 32});
    };
    const std::vector in{view(x), view(x), view(x)};
    ASSERT_TRUE(kernel->run(in, std::vector{view(a)}));
    ASSERT_TRUE(rules->run(in, std::vector{view(b)}));
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-4);
  }
}

TEST(Tune, DecodeProductsAndBackwardPassesAreTunedToo) {
  const Engine engine = tuning_engine("off");
  TuneOptions options = quick(3);
  options.twins = true;
  const auto both = engine.tune(small_attention(), kSmall, options);
  ASSERT_TRUE(both) << message(both);
  ASSERT_EQ(both->steps.size(), 2u);
  EXPECT_EQ(both->steps[1].best().schedule.kernel, CpuTemplate::decode);
  EXPECT_EQ(both->steps[1].dims.at("Sq"), 1);
  for (const auto& [rows, kernel] :
       {std::pair<int64_t, CpuTemplate>{40, CpuTemplate::matmul}, {2, CpuTemplate::matvec}}) {
    const auto product = engine.tune(small_product(), {{"M", rows}}, options);
    ASSERT_TRUE(product) << message(product);
    EXPECT_EQ(product->steps[0].best().schedule.kernel, kernel);
    EXPECT_EQ(product->steps[0].flops, 2.0 * static_cast<double>(rows) * 64 * 96);
  }
  auto passes = gradient(small_attention(), {{"q", "k", "v"}, true});
  ASSERT_TRUE(passes.ok());
  const auto backward = engine.tune(passes->backward, kSmall, options);
  ASSERT_TRUE(backward) << message(backward);
  bool found = false;
  for (const TunedStep& step : backward->steps) found |= step.best().schedule.kernel == CpuTemplate::backward;
  EXPECT_TRUE(found);
  // Alone, it has row statistics for parameters, which are of no use made up.
  passes = gradient(small_attention(), {{"q", "k", "v"}, false});
  EXPECT_NE(message(engine.tune(passes->backward, kSmall, options)).find("tilewright gradient --recompute"),
            std::string::npos)
      << message(engine.tune(passes->backward, kSmall, options));
}

TEST(Tune, OneClearSentenceForWhatCannotBeTuned) {
  const Engine engine = tuning_engine("off");
  TuneOptions options = quick();
  for (const double budget : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    options.budget_seconds = budget;
    EXPECT_NE(message(engine.tune(small_attention(), kSmall, options)).find("the budget is "), std::string::npos);
  }
  options = quick();
  options.candidates = 1;
  EXPECT_NE(message(engine.tune(small_attention(), kSmall, options)).find("1 candidates are asked for"),
            std::string::npos);
  options = quick();
  EXPECT_NE(message(engine.tune(small_attention(), {{"B", 1}}, options)).find("Sk"), std::string::npos);
  EXPECT_EQ(message(engine.tune(small_attention(), {{"B", 1}, {"Sq", 0}, {"Sk", 90}}, options)),
            "graph @small computes nothing at B=1 Sk=90 Sq=0; give dims that leave something to measure");
  auto pointwise = parse_graph("graph @p(%x: f32[N]) -> f32[N] {\n  %y = exp %x : f32[N]\n  return %y\n}");
  EXPECT_EQ(message(engine.tune(*pointwise, {{"N", 4}}, options)),
            "graph @p has nothing to tune: no attention and no product is in it");
  auto unfused = parse_graph(R"(graph @u(%q: f32[S,8], %k: f32[S,8], %v: f32[S,8]) -> (f32[S,8], f32[S,S]) {
      %s = matmul_nt %q, %k : f32[S,S]
      %p = softmax %s, axis=1 : f32[S,S]
      %o = matmul %p, %v : f32[S,8]
      return %o, %p
    })");
  ASSERT_TRUE(unfused) << to_string(unfused.error());
  EXPECT_NE(message(engine.tune(*unfused, {{"S", 64}}, options)).find("has nothing to tune: %p does not fuse"),
            std::string::npos)
      << message(engine.tune(*unfused, {{"S", 64}}, options));
}

TEST(Tune, ATinyBudgetEndsInTimeWithTheRulesAndKeepsNothing) {
  TemporaryFolder folder;
  const std::string file = folder.path() + "/t.json";
  const Engine engine = tuning_engine(file);
  TuneOptions options = quick(8);
  options.budget_seconds = 1e-3;
  const auto result = engine.tune(small_attention(), kSmall, options);
  ASSERT_TRUE(result) << message(result);
  EXPECT_TRUE(result->steps[0].out_of_time);
  EXPECT_EQ(result->steps[0].chosen, 0u);
  EXPECT_EQ(result->steps[0].gflops(result->steps[0].rules()), 0);
  EXPECT_EQ(result->database, "");
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_TRUE(result->notes.empty());
  for (const TunedCandidate& each : result->steps[0].candidates) EXPECT_TRUE(each.warm.empty());
}

// A database serves any number of threads, so that ours holds only what ran on all cores; a file that was named for it
// holds what it is given.
TEST(Tune, FewThreadsAreKeptOnlyWhereAskedFor) {
  TemporaryFolder folder;
  const auto engine = [&](int threads, const std::string& cache) {
    return *Engine::create({.threads = threads, .max_isa = CpuIsa::avx512, .cache_dir = cache, .tuning = ""});
  };
  const std::string cache = folder.path() + "/cache", file = cache + "/tuning.json";
  const int cores = engine(1, cache).target().cores;
  if (cores == 1) GTEST_SKIP() << "one core is all of them";
  const Engine narrow = engine(1, cache);
  const auto few = narrow.tune(small_attention(), kSmall, quick(2));
  ASSERT_TRUE(few) << message(few);
  EXPECT_EQ(few->database, "");
  EXPECT_EQ(few->not_saved, fmt::format("it was measured on 1 of {} cores, and serves any number of threads", cores));
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_NE(reasons(*narrow.compile(small_attention())).find("tuned on "), std::string::npos)
      << "in this engine it counts";
  const auto all = engine(cores, cache).tune(small_attention(), kSmall, quick(2));
  ASSERT_TRUE(all) << message(all);
  EXPECT_EQ(all->database, file);
  EXPECT_EQ(all->not_saved, "");
  const auto nowhere = engine(cores, "").tune(small_attention(), kSmall, quick(2));
  ASSERT_TRUE(nowhere) << message(nowhere);
  EXPECT_EQ(nowhere->not_saved, "there is no kernel cache to keep it in");
  const auto off = tuning_engine("off").tune(small_attention(), kSmall, quick(2));
  ASSERT_TRUE(off) << message(off);
  EXPECT_EQ(off->not_saved, "tuning databases are off");
}

TEST(Tune, WhileOthersCompileAndRun) {
  TemporaryFolder folder;
  const Engine engine = tuning_engine(folder.path() + "/t.json");
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0}, runs{0};
  const auto work = [&] {
    std::vector<float> x(64 * 64, 0.5f), o(64 * 64);
    const auto view = [](std::vector<float>& data) {
      return TensorView::contiguous(data.data(), DType::f32, {1, 2, 64, 32});
    };
    while (!stop) {
      const auto kernel = engine.compile(small_attention());
      const std::vector in{view(x), view(x), view(x)};
      if (!kernel || !kernel->run(in, std::vector{view(o)}) || o[77] != 0.5f) ++wrong;
      ++runs;
    }
  };
  std::thread a(work), b(work);
  TuneOptions options = quick(3);
  options.budget_seconds = 1;
  for (const int64_t length : {40, 600})
    EXPECT_TRUE(engine.tune(small_attention(), {{"B", 1}, {"Sq", length}, {"Sk", length}}, options));
  stop = true;
  a.join();
  b.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(runs, 0);
}

}  // namespace
}  // namespace tilewright::testing
