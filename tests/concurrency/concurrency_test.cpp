// Concurrent compiles and runs; ./dev tsan runs this under ThreadSanitizer.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <mutex>
#include <thread>

#include "runtime/engine.h"
#include "runtime/tuner.h"
#include "tests/support/causal_case.h"
#include "tests/support/temporary_folder.h"

namespace tilewright {
namespace {

using testing::causal_graph;

struct Arguments : testing::CausalArguments {
  Arguments(int64_t sq, int64_t sk, int64_t head_dim) : CausalArguments(1, sq, sk, head_dim) {}
};

constexpr int kThreads = 4;

void in_threads(const std::function<void(int)>& task) {
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(task, i);
  for (std::thread& thread : threads) thread.join();
}

/// More than rounding, NaN included.
int differences(const std::vector<float>& a, const std::vector<float>& b) {
  int found = 0;
  for (size_t i = 0; i < a.size(); ++i) found += !(std::abs(a[i] - b[i]) < 1e-4f);
  return found;
}

TEST(Concurrency, OneCompilePerKey) {
  const auto engine = Engine::create({2, {}});
  ASSERT_TRUE(engine);
  const Graph graphs[] = {causal_graph(8), causal_graph(16)};
  std::atomic<int> compiled{0};
  std::vector<std::shared_ptr<Kernel>> kernels(kThreads);
  in_threads([&](int i) {
    auto kernel = engine->compile(graphs[i % 2]);
    if (!kernel) return;
    compiled += kernel->stats().cache_hit ? 0 : 1;
    kernels[static_cast<size_t>(i)] = std::make_shared<Kernel>(*kernel);
  });
  EXPECT_EQ(compiled, 2);
  for (const auto& kernel : kernels) ASSERT_TRUE(kernel);
  EXPECT_EQ(&kernels[0]->program(), &kernels[2]->program());
}

TEST(Concurrency, OneKernelRunsInManyThreads) {
  const auto engine = Engine::create({2, {}});
  ASSERT_TRUE(engine);
  const auto kernel = engine->compile(causal_graph(16));
  ASSERT_TRUE(kernel) << to_string(kernel.error());
  for (const int64_t sq : {1, 40}) {
    Arguments expected(sq, 60, 16);
    ASSERT_TRUE(kernel->run(expected.in, expected.out));
    std::atomic<int> wrong{0};
    in_threads([&](int) {
      for (int repeat = 0; repeat < 5; ++repeat) {
        Arguments own(sq, 60, 16);
        if (!kernel->run(own.in, own.out).ok() || own.o != expected.o) ++wrong;
      }
    });
    EXPECT_EQ(wrong, 0);
  }
}

TEST(Concurrency, CompileWhileOthersRun) {
  const auto engine = Engine::create({2, {}});
  ASSERT_TRUE(engine);
  std::atomic<int> failures{0};
  in_threads([&](int i) {
    for (int repeat = 0; repeat < 2; ++repeat) {
      CompileOptions options;
      options.use_cache = repeat == 0;
      const int head_dim = 8 + 8 * (i % 2);
      const auto kernel = engine->compile(causal_graph(head_dim), options);
      Arguments own(20, 30, head_dim);
      if (!kernel || !kernel->run(own.in, own.out).ok()) ++failures;
    }
  });
  EXPECT_EQ(failures, 0);
}

TEST(Concurrency, SameBitsAtAnyThreadCount) {
  const auto engine = Engine::create({1, {}});
  ASSERT_TRUE(engine);
  const auto kernel = engine->compile(causal_graph(16));
  ASSERT_TRUE(kernel);
  for (const int64_t sq : {1, 3, 100}) {
    Arguments one(sq, 3000, 16);
    ASSERT_TRUE(kernel->run(one.in, one.out));
    for (const int threads : {2, 3, 7}) {
      Arguments many(sq, 3000, 16);
      RunOptions options;
      options.executor = make_thread_pool(threads);
      ASSERT_TRUE(kernel->run(many.in, many.out, options));
      EXPECT_EQ(std::memcmp(one.o.data(), many.o.data(), one.o.size() * sizeof(float)), 0) << sq << " " << threads;
    }
  }
}

/// Compile, run, switch tiers and evict at once: kernels start on the tier, take their code while others run, entries
/// of the disk cache go as fast as they come, and the engine ends before its kernels do.
TEST(Concurrency, TiersSwitchWhileOthersRunAndEntriesAreEvicted) {
  const testing::TemporaryFolder folder;
  std::atomic<int> failures{0}, dropped{0};
  std::atomic<bool> stop{false};
  std::thread pruner([&] {
    const DiskCache cache = DiskCache::open(folder.path());
    while (!stop) {
      cache.prune(4 << 10);
      std::this_thread::yield();
    }
  });
  std::vector<Kernel> kernels;
  std::mutex lock;
  {
    EngineOptions options;
    options.threads = 2;
    options.cache_dir = folder.path();
    options.cache_limit_bytes = 8 << 10;
    options.tiered = true;
    const auto engine = Engine::create(options);
    ASSERT_TRUE(engine);
    in_threads([&](int i) {
      for (int repeat = 0; repeat < 4; ++repeat) {
        const int head_dim = 8 + 8 * ((i + repeat) % 3);
        CompileOptions compile;
        compile.use_cache = repeat != 3;
        const auto kernel = engine->compile(causal_graph(head_dim), compile);
        Arguments own(20, 30, head_dim);
        if (!kernel || !kernel->run(own.in, own.out).ok()) ++failures;
        if (!kernel || repeat == 3) continue;
        if (repeat % 2 == 0 && !kernel->wait_until_compiled().ok()) ++failures;
        std::vector<float> first = own.o;
        if (!kernel->run(own.in, own.out).ok()) ++failures;
        failures += differences(first, own.o);
        const std::lock_guard guard(lock);
        kernels.push_back(*kernel);
      }
    });
    for (int head_dim = 40; head_dim <= 72; head_dim += 8)  // on their way when the engine ends
      if (auto kernel = engine->compile(causal_graph(head_dim)); kernel)
        kernels.push_back(std::move(*kernel));
      else
        ++failures;
  }
  stop = true;
  pruner.join();
  for (const Kernel& kernel : kernels) dropped += !kernel.wait_until_compiled().ok();
  EXPECT_EQ(failures, 0);
  EXPECT_LE(dropped, 5);
}

/// Compile, run, tune and evict at once: schedules change under kernels that are compiled and run meanwhile, which may
/// change their rounding and nothing else.
TEST(Concurrency, TunesWhileOthersCompileRunAndEvict) {
  const testing::TemporaryFolder folder;
  EngineOptions options;
  options.threads = 2;
  options.cache_dir = folder.path();
  options.cache_limit_bytes = 8 << 10;
  options.tuning = folder.path() + "/tuning.json";
  const auto engine = Engine::create(options);
  ASSERT_TRUE(engine);
  std::vector<std::vector<float>> expected;
  for (const int head_dim : {8, 16}) {
    CompileOptions by_rules;
    by_rules.use_tuning = false;
    const auto kernel = engine->compile(causal_graph(head_dim), by_rules);
    ASSERT_TRUE(kernel) << to_string(kernel.error());
    Arguments own(20, 30, head_dim);
    ASSERT_TRUE(kernel->run(own.in, own.out));
    expected.push_back(own.o);
  }
  std::atomic<int> failures{0}, searches{2};
  in_threads([&](int i) {
    if (i < 2) {
      TuneOptions tuning;
      tuning.budget_seconds = 2;
      tuning.candidates = 3;
      tuning.twins = false;
      const auto result = engine->tune(causal_graph(8 + 8 * i), {{"B", 1}, {"Sq", 40}, {"Sk", 60}}, tuning);
      if (!result) ++failures;
      --searches;
      return;
    }
    // As long as they search, and one round more on what both have found.
    for (int repeat = 0, rounds_left = 2; rounds_left > 0; ++repeat) {
      if (searches == 0) --rounds_left;
      const int head_dim = 8 + 8 * (repeat % 2);
      const auto kernel = engine->compile(causal_graph(head_dim));
      Arguments own(20, 30, head_dim);
      if (!kernel || !kernel->run(own.in, own.out).ok()) ++failures;
      failures += differences(own.o, expected[static_cast<size_t>(repeat % 2)]);
      if (i == 3) engine->disk_cache().prune(4 << 10);
    }
  });
  EXPECT_EQ(failures, 0);
}

}  // namespace
}  // namespace tilewright
