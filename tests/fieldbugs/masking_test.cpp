// Field bugs around masks: R4, R5, R6, R9, R14.
#include <gtest/gtest.h>

#include <cmath>

#include "ir/verify.h"
#include "tests/fieldbugs/dims.h"
#include "tests/support/kernel_check.h"

namespace tilewright {
namespace {

using testing::AttentionGraph;
using testing::KernelCheck;

using testing::kB;
using testing::kSk;
using testing::kSq;

ValueId hidden(GraphBuilder& g) { return g.constant(-HUGE_VAL, DType::f32); }

/// select(%keep, s, -inf) with a bool parameter.
AttentionGraph with_keep(Shape shape, bool lse = true) {
  AttentionGraph graph;
  graph.lse = lse;
  graph.modify = [shape](GraphBuilder& g, ValueId s) {
    return g.select(g.param("keep", {DType::boolean, shape}), s, hidden(g));
  };
  return graph;
}

TEST(R4, FullyMaskedRowsGiveZeroAndMinusInfinity) {
  KernelCheck check(with_keep({kSq, kSk}).build(), {{"B", 2}, {"Sq", 70}, {"Sk", 90}});
  for (int64_t i = 0; i < check.input("keep").size(); ++i) check.input("keep").set(i, i / 90 % 3 != 1);
  check.run();
  EXPECT_EQ(check.outputs[0].get(1 * 16), 0);
  EXPECT_EQ(check.outputs[1].get(1), -HUGE_VAL);
}

TEST(R4, FiniteMinimaAreOrdinaryScores) {
  for (double minimum : {-1e9, -10000.0, static_cast<double>(std::numeric_limits<float>::lowest())}) {
    AttentionGraph graph;
    graph.modify = [](GraphBuilder& g, ValueId s) {
      return g.binary(Op::add, s, g.param("bias", {DType::f32, {kSq, kSk}}));
    };
    KernelCheck check(graph.build(), {{"B", 1}, {"Sq", 65}, {"Sk", 130}});
    for (int64_t i = 0; i < check.input("bias").size(); ++i)
      check.input("bias").set(i, i / 130 % 4 == 2 || i % 3 == 0 ? minimum : 0);
    // With the lowest float the scores of a fully "masked" row drown in it: all equal, the mean of V.
    check.run();
    AttentionGraph as_mask = graph;
    as_mask.modify = [](GraphBuilder& g, ValueId s) {
      const ValueId bias = g.param("bias", {DType::f32, {kSq, kSk}});
      return g.select(g.binary(Op::eq, bias, g.constant(0, DType::f32)), s, hidden(g));
    };
    // At -1e9 f32 rounds the scores away and f64 does not: the naive error, and with it the bound, is too wide to tell.
    if (minimum != -1e9) check.expect_caught(as_mask.build());
  }
}

TEST(R4, TwoMasksCombine) {
  AttentionGraph graph;
  graph.lse = true;
  graph.modify = [](GraphBuilder& g, ValueId s) {
    s = g.mask_causal(s, CausalAlign::top_left);
    const ValueId bias =
        g.select(g.param("a", {DType::boolean, {kB, 1, 1, kSk}}), g.constant(0, DType::f32), hidden(g));
    s = g.binary(Op::add, s, bias);
    return g.binary(Op::add, s, g.param("bias", {DType::f32, {kSk}}));
  };
  KernelCheck check(graph.build(), {{"B", 3}, {"Sq", 66}, {"Sk", 66}});
  for (int64_t i = 0; i < 66; ++i) check.input("bias").set(i, i % 2 ? -HUGE_VAL : 0.5);
  for (int64_t i = 0; i < 66; ++i) check.input("a").set(i, 0);  // batch 0: nothing is left
  check.run();
  EXPECT_EQ(check.outputs[0].get(0), 0);
  AttentionGraph forgotten = graph;
  forgotten.modify = [&graph](GraphBuilder& g, ValueId s) {
    graph.modify(g, s);  // declares the parameters; the first two masks are lost
    return g.binary(Op::add, s, g.graph().params.back());
  };
  check.expect_caught(forgotten.build());
}

TEST(R5, KvBlocksMaskedInMidStream) {
  KernelCheck check(with_keep({kB, 1, 1, kSk}).build(), {{"B", 2}, {"Sq", 33}, {"Sk", 700}});
  for (int64_t i = 0; i < check.input("keep").size(); ++i) check.input("keep").set(i, i % 700 < 60 || i % 700 >= 580);
  check.run();
  KernelCheck rows(with_keep({kSq, kSk}).build(), {{"B", 1}, {"Sq", 130}, {"Sk", 520}});
  for (int64_t i = 0; i < rows.input("keep").size(); ++i) {
    const int64_t q = i / 520, kv = i % 520;
    rows.input("keep").set(i, kv / 128 % 2 == q / 64 % 2);
  }
  rows.run();
  // A kernel that keeps one key of a hidden block.
  AttentionGraph leaking = with_keep({kSq, kSk});
  const auto exact = leaking.modify;
  leaking.modify = [exact](GraphBuilder& g, ValueId s) {
    const ValueId leak = g.binary(Op::eq, g.index(3, {1, 1, 1, kSk}), g.constant_int(200, DType::i64));
    const ValueId masked = exact(g, s);
    return g.select(leak, s, masked);
  };
  rows.expect_caught(leaking.build());
}

TEST(R6, NanInputsPropagateWhereTheyAreAttended) {
  AttentionGraph graph;
  graph.lse = true;
  KernelCheck check(graph.build(), {{"B", 1}, {"Sq", 67}, {"Sk", 80}});
  check.input("q").set(5 * 16 + 3, std::nan(""));         // row 5 of head 0
  check.input("v").set((80 + 7) * 16 + 2, std::nan(""));  // column 2 of head 1
  check.input("k").set(80 * 16 - 1, HUGE_VAL);            // the last key of head 0
  check.run();
  EXPECT_TRUE(std::isnan(check.outputs[0].get(5 * 16)));
  AttentionGraph dropping = graph;
  dropping.modify = [](GraphBuilder& g, ValueId s) {
    return g.select(g.binary(Op::eq, s, s), s, g.constant(0, DType::f32));  // NaN becomes 0
  };
  EXPECT_TRUE(std::isnan(check.outputs[0].get(67 * 16 + 2)));
  check.expect_caught(dropping.build());
}

TEST(R6, MaskedOutNanVanishes) {
  KernelCheck check(with_keep({kB, 1, 1, kSk}).build(), {{"B", 2}, {"Sq", 40}, {"Sk", 150}});
  for (int64_t i = 0; i < check.input("keep").size(); ++i) check.input("keep").set(i, i % 150 < 101);
  for (const char* name : {"k", "v"})
    for (int64_t i = 0; i < check.input(name).size(); ++i)
      if (i / 16 % 150 >= 101) check.input(name).set(i, i % 2 ? std::nan("") : HUGE_VAL);
  check.run();
}

TEST(R9, MaskLengthMustMatch) {
  Graph graph = with_keep({kSq, Dim::named("M")}).build();
  EXPECT_FALSE(verify(graph).empty());
  auto kernel = testing::engine_for(CpuIsa::avx2).compile(with_keep({kSq, kSk}).build());
  ASSERT_TRUE(kernel.ok());
  std::vector<float> qkv(1 * 2 * 12 * 16);
  std::vector<uint8_t> keep(8 * 11);
  const TensorView q = TensorView::contiguous(qkv.data(), DType::f32, {1, 2, 8, 16});
  const TensorView kv = TensorView::contiguous(qkv.data(), DType::f32, {1, 2, 12, 16});
  const TensorView mask = TensorView::contiguous(keep.data(), DType::boolean, {8, 11});
  const TensorView inputs[] = {q, kv, kv, mask};
  auto bound = kernel->bind(inputs);
  ASSERT_FALSE(bound.ok());
  EXPECT_NE(to_string(bound.error()).find("11"), std::string::npos) << to_string(bound.error());
  EXPECT_NE(to_string(bound.error()).find("12"), std::string::npos) << to_string(bound.error());
}

TEST(R9, MaskRowsLongerThanTheSequence) {
  // A mask for up to 100 keys, of which 83 are there. The fault: its rows are found with the sequence's length.
  constexpr int64_t kLongest = 100, kKeys = 83, kRows = 70;
  KernelCheck check(with_keep({kSq, kSk}).build(), {{"B", 1}, {"Sq", kRows}, {"Sk", kKeys}});
  std::vector<uint8_t> memory(kLongest * kRows);
  for (size_t i = 0; i < memory.size(); ++i) memory[i] = i * i % 7 < 3;
  TensorView keep = TensorView::contiguous(memory.data(), DType::boolean, {kRows, kKeys});
  TensorView packed = keep;
  keep.strides[0] = kLongest;
  check.replace("keep", keep);
  check.run();
  check.expect_misreading_caught("keep", packed);
}

TEST(R14, MaskOfEveryRankOverManyTiles) {
  const std::vector<Shape> shapes = {
      {kSk},        {1},       {kSq, kSk},        {kSq, 1},          {1, kSk},       {2, kSq, kSk},
      {2, 1, kSk},  {2, 1, 1}, {kB, 2, kSq, kSk}, {kB, 1, kSq, kSk}, {1, 2, 1, kSk}, {kB, 1, kSq, 1},
      {kB, 2, 1, 1}};
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(to_string(shape));
    KernelCheck(with_keep(shape).build(), {{"B", 2}, {"Sq", 150}, {"Sk", 330}}).run();
    AttentionGraph biased;
    biased.modify = [&shape](GraphBuilder& g, ValueId s) {
      return g.binary(Op::add, s, g.param("bias", {DType::f32, shape}));
    };
    KernelCheck(biased.build(), {{"B", 2}, {"Sq", 150}, {"Sk", 330}}, testing::Layout::reversed).run();
  }
  AttentionGraph per_row, per_tile;
  per_row.modify = [](GraphBuilder& g, ValueId s) {
    return g.binary(Op::add, s, g.param("bias", {DType::f32, {kB, 2, kSq, kSk}}));
  };
  // The fault: every tile of 64 rows reads the rows of the first tile.
  per_tile.modify = [](GraphBuilder& g, ValueId s) {
    const ValueId bias = g.param("bias", {DType::f32, {kB, 2, kSq, kSk}});
    const ValueId q = g.binary(Op::mod, g.index(2, {1, 1, kSq, 1}), g.constant_int(64, DType::i64));
    return g.binary(Op::add, s,
                    g.load(bias, {g.index(0, {kB, 1, 1, 1}), g.index(1, {1, 2, 1, 1}), q, g.index(3, {1, 1, 1, kSk})}));
  };
  KernelCheck check(per_row.build(), {{"B", 2}, {"Sq", 150}, {"Sk", 330}});
  check.run();
  check.expect_caught(per_tile.build());
}

}  // namespace
}  // namespace tilewright
