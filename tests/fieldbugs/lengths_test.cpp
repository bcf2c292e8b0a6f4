// Field bug R21: lengths, offsets and page tables that come as data, with values that no honest caller would send. They
// are clamped inside the kernel (semantics 18) or wrap as the IR's integers do (17): tensors end at guard pages, so
// that whoever trusts one of them faults, and what comes out is judged.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/fieldbugs/dims.h"
#include "tests/support/kernel_check.h"

namespace tilewright {
namespace {

using testing::AttentionGraph;
using testing::KernelCheck;
using testing::Layout;

using testing::kB;
using testing::kSk;
using testing::kSq;
constexpr int64_t kLength = 133;

constexpr int64_t kHostile[] = {INT64_MIN,
                                INT64_MIN + 1,
                                -(int64_t{1} << 40),
                                -1,
                                0,
                                1,
                                kLength - 1,
                                kLength,
                                kLength + 1,
                                INT32_MAX,
                                int64_t{1} << 31,
                                int64_t{1} << 33,
                                INT64_MAX - kLength,
                                INT64_MAX};

constexpr auto kBatches = static_cast<int64_t>(std::size(kHostile));

/// The values as they are in a dense tensor of integers; 32 bits keep what fits.
void set_hostile(testing::TestTensor& tensor) {
  for (int64_t i = 0; i < tensor.size(); ++i) {
    const int64_t value = kHostile[static_cast<size_t>(i % kBatches)];
    if (tensor.view().dtype == DType::i64)
      static_cast<int64_t*>(tensor.view().data)[i] = value;
    else
      static_cast<int32_t*>(tensor.view().data)[i] =
          static_cast<int32_t>(std::clamp<int64_t>(value, INT32_MIN, INT32_MAX));
  }
}

using Modify = std::function<ValueId(GraphBuilder& g, ValueId s, ValueId data)>;

/// `modify` gets the parameter %data of one integer per batch (or per key).
AttentionGraph with_data(DType dtype, const Modify& modify, Dim extent = kB) {
  AttentionGraph graph;
  graph.lse = true;
  graph.modify = [=](GraphBuilder& g, ValueId s) { return modify(g, s, g.param("data", {dtype, {extent}})); };
  return graph;
}

/// Decode, a few rows, and blocks of prefill.
void check_hostile(const Modify& modify, const Modify& planted = nullptr, Dim extent = kB) {
  for (DType dtype : {DType::i64, DType::i32})
    for (const int64_t sq : {1, 5, 70}) {
      SCOPED_TRACE(fmt::format("{} Sq {}", to_string(dtype), sq));
      KernelCheck check(with_data(dtype, modify, extent).build(), {{"B", kBatches}, {"Sq", sq}, {"Sk", kLength}},
                        Layout::contiguous);
      check.output_layout = Layout::contiguous;
      set_hostile(check.input("data"));
      check.run();
      if (planted && dtype == DType::i64) check.expect_caught(with_data(dtype, planted, extent).build());
    }
}

ValueId in_keys(GraphBuilder& g) { return g.index(3, {1, 1, 1, kSk}); }
ValueId as_i64(GraphBuilder& g, ValueId value) { return g.cast(value, DType::i64); }
ValueId per_batch(GraphBuilder& g, ValueId data) { return g.reshape(data, {kB, 1, 1, 1}); }

TEST(R21, KeyLengths) {
  const auto shorter = [](GraphBuilder& g, ValueId s, ValueId length) {
    const ValueId seen = g.binary(Op::lt, in_keys(g), per_batch(g, length));
    return g.select(seen, s, g.constant(-HUGE_VAL, DType::f32));
  };
  check_hostile(
      [&](GraphBuilder& g, ValueId s, ValueId data) { return shorter(g, s, as_i64(g, data)); },
      // The fault: a length that is kept in 32 bits.
      [&](GraphBuilder& g, ValueId s, ValueId data) { return shorter(g, s, as_i64(g, g.cast(data, DType::i32))); });
}

TEST(R21, PastLengths) {
  check_hostile([](GraphBuilder& g, ValueId s, ValueId past) { return g.mask_causal(s, CausalAlign::top_left, past); },
                [](GraphBuilder& g, ValueId s, ValueId past) {
                  return g.mask_causal(s, CausalAlign::top_left, g.cast(past, DType::i32));
                });
}

TEST(R21, WindowsAtHostilePositions) {
  // p - 3 <= kv (<= p) with p = q + data: sums that wrap are sums all the same. Without the upper bound a wrapped lower
  // one is seen: it hides or shows every key.
  const auto windowed = [](bool both_sides, bool narrow) {
    return [=](GraphBuilder& g, ValueId s, ValueId data) {
      if (narrow) data = g.cast(data, DType::i32);  // the fault: a position that is kept in 32 bits
      const ValueId p = g.binary(Op::add, g.index(2, {1, 1, kSq, 1}), as_i64(g, per_batch(g, data)));
      const ValueId kv = in_keys(g);
      ValueId seen = g.binary(Op::ge, kv, g.binary(Op::sub, p, g.constant_int(3, DType::i64)));
      if (both_sides) seen = g.binary(Op::logical_and, seen, g.binary(Op::le, kv, p));
      return g.select(seen, s, g.constant(-HUGE_VAL, DType::f32));
    };
  };
  for (const bool both_sides : {true, false}) check_hostile(windowed(both_sides, false), windowed(both_sides, true));
}

TEST(R21, PageTables) {
  // Keys look up their bias through a table of positions that somebody else filled in.
  const auto biased = [](GraphBuilder& g, ValueId s, ValueId pages) {
    const ValueId table = g.param("table", {DType::f32, {7}});
    const ValueId page = g.load(pages, {in_keys(g)});
    return g.binary(Op::add, s, g.load(table, {page}));
  };
  check_hostile(
      biased, [&](GraphBuilder& g, ValueId s, ValueId pages) { return biased(g, s, g.cast(pages, DType::i32)); }, kSk);
}

TEST(R21, TrustedLengthsWouldFault) {
  // What the clamps are for: a kernel told of one key more than there is memory for.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  AttentionGraph graph;
  KernelCheck check(graph.build(), {{"B", 1}, {"Sq", 5}, {"Sk", kLength}}, Layout::contiguous);
  for (const char* name : {"k", "v"}) {
    TensorView longer = check.input(name).view();
    longer.data = static_cast<float*>(longer.data) + 16;
    EXPECT_DEATH(check.expect_misreading_caught(name, longer), "") << name;
  }
}

TEST(R21, CachePositions) {
  GraphBuilder g("store");
  const ValueId rows = g.param("rows", {DType::f32, {3, 4}});
  const ValueId at = g.param("at", {DType::i64, {}});
  const ValueId cache = g.param("cache", {DType::f32, {Dim::named("N"), 4}}, true);
  g.result(g.update(cache, rows, at, 0));
  const Graph graph = g.take();
  for (const testing::KernelVariant& variant : testing::variants_of_both_tiers())
    for (int64_t position : kHostile) {
      SCOPED_TRACE(fmt::format("{} at {}", variant.text(), position));
      std::mt19937_64 random(1);
      testing::TestTensor fresh(DType::f32, {3, 4}, Layout::contiguous, random),
          kept(DType::f32, {9, 4}, Layout::contiguous, random), result(DType::f32, {9, 4}, Layout::contiguous, random);
      for (int64_t i = 0; i < fresh.size(); ++i) fresh.set(i, 100 + static_cast<double>(i));
      for (int64_t i = 0; i < kept.size(); ++i) kept.set(i, static_cast<double>(i));
      const std::vector<TensorView> inputs = {fresh.view(), TensorView::contiguous(&position, DType::i64, {}),
                                              kept.view()};
      const auto kernel = testing::engine_for(variant.isa).compile(graph, variant.options());
      ASSERT_TRUE(kernel) << to_string(kernel.error());
      const auto done = kernel->run(inputs, std::vector{result.view()});
      ASSERT_TRUE(done) << to_string(done.error());
      const int64_t first = 4 * std::clamp<int64_t>(position, 0, 6);
      for (int64_t i = 0; i < kept.size(); ++i) {
        const double expected = static_cast<double>(i < first || i >= first + 12 ? i : 100 + i - first);
        ASSERT_EQ(kept.get(i), expected);
        ASSERT_EQ(result.get(i), expected);
      }
    }
}

}  // namespace
}  // namespace tilewright
