// Compiled kernels across engines and processes: the same bits, no code generation, and no trust in what lies there.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "compiler/gradient.h"
#include "ir/text.h"
#include "runtime/engine.h"
#include "runtime/kernel_entry.h"
#include "runtime/tuner.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_folder.h"

namespace tilewright::testing {
namespace {

namespace fs = std::filesystem;

Graph attention(int head_dim, const std::string& tail = "") {
  std::string text =
      "graph @attention(%q: f32[B,2,S,D], %k: f32[B,2,S,D], %v: f32[B,2,S,D]) -> f32[B,2,S,D] {\n"
      "  %s = matmul_nt %q, %k : f32[B,2,S,S]\n  %e = mask_causal %s, align=top_left : f32[B,2,S,S]\n"
      "  %p = softmax %e, axis=3 : f32[B,2,S,S]\n  %o = matmul %p, %v : f32[B,2,S,D]\n" +
      tail + "  return %o\n}";
  for (size_t at; (at = text.find(",D]")) != std::string::npos;)
    text.replace(at, 3, "," + std::to_string(head_dim) + "]");
  auto graph = parse_graph(text);
  EXPECT_TRUE(graph) << to_string(graph.error());
  return *graph;
}

/// Graphs that take every template: prefill and decode, generic, backward, loops and products.
std::vector<Graph> graphs() {
  std::vector<Graph> out{attention(16), attention(7)};
  auto gradient = tilewright::gradient(out[0], {{"q", "k", "v"}, false});
  EXPECT_TRUE(gradient) << to_string(gradient.error());
  out.push_back(gradient->backward);
  auto product = parse_graph(
      "graph @product(%x: f32[N,24], %w: f32[24,40], %b: f32[40]) -> (f32[N,40], f32[N,1]) {\n"
      "  %y = matmul %x, %w : f32[N,40]\n  %z = add %y, %b : f32[N,40]\n  %t = tanh %z : f32[N,40]\n"
      "  %r = reduce_max %t, axis=1 : f32[N,1]\n  return %t, %r\n}");
  EXPECT_TRUE(product) << to_string(product.error());
  out.push_back(*product);
  return out;
}

/// Results of a kernel on data of its own, as bytes.
std::string run(const Kernel& kernel) {
  const DimBindings dims{{"B", 2}, {"S", 21}, {"N", 33}};
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> data;
  const auto tensor = [&](const TensorType& type, bool fill) {
    std::vector<int64_t> shape;
    int64_t size = 1;
    for (const Dim& dim : type.shape) size *= shape.emplace_back(*dim.evaluate(dims));
    std::vector<float>& values = data.emplace_back(static_cast<size_t>(size));
    if (fill)
      for (float& value : values) value = normal(random);
    return TensorView::contiguous(values.data(), DType::f32, shape);
  };
  std::vector<TensorView> inputs, outputs;
  const Graph& graph = kernel.graph();
  for (const ValueId id : graph.params) inputs.push_back(tensor(graph[id].type, true));
  const size_t first = data.size();
  for (const ValueId id : graph.results) outputs.push_back(tensor(graph[id].type, false));
  auto done = kernel.run(inputs, outputs);
  EXPECT_TRUE(done) << to_string(done.error());
  std::string bytes;
  for (size_t i = first; i < data.size(); ++i)
    bytes.append(reinterpret_cast<const char*>(data[i].data()), data[i].size() * sizeof(float));
  return bytes;
}

int kernel_count(const Kernel& kernel) {
  int count = 0;
  for (const StepReport& step : kernel.stats().step_reports)
    count += step.same_as.empty() ? static_cast<int>(step.schedules.size()) : 0;
  return count;
}

class EngineCache : public ::testing::Test {
 protected:
  Engine engine(int64_t limit = DiskCache::kDefaultLimit) const {
    auto made = Engine::create({.threads = 2, .cache_dir = cache_dir_, .cache_limit_bytes = limit});
    EXPECT_TRUE(made) << to_string(made.error());
    return *made;
  }
  static Kernel compile(const Engine& engine, const Graph& graph, const CompileOptions& options = {}) {
    auto kernel = engine.compile(graph, options);
    EXPECT_TRUE(kernel) << to_string(kernel.error());
    return *kernel;
  }
  std::vector<fs::path> files() const {
    std::vector<fs::path> out;
    for (const auto& entry : fs::directory_iterator(cache_dir_)) out.push_back(entry.path());
    return out;
  }

  TemporaryFolder folder_;
  std::string cache_dir_ = folder_.path() + "/cache";
};

TEST_F(EngineCache, ASecondEngineGeneratesNothingAndComputesTheSameBits) {
  for (const Graph& graph : graphs()) {
    SCOPED_TRACE(print(graph));
    const std::string expected = run(compile(*Engine::create({.threads = 2, .cache_dir = ""}), graph));
    EXPECT_EQ(compile(engine(), graph).stats().kernels_from_disk, 0);
    const Kernel kernel = compile(engine(), graph);
    EXPECT_EQ(kernel.stats().kernels_from_disk, kernel_count(kernel));
    EXPECT_FALSE(kernel.stats().cache_hit);
    for (const StageTime& stage : kernel.stats().stages) EXPECT_FALSE(stage.stage.starts_with("llvm")) << stage.stage;
    for (const StepReport& step : kernel.stats().step_reports)
      EXPECT_EQ(step.ir_instructions > 0, step.same_as.empty());
    EXPECT_EQ(run(kernel), expected);
  }
}

TEST_F(EngineCache, WhatDecidesTheCodeIsInTheKey) {
  const Graph graph = attention(16);
  compile(engine(), graph);
  const auto from_disk = [&](const Graph& other, const CompileOptions& options) {
    return compile(engine(), other, options).stats().kernels_from_disk;
  };
  EXPECT_EQ(from_disk(graph, {.max_isa = CpuIsa::avx2}), engine().target().isa == CpuIsa::avx2 ? 2 : 0);
  EXPECT_EQ(from_disk(graph, {.tiles = {24, 64}}), 0);
  EXPECT_EQ(from_disk(graph, {.force_generic = true}), 0);
  EXPECT_EQ(from_disk(attention(17), {}), 0);
  EXPECT_EQ(from_disk(graph, {.use_cache = false}), 0);
  EXPECT_EQ(from_disk(graph, {.verify_modules = true}), 0);  // there is no module to verify in an object
  EXPECT_GT(from_disk(graph, {}), 0);
}

TEST_F(EngineCache, DamagedEntriesAreCompiledAnewAndReplaced) {
  const Graph graph = attention(16);
  const std::string expected = run(compile(engine(), graph));
  std::mt19937 random(3);
  for (int round = 0; round < 30; ++round) {
    const std::vector<fs::path> all = files();
    ASSERT_FALSE(all.empty());
    for (const fs::path& file : all) {
      std::string bytes = read_file(file);
      const size_t bit = random() % (bytes.size() * 8);
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
      write_file(file, bytes);
    }
    const Kernel kernel = compile(engine(), graph);
    ASSERT_EQ(kernel.stats().kernels_from_disk, 0);
    ASSERT_EQ(run(kernel), expected);
  }
  EXPECT_GT(compile(engine(), graph).stats().kernels_from_disk, 0);
}

// A sound file whose payload is no kernel: what another program, or a hostile user with the same rights, may leave.
TEST_F(EngineCache, ForeignPayloadsAreMisses) {
  const Graph graph = attention(16);
  const std::string expected = run(compile(engine(), graph));
  const DiskCache cache = DiskCache::open(cache_dir_);
  for (const DiskCacheEntry& entry : cache.list(true)) {
    const std::string good = *cache.find(entry.key).payload;
    for (const std::string& bad :
         {std::string(), std::string("{}"), std::string("{}\0", 3), good.substr(0, good.size() / 2),
          good.substr(0, good.find('\0') + 1), "[" + good, good.substr(good.find('\0'))}) {
      ASSERT_TRUE(cache.store(entry.key, bad));
      const Kernel kernel = compile(engine(), graph);
      ASSERT_LT(kernel.stats().kernels_from_disk, kernel_count(kernel));
      ASSERT_EQ(run(kernel), expected);
    }
  }
}

TEST_F(EngineCache, EntriesReadBackAsTheyWere) {
  compile(engine(), graphs()[2]);
  const DiskCache cache = DiskCache::open(cache_dir_);
  ASSERT_FALSE(cache.list(true).empty());
  for (const DiskCacheEntry& entry : cache.list(true)) {
    const std::string bytes = *cache.find(entry.key).payload;
    auto decoded = decode_kernel(bytes);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(encode_kernel(*decoded), bytes);
    std::mt19937 random(1);
    for (int i = 0; i < 200; ++i) {  // whatever it gives, it must not fall over
      std::string damaged = bytes;
      damaged[random() % bytes.find('\0')] = static_cast<char>(random());
      decode_kernel(damaged);
    }
  }
}

TEST_F(EngineCache, AReadOnlyOrMissingFolderMeansUncached) {
  const Graph graph = attention(16);
  write_file(folder_.path() + "/file", "");
  for (const std::string& dir :
       {folder_.path() + "/file", folder_.path() + "/file/below", std::string("/proc/none/such")}) {
    auto engine = Engine::create({.threads = 1, .cache_dir = dir});
    ASSERT_TRUE(engine);
    EXPECT_FALSE(engine->disk_cache().warning().empty());
    EXPECT_TRUE(engine->compile(graph));
  }
  EXPECT_TRUE(Engine::create({.threads = 1, .cache_dir = ""})->disk_cache().warning().empty());
}

// In a child that gives up root, who may write anywhere.
TEST_F(EngineCache, AFolderThatMayOnlyBeReadMeansUncachedAndUnkept) {
  enum : int { kRight = 0, kWrong = 1, kUnreachable = 2 };
  const Graph graph = attention(16);
  const std::string expected = run(compile(engine(), graph));
  const auto before = files();
  const uid_t nobody = geteuid() == 0 ? 65534 : geteuid();
  for (const fs::path& path : {fs::path(folder_.path()), fs::path(cache_dir_)})
    ASSERT_EQ(chown(path.c_str(), nobody, static_cast<gid_t>(-1)), 0);
  for (const fs::path& path : before) ASSERT_EQ(chown(path.c_str(), nobody, static_cast<gid_t>(-1)), 0);
  ASSERT_EQ(chmod(cache_dir_.c_str(), 0500), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if ((geteuid() == 0 && setuid(nobody) != 0) || access(cache_dir_.c_str(), R_OK | X_OK) != 0) _exit(kUnreachable);
    const Engine one = *Engine::create({.cache_dir = cache_dir_, .tuning = ""});
    const Kernel known = compile(one, graph), fresh = compile(one, attention(24));
    bool right = one.disk_cache().warning().empty() && known.stats().kernels_from_disk > 0 && run(known) == expected;
    right = right && fresh.stats().kernels_from_disk == 0 && !run(fresh).empty();
    TuneOptions options;
    options.budget_seconds = 1;
    options.candidates = 2;
    const auto tuned = one.tune(graph, {{"B", 1}, {"S", 64}}, options);
    right = right && tuned && tuned->database.empty() && !tuned->not_saved.empty();
    _exit(right && !HasFailure() ? kRight : kWrong);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(chmod(cache_dir_.c_str(), 0700), 0);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  if (WEXITSTATUS(status) == kUnreachable) GTEST_SKIP() << "nobody cannot reach " << cache_dir_;
  EXPECT_EQ(WEXITSTATUS(status), kRight);
  EXPECT_EQ(files(), before);
}

// 8 processes compile 100 times each on one small folder, so that they write, read and evict all at once.
TEST_F(EngineCache, ManyProcessesShareAFolder) {
  constexpr int kGraphs = 6;
  std::vector<pid_t> children;
  for (int process = 0; process < 8; ++process) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      std::string expected[kGraphs];
      bool right = true;
      for (int i = 0; i < 100; ++i) {
        const int which = (i + process) % kGraphs;
        const Engine one = engine(150'000);  // a few kernels
        const std::string result = run(compile(one, attention(4 + which), {.force_generic = true}));
        if (expected[which].empty()) expected[which] = result;
        right = right && result == expected[which];
      }
      _exit(right && !HasFailure() ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  for (const DiskCacheEntry& entry : DiskCache::open(cache_dir_).list(true)) EXPECT_EQ(entry.problem, "");
}

}  // namespace
}  // namespace tilewright::testing
