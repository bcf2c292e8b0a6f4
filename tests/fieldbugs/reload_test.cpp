// Field bug R19: numbers that change when something is written down and read again. What runs after a round trip
// through the text of the graph, or through the kernels on disk, gives the same bits as before.
#include <gtest/gtest.h>

#include <cstring>

#include "ir/text.h"
#include "runtime/engine.h"
#include "tests/support/paths.h"
#include "tests/support/random_graph.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variant_case.h"

namespace tilewright {
namespace {

using testing::TestTensor;

Engine engine_with(const std::string& cache_dir) {
  EngineOptions options;
  options.threads = 1;
  options.cache_dir = cache_dir;
  auto engine = Engine::create(options);
  EXPECT_TRUE(engine) << to_string(engine.error());
  return *engine;
}

Graph through_text(const Graph& graph) {
  auto again = parse_graph(print(graph));
  EXPECT_TRUE(again) << to_string(again.error());
  return *again;
}

/// A graph with its arguments, and what its kernels put out, to the bit.
struct Subject {
  Graph graph;
  DimBindings dims;
  std::vector<TestTensor> inputs;

  std::vector<std::byte> run(const Kernel& kernel) const {
    std::mt19937_64 random(1);
    std::vector<TestTensor> outputs;
    for (const ValueId id : graph.results) {
      const TensorType& type = graph.type(id);
      outputs.emplace_back(type.dtype, testing::concrete_shape(type, dims), testing::Layout::contiguous, random);
      outputs.back().poison();
    }
    const auto done = kernel.run(testing::views_of(inputs), testing::views_of(outputs));
    EXPECT_TRUE(done) << to_string(done.error());
    std::vector<std::byte> bytes;
    for (const TestTensor& output : outputs) {
      const auto* first = static_cast<const std::byte*>(output.view().data);
      bytes.insert(bytes.end(), first, first + output.size() * size_of(output.view().dtype));
    }
    return bytes;
  }
  std::vector<std::byte> run(const Engine& engine, const Graph& of, const CompileOptions& options = {}) const {
    const auto kernel = engine.compile(of, options);
    EXPECT_TRUE(kernel) << to_string(kernel.error());
    return kernel ? run(*kernel) : std::vector<std::byte>();
  }
};

Subject subject(const Graph& graph, const testing::Sizes& sizes) {
  std::mt19937_64 random(7);
  Subject made{graph, testing::bind_sizes(graph, sizes), {}};
  made.inputs = testing::variant_inputs(graph, made.dims, random);
  return made;
}

std::vector<Subject> subjects() {
  std::vector<Subject> all;
  for (const testing::Variant& variant : testing::variants(testing::source_dir() + "/examples/variants")) {
    all.push_back(subject(variant.graph, {"prefill", 1, 37, 70}));
    all.push_back(subject(variant.graph, {"decode", 2, 1, 70}));
  }
  return all;
}

/// Constants whose shortest texts are long, and a scale; `cut` prints them in six digits, as a fault.
Graph awkward(bool cut = false) {
  const auto number = [cut](double value) { return cut ? std::stod(fmt::format("{:.6g}", value)) : value; };
  GraphBuilder g("awkward");
  const Dim b = Dim::named("B"), sq = Dim::named("Sq"), sk = Dim::named("Sk");
  const ValueId q = g.param("q", {DType::f32, {b, 2, sq, 16}}), k = g.param("k", {DType::f32, {b, 2, sk, 16}}),
                v = g.param("v", {DType::f32, {b, 2, sk, 16}});
  ValueId s = g.binary(Op::mul, g.matmul_nt(q, k), g.constant(number(0.1 + 0.2), DType::f32));
  s = g.binary(Op::add, s, g.constant(number(std::nextafter(1.0 / 3, 1)), DType::f32));
  s = g.softcap(s, number(29.999999));
  g.result(g.matmul(g.softmax(s, 3), v));
  return g.take();
}

TEST(R19, GraphsReadBackRunTheSameBits) {
  const Engine before = engine_with(""), after = engine_with("");
  for (const Subject& one : subjects()) {
    const Graph again = through_text(one.graph);
    EXPECT_EQ(one.run(before, one.graph), one.run(after, again)) << one.graph.name;
    EXPECT_EQ(one.run(before, one.graph, {.ahead_of_time = true}), one.run(after, again, {.ahead_of_time = true}))
        << one.graph.name << ", ahead of time";
  }
}

TEST(R19, ConstantsReadBackToTheBit) {
  const Engine engine = engine_with("");
  const Subject one = subject(awkward(), {"awkward", 1, 37, 70});
  for (const bool ahead_of_time : {false, true}) {
    const CompileOptions options{.use_cache = false, .ahead_of_time = ahead_of_time};
    const std::vector<std::byte> expected = one.run(engine, one.graph, options);
    EXPECT_EQ(one.run(engine, through_text(one.graph), options), expected);
    // The fault: six digits, as streams print by default.
    EXPECT_NE(one.run(engine, awkward(true), options), expected);
  }
}

TEST(R19, KernelsFromDiskRunTheSameBits) {
  const testing::TemporaryFolder folder;
  const std::vector<Subject> all = subjects();
  std::vector<std::vector<std::byte>> expected;
  {
    const Engine engine = engine_with(folder.path());
    for (const Subject& one : all) expected.push_back(one.run(engine, one.graph));
  }
  const Engine engine = engine_with(folder.path());
  for (size_t i = 0; i < all.size(); ++i) {
    const auto kernel = engine.compile(through_text(all[i].graph));
    ASSERT_TRUE(kernel) << to_string(kernel.error());
    EXPECT_TRUE(kernel->stats().cache_hit || kernel->stats().kernels_from_disk > 0) << all[i].graph.name;
    EXPECT_EQ(all[i].run(*kernel), expected[i]) << all[i].graph.name;
  }
}

TEST(R19, AChangedKernelOnDiskIsSeen) {
  // The fault: under this graph's key lies the code of one whose constants were written in six digits.
  const testing::TemporaryFolder folder;
  const Subject one = subject(awkward(), {"awkward", 1, 37, 70});
  const auto store = [&](const Graph& graph) {
    const std::vector<std::byte> bytes = one.run(engine_with(folder.path()), graph);
    std::map<std::string, std::string> keys;  // file → key
    for (const DiskCacheEntry& entry : DiskCache::open(folder.path()).list(true)) keys[entry.file] = entry.key;
    return std::pair(bytes, keys);
  };
  const auto [expected, right] = store(one.graph);
  const auto [changed, both] = store(awkward(true));
  ASSERT_NE(expected, changed);
  DiskCache cache = DiskCache::open(folder.path());
  int swapped = 0;
  // The lines on generator, target and schedule.
  const auto head_of = [](const std::string& key) {
    size_t end = 0;
    for (int line = 0; line < 3; ++line) end = key.find('\n', end) + 1;
    return key.substr(0, end);
  };
  for (const auto& [file, key] : right)
    for (const auto& [other_file, other] : both) {
      if (right.contains(other_file) || head_of(other) != head_of(key)) continue;
      const auto found = cache.find(other);
      ASSERT_TRUE(found.payload);
      cache.store(key, *found.payload);
      ++swapped;
    }
  ASSERT_EQ(swapped, static_cast<int>(right.size()));
  EXPECT_NE(one.run(engine_with(folder.path()), one.graph), expected) << "the planted fault went unseen";
}

}  // namespace
}  // namespace tilewright
