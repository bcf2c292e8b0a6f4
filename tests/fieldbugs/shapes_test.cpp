// Field bugs around shapes and layouts: R7, R8, R10, R11, R12, R13, R16, R22.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/kernel_check.h"

namespace tilewright {
namespace {

using testing::AttentionGraph;
using testing::KernelCheck;
using testing::Layout;

AttentionGraph causal(CausalAlign align = CausalAlign::bottom_right) {
  AttentionGraph graph;
  graph.lse = true;
  graph.modify = [align](GraphBuilder& g, ValueId s) { return g.mask_causal(s, align); };
  return graph;
}

/// The fault of a wrong tail: the last key is not seen.
AttentionGraph without_last_key(AttentionGraph graph) {
  const auto modify = graph.modify;
  graph.modify = [modify](GraphBuilder& g, ValueId s) {
    if (modify) s = modify(g, s);
    const Dim sk = Dim::named("Sk");
    const ValueId seen = g.binary(Op::lt, g.index(3, {1, 1, 1, sk}), g.dim(sk - 1));
    return g.select(seen, s, g.constant(-HUGE_VAL, DType::f32));
  };
  return graph;
}

TEST(R7, TailTilesNeverSeeUnwrittenMemory) {
  // Gaps and everything behind the tensors hold NaN; guard pages stop what goes further.
  for (int64_t tail : {1, 5, 17, 31, 63})
    for (Layout layout : {Layout::contiguous, Layout::gapped, Layout::reversed}) {
      KernelCheck(causal().build(), {{"B", 1}, {"Sq", 64 + tail}, {"Sk", 128 + tail}}, layout).run();
    }
}

TEST(R7, StaleRowsBehindTheLengthNeverMeetAZeroProbability) {
  // K and V hold NaN behind the length. The fault: a large finite minimum hides the scores of the tail, so that its P
  // is exactly 0, and 0 times what nobody cleared in V is NaN.
  const auto hidden_tail = [](double minimum) {
    AttentionGraph graph;
    graph.modify = [minimum](GraphBuilder& g, ValueId s) {
      const Dim sk = Dim::named("Sk");
      const ValueId seen = g.binary(Op::lt, g.index(3, {1, 1, 1, sk}), g.dim(sk - 37));
      return g.select(seen, s, g.constant(minimum, DType::f32));
    };
    return graph.build();
  };
  for (int64_t sq : {1, 70}) {
    KernelCheck check(hidden_tail(-HUGE_VAL), {{"B", 1}, {"Sq", sq}, {"Sk", 165}});
    for (const char* name : {"k", "v"})
      for (int64_t i = 0; i < check.input(name).size(); ++i)
        if (i / 16 % 165 >= 165 - 37) check.input(name).set(i, NAN);
    check.run();
    check.expect_caught(hidden_tail(-1e30));
  }
}

TEST(R8, LengthsThatAreNoMultipleOfTheBlock) {
  AttentionGraph graph;
  graph.heads = graph.kv_heads = 1;
  for (int64_t length : {1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 95, 96, 97, 127, 129, 191, 255, 257, 300}) {
    SCOPED_TRACE(length);
    KernelCheck(graph.build(), {{"B", 1}, {"Sq", length}, {"Sk", 77}}).run();
    KernelCheck(graph.build(), {{"B", 1}, {"Sq", 9}, {"Sk", length}}).run();
    KernelCheck check(graph.build(), {{"B", 1}, {"Sq", 100}, {"Sk", length}});
    check.run();
    check.expect_caught(without_last_key(graph).build());
  }
}

TEST(R10, ZeroLengths) {
  for (int64_t batch : {0, 1})
    for (int64_t sq : {0, 1, 70})
      for (int64_t sk : {0, 1, 70}) {
        SCOPED_TRACE(fmt::format("B {} Sq {} Sk {}", batch, sq, sk));
        KernelCheck check(causal().build(), {{"B", batch}, {"Sq", sq}, {"Sk", sk}});
        check.run();
        if (batch == 1 && sq > 0 && sk == 0) {
          EXPECT_EQ(check.outputs[0].get(0), 0);
          EXPECT_EQ(check.outputs[1].get(0), -HUGE_VAL);
        }
      }
}

TEST(R10, WithoutKeysASumOfNothingIsNotDividedBy) {
  // The fault: O = sum(e * V) / sum(e) with no answer to sum(e) = 0.
  const Dim b = Dim::named("B"), sq = Dim::named("Sq"), sk = Dim::named("Sk");
  GraphBuilder g("undefended");
  const ValueId q = g.param("q", {DType::f32, {b, 2, sq, 16}}), k = g.param("k", {DType::f32, {b, 2, sk, 16}});
  const ValueId v = g.param("v", {DType::f32, {b, 2, sk, 16}});
  const ValueId e = g.unary(Op::exp, g.binary(Op::mul, g.matmul_nt(q, k), g.constant(0.25, DType::f32)));
  g.result(g.named(g.binary(Op::div, g.matmul(e, v), g.reduce(Op::reduce_sum, e, 3)), "o"));
  const Graph undefended = g.take();
  for (int64_t keys : {0, 40}) {
    KernelCheck check(AttentionGraph().build(), {{"B", 1}, {"Sq", 3}, {"Sk", keys}});
    check.run();
    EXPECT_EQ(check.accepts_kernel_of(undefended), keys > 0);
  }
}

TEST(R11, CausalAlignmentWhenLengthsDiffer) {
  for (auto [sq, sk] : {std::pair<int64_t, int64_t>{5, 90}, {90, 5}, {70, 71}, {1, 200}, {130, 129}}) {
    SCOPED_TRACE(fmt::format("Sq {} Sk {}", sq, sk));
    for (CausalAlign align : {CausalAlign::top_left, CausalAlign::bottom_right}) {
      KernelCheck check(causal(align).build(), {{"B", 2}, {"Sq", sq}, {"Sk", sk}});
      check.run();
      const bool top = align == CausalAlign::top_left;
      check.expect_caught(causal(top ? CausalAlign::bottom_right : CausalAlign::top_left).build());
    }
  }
}

TEST(R11, PastLengthPerBatch) {
  AttentionGraph graph;
  graph.lse = true;
  graph.modify = [](GraphBuilder& g, ValueId s) {
    return g.mask_causal(s, CausalAlign::top_left, g.param("past", {DType::i32, {Dim::named("B")}}));
  };
  KernelCheck check(graph.build(), {{"B", 4}, {"Sq", 40}, {"Sk", 150}});
  const double past[] = {0, 110, -7, -1000};
  for (int64_t b = 0; b < 4; ++b) check.input("past").set(b, past[b]);
  check.run();
  EXPECT_EQ(check.outputs[1].get(3 * 2 * 40), -HUGE_VAL);
}

TEST(R12, AnyStrides) {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16, DType::f64})
    for (Layout layout : {Layout::permuted, Layout::gapped, Layout::reversed})
      for (uint64_t seed = 0; seed < 3; ++seed) {
        AttentionGraph graph = causal();
        graph.dtype = dtype;
        KernelCheck check(graph.build(), {{"B", 2}, {"Sq", 37}, {"Sk", 83}}, layout, seed);
        check.output_layout = layout;
        check.run();
      }
}

TEST(R12, StrideZeroAndTransposedV) {
  KernelCheck check(causal().build(), {{"B", 2}, {"Sq", 37}, {"Sk", 83}});
  TensorView k = check.input("k").view();
  k.strides[0] = k.strides[1] = 0;  // one head for all
  check.replace("k", k);
  std::vector<float> memory(2 * 2 * 16 * 83);
  for (size_t i = 0; i < memory.size(); ++i) memory[i] = std::sin(static_cast<float>(i));
  TensorView v = TensorView::contiguous(memory.data(), DType::f32, {2, 2, 16, 83});
  std::swap(v.shape[2], v.shape[3]);
  std::swap(v.strides[2], v.strides[3]);
  check.replace("v", v);
  TensorView q = check.input("q").view();
  q.strides[2] = 0;
  check.replace("q", q);
  check.run();
  TensorView contiguous = TensorView::contiguous(memory.data(), DType::f32, {2, 2, 83, 16});
  check.expect_misreading_caught("v", contiguous);
}

/// The fault of a wrong head-dim tail: the last component does not enter the dot product.
AttentionGraph without_last_component(AttentionGraph graph) {
  const auto modify = graph.modify;
  const int64_t last = graph.dqk - 1;
  graph.modify = [modify, last](GraphBuilder& g, ValueId s) {
    const auto component = [&](size_t param) { return g.slice(g.graph().params[param], 3, last, last + 1); };
    const ValueId missing = g.binary(Op::mul, g.matmul_nt(component(0), component(1)),
                                     g.constant(1 / std::sqrt(static_cast<double>(last + 1)), DType::f32));
    return modify(g, g.binary(Op::sub, s, missing));
  };
  return graph;
}

TEST(R13, EveryHeadDim) {
  for (int64_t dqk : {1, 2, 3, 7, 16, 17, 31, 40, 64, 72, 80, 100, 128, 192, 256, 512}) {
    SCOPED_TRACE(dqk);
    AttentionGraph graph = causal();
    graph.heads = graph.kv_heads = 1;
    graph.dqk = graph.dv = dqk;
    KernelCheck(graph.build(), {{"B", 1}, {"Sq", 20}, {"Sk", 70}}).run();
    graph.dv = dqk % 7 * 9 + 1;  // Dqk != Dv
    KernelCheck check(graph.build(), {{"B", 1}, {"Sq", 20}, {"Sk", 70}});
    check.run();
    check.expect_caught(without_last_component(graph).build());
  }
}

TEST(R16, BoundsAtEveryTileEdge) {
  // Contiguous tensors end flush against a guard page: one element too far is a fault.
  for (int64_t length = 60; length <= 68; ++length)
    for (DType dtype : {DType::f32, DType::bf16}) {
      AttentionGraph graph = causal();
      graph.dtype = dtype;
      graph.dqk = 13;
      graph.dv = 11;
      KernelCheck check(graph.build(), {{"B", 1}, {"Sq", length}, {"Sk", 128 - length}}, Layout::contiguous);
      check.output_layout = Layout::contiguous;
      check.run();
    }
}

TEST(R16, GuardPagesStopWhatGoesOneElementTooFar) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto one_further = [](TensorView view) {
    view.data = static_cast<float*>(view.data) + 1;
    return view;
  };
  KernelCheck check(causal().build(), {{"B", 1}, {"Sq", 21}, {"Sk", 43}}, Layout::contiguous);
  for (const char* name : {"q", "k", "v"})
    EXPECT_DEATH(check.expect_misreading_caught(name, one_further(check.input(name).view())), "") << name;
  std::mt19937_64 random(1);
  const testing::TestTensor out(DType::f32, {1, 2, 21, 16}, Layout::contiguous, random);
  const testing::TestTensor lse(DType::f32, {1, 2, 21}, Layout::contiguous, random);
  check.own_outputs = {one_further(out.view()), lse.view()};
  EXPECT_DEATH(check.run(), "") << "o";
}

TEST(R16, LoadIndicesAreClampedToTheTable) {
  AttentionGraph graph;
  graph.modify = [](GraphBuilder& g, ValueId s) {
    const ValueId table = g.param("table", {DType::f32, {5}});
    const Dim sq = Dim::named("Sq"), sk = Dim::named("Sk");
    const ValueId distance = g.binary(Op::sub, g.index(3, {1, 1, 1, sk}), g.index(2, {1, 1, sq, 1}));
    const ValueId far = g.binary(Op::mul, distance, g.constant_int(int64_t{1} << 33, DType::i64));
    return g.binary(Op::add, s, g.load(table, {g.binary(Op::add, far, distance)}));
  };
  KernelCheck check(graph.build(), {{"B", 1}, {"Sq", 40}, {"Sk", 50}}, Layout::contiguous);
  check.run();
  AttentionGraph off_by_one;
  off_by_one.modify = [](GraphBuilder& g, ValueId s) {
    const ValueId table = g.param("table", {DType::f32, {5}});
    const ValueId distance =
        g.binary(Op::sub, g.index(3, {1, 1, 1, Dim::named("Sk")}), g.index(2, {1, 1, Dim::named("Sq"), 1}));
    const ValueId past = g.binary(Op::gt, distance, g.constant_int(0, DType::i64));
    const ValueId index = g.select(past, g.constant_int(3, DType::i64), g.constant_int(0, DType::i64));
    return g.binary(Op::add, s, g.load(table, {index}));
  };
  check.expect_caught(off_by_one.build());
}

TEST(R22, DecodeWithGroupedHeadsAndCausalMask) {
  for (DType dtype : {DType::f32, DType::bf16})
    for (int64_t group : {1, 4, 8})
      for (int64_t sq : {1, 2, 5}) {
        SCOPED_TRACE(fmt::format("{} group {} Sq {}", to_string(dtype), group, sq));
        AttentionGraph graph = causal();
        graph.dtype = dtype;
        graph.heads = 8;
        graph.kv_heads = 8 / group;
        graph.dqk = graph.dv = 64;
        KernelCheck check(graph.build(), {{"B", 2}, {"Sq", sq}, {"Sk", 1037}});
        check.run();
        if (sq > 1) {
          AttentionGraph wrong = graph;
          wrong.modify = [](GraphBuilder& g, ValueId s) { return g.mask_causal(s, CausalAlign::top_left); };
          check.expect_caught(wrong.build());
        }
      }
}

}  // namespace
}  // namespace tilewright
