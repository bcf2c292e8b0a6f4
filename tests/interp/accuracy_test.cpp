// The accuracy rule: passes what is right, fails what is wrong, reads outputs through their layout, samples long rows.
#include "ir/accuracy.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ir/interp/number.h"
#include "tests/support/random_graph.h"

namespace tilewright {
namespace {

using testing::Layout;
using testing::TestTensor;

struct AccuracyCase {
  Graph graph;
  DimBindings dims;
  std::vector<TestTensor> inputs, outputs;
  std::vector<TensorView> in, out;

  AccuracyCase(Graph g, DimBindings d, uint64_t seed = 1) : graph(std::move(g)), dims(std::move(d)) {
    std::mt19937_64 random(seed);
    const testing::Fill gauss;
    for (ValueId id : graph.params) {
      inputs.emplace_back(graph.type(id).dtype, testing::concrete_shape(graph.type(id), dims), Layout::gapped, random);
      testing::fill(inputs.back(), gauss, random);
      in.push_back(inputs.back().view());
    }
    // What a good kernel gives: the oracle's values rounded once.
    for (size_t r = 0; r < graph.results.size(); ++r) {
      const TensorType& type = graph.type(graph.results[r]);
      outputs.emplace_back(type.dtype, testing::concrete_shape(type, dims), Layout::reversed, random);
      auto values = interpret(graph, dims, in, r, std::nullopt, Precision::oracle);
      for (size_t i = 0; i < values->values.size(); ++i)
        outputs.back().set(static_cast<int64_t>(i), static_cast<double>(values->values[i]));
      out.push_back(outputs.back().view());
    }
  }
  std::vector<AccuracyReport> verify(const AccuracyOptions& options = {}) {
    auto reports = verify_outputs(graph, dims, in, out, options);
    EXPECT_TRUE(reports.ok()) << (reports ? "" : to_string(reports.error()));
    return reports ? *reports : std::vector<AccuracyReport>();
  }
};

/// Causal attention whose output is laid out [B, Sq, H·D].
Graph packed_attention(DType dtype = DType::f32) {
  const Dim b = Dim::named("B"), s = Dim::named("S");
  GraphBuilder g("packed");
  const TensorType type{dtype, {b, 3, s, 8}};
  const ValueId q = g.param("q", type), k = g.param("k", type), v = g.param("v", type);
  const ValueId p = g.softmax(g.mask_causal(g.matmul_nt(q, k), CausalAlign::top_left), 3);
  ValueId o = g.matmul(dtype == DType::f64 ? p : g.cast(p, dtype), v);
  o = g.reshape(g.transpose(o, {0, 2, 1, 3}), {b, s, 24});
  g.result(g.cast(o, dtype));
  g.result(g.logsumexp(g.matmul_nt(q, k), 3, false));
  return g.take();
}

TEST(Accuracy, TheRoundedOracleIsWithinBounds) {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16, DType::f64}) {
    AccuracyCase setup(packed_attention(dtype), {{"B", 2}, {"S", 33}});
    for (const AccuracyReport& report : setup.verify()) {
      EXPECT_TRUE(report.pass) << report.failure;
      EXPECT_FALSE(report.sampled);
    }
    EXPECT_EQ(setup.verify()[0].elements, 2 * 33 * 24);
    EXPECT_EQ(setup.verify()[1].elements, 2 * 3 * 33);
  }
}

TEST(Accuracy, OneWrongElementFailsAndIsNamed) {
  AccuracyCase setup(packed_attention(), {{"B", 2}, {"S", 33}});
  setup.outputs[0].set((33 + 7) * 24 + 13, setup.outputs[0].get((33 + 7) * 24 + 13) + 1e-4);
  const AccuracyReport report = setup.verify()[0];
  EXPECT_FALSE(report.pass);
  EXPECT_EQ(report.worst, (std::vector<int64_t>{1, 7, 13}));
  EXPECT_NE(report.failure.find("[1,7,13]"), std::string::npos) << report.failure;
}

TEST(Accuracy, NanAndInfinityMustStandWhereTheOracleHasThem) {
  AccuracyCase setup(packed_attention(), {{"B", 1}, {"S", 5}});
  setup.outputs[0].set(0, std::nan(""));
  EXPECT_FALSE(setup.verify()[0].pass);
  AccuracyOptions options;
  options.exempt = [](size_t result, std::span<const int64_t> index) {
    return result == 0 && index[0] == 0 && index[1] == 0 && index[2] == 0;
  };
  EXPECT_TRUE(setup.verify(options)[0].pass);
  setup.outputs[0].set(0, HUGE_VAL);
  EXPECT_FALSE(setup.verify()[0].pass);
}

TEST(Accuracy, ABiasBelowTheMaximumBoundFailsTheMean) {
  AccuracyCase setup(packed_attention(), {{"B", 1}, {"S", 600}});
  double scale = 0;
  for (int64_t i = 0; i < setup.inputs[2].size(); ++i) scale = std::max(scale, std::fabs(setup.inputs[2].get(i)));
  for (int64_t i = 0; i < setup.outputs[0].size(); ++i)
    setup.outputs[0].set(i, setup.outputs[0].get(i) + 3 * 0x1p-23 * scale);
  const AccuracyReport report = setup.verify()[0];
  EXPECT_FALSE(report.pass);
  EXPECT_NE(report.failure.find("mean"), std::string::npos) << report.failure;
}

TEST(Accuracy, SamplesRowsOfLongSequences) {
  AccuracyCase setup(packed_attention(), {{"B", 1}, {"S", 600}});
  AccuracyOptions options;
  options.full_up_to = 1000;
  options.sampled_rows = 20;
  const AccuracyReport report = setup.verify(options)[0];
  EXPECT_TRUE(report.pass) << report.failure;
  EXPECT_TRUE(report.sampled);
  EXPECT_GE(report.rows, 20);
  EXPECT_LE(report.rows, 60);
  setup.outputs[0].set(64 * 24, 1e3);  // head 0, first row after a block border
  EXPECT_FALSE(setup.verify(options)[0].pass);
}

TEST(Accuracy, SubnormalInputsMayBeFlushed) {
  GraphBuilder g("tiny");
  const ValueId a = g.param("a", {DType::f32, {4, 4}}), b = g.param("b", {DType::f32, {4, 4}});
  g.result(g.matmul(a, b));
  AccuracyCase setup(g.take(), {});
  for (int64_t i = 0; i < 16; ++i) {
    setup.inputs[0].set(i, 0x1p126);
    setup.inputs[1].set(i, 0x1p-130);
    setup.outputs[0].set(i, 0);
  }
  AccuracyReport report = setup.verify()[0];
  EXPECT_TRUE(report.pass) << report.failure;
  EXPECT_TRUE(report.flushed_inputs);
  for (int64_t i = 0; i < 16; ++i) setup.outputs[0].set(i, 4 * 0x1p-4);
  report = setup.verify()[0];
  EXPECT_TRUE(report.pass) << report.failure;
  EXPECT_FALSE(report.flushed_inputs);
}

// x·y - rowsum(x∘y), 0 to the bit where both are summed in one order: rounding of the terms is no fault, more is.
TEST(Accuracy, SumsThatCancelAreJudgedByTheirTerms) {
  const Dim n = Dim::named("N");
  GraphBuilder g("cancels");
  const ValueId x = g.param("x", {DType::f32, {2, 1, n}}), y = g.param("y", {DType::f32, {2, 1, n}});
  const ValueId rows = g.reduce(Op::reduce_sum, g.binary(Op::mul, x, y), 2);
  g.result(g.binary(Op::sub, g.matmul_nt(x, y), rows));
  g.result(g.matmul_nt(x, y));
  AccuracyCase setup(g.take(), {{"N", 64}});
  double terms = 0;
  for (int64_t i = 0; i < 64; ++i) terms += 2 * std::fabs(setup.inputs[0].get(i) * setup.inputs[1].get(i));
  setup.outputs[0].set(0, 0.9 * 0x1p-23 * terms);
  EXPECT_TRUE(setup.verify()[0].pass) << setup.verify()[0].failure;
  setup.outputs[0].set(0, 1.1 * 0x1p-23 * terms);
  EXPECT_FALSE(setup.verify()[0].pass);
  // A product of what is given is no sum of sums.
  const double product = setup.outputs[1].get(0);
  setup.outputs[1].set(0, product + 0.9 * 0x1p-23 * terms);
  EXPECT_FALSE(setup.verify()[1].pass);
}

TEST(Accuracy, EmptyResultsPass) {
  AccuracyCase setup(packed_attention(), {{"B", 0}, {"S", 5}});
  for (const AccuracyReport& report : setup.verify()) EXPECT_TRUE(report.pass);
}

}  // namespace
}  // namespace tilewright
