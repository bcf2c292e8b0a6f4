// Spec and tile interpreters against the graph oracle, for many block sizes and splits.
#include <gtest/gtest.h>

#include <cmath>

#include "compiler/passes.h"
#include "ir/interp.h"
#include "tests/support/test_tensor.h"

namespace tilewright {
namespace {

using testing::Layout;
using testing::TestTensor;

constexpr int64_t kHeadDim = 5, kValueDim = 3, kHeads = 4;

struct Options {
  bool causal = false, padding = false, sink = false;
  Normaliser normaliser = Normaliser::softmax;
  int64_t batch = 2, q_len = 7, kv_len = 11;
};

enum ForwardSlot { kTheQuery, kTheKey, kTheValue, kTheLength, kTheSink, kTheOutput, kTheLse };

/// One i64 axis expression: the axis itself, or h / 2 for the kv heads.
Expr axis(Axis a, int64_t divisor = 1) {
  Expr e;
  ExprId id = e.index(a);
  if (divisor != 1) id = e.op(Op::div, DType::i64, {id, e.constant_int(divisor, DType::i64)});
  e.set_root(id);
  return e;
}

/// GQA with group 2, scale 0.5, and the masks the options ask for.
AttentionSpec make_spec(const Options& options) {
  const Dim b = Dim::named("B"), q = Dim::named("Sq"), k = Dim::named("Sk");
  AttentionSpec spec;
  spec.name = "test";
  spec.tensors = {{"q", {DType::f32, {b, kHeads, q, kHeadDim}}},
                  {"k", {DType::f32, {b, kHeads / 2, k, kHeadDim}}},
                  {"v", {DType::f32, {b, kHeads / 2, k, kValueDim}}},
                  {"len", {DType::i32, {b}}},
                  {"sink", {DType::f32, {kHeads}}},
                  {"o", {DType::f32, {b, kHeads, q, kValueDim}}, true},
                  {"l", {DType::f32, {b, kHeads, q}}, true}};
  spec.batch = {b};
  spec.heads = {kHeads};
  spec.q_len = q;
  spec.kv_len = k;
  spec.head_group = 2;
  spec.dots = {{{kTheQuery, {axis(Axis::b), axis(Axis::h), axis(Axis::q), axis(Axis::d)}},
                {kTheKey, {axis(Axis::b), axis(Axis::h, 2), axis(Axis::kv), axis(Axis::d)}},
                kHeadDim}};
  spec.value = {kTheValue, {axis(Axis::b), axis(Axis::h, 2), axis(Axis::kv), axis(Axis::d)}};
  spec.value_dim = kValueDim;
  spec.score.set_root(
      spec.score.op(Op::mul, DType::f32, {spec.score.score(DType::f32), spec.score.constant(0.5, DType::f32)}));
  const auto padding = [](Expr& e) {
    return e.op(
        Op::lt, DType::boolean,
        {e.index(Axis::kv), e.op(Op::cast, DType::i64, {e.load(kTheLength, DType::i32, {e.index(Axis::b)}, true)})});
  };
  ExprId keep = spec.keep.constant_int(1, DType::boolean);
  spec.keep_kv.set_root(spec.keep_kv.constant_int(1, DType::boolean));
  if (options.causal) {
    const ExprId p = spec.keep.op(Op::add, DType::i64, {spec.keep.index(Axis::q), spec.keep.dim(k - q)});
    keep = spec.keep.op(Op::le, DType::boolean, {spec.keep.index(Axis::kv), p});
    Expr& end = spec.kv_range.end;
    end.set_root(end.op(Op::add, DType::i64, {end.index(Axis::q_hi), end.dim(k - q + 1)}));
    Expr& full = spec.kv_range.full;
    if (!options.padding)
      full.set_root(
          full.op(Op::le, DType::boolean,
                  {full.index(Axis::kv_hi), full.op(Op::add, DType::i64, {full.index(Axis::q_lo), full.dim(k - q)})}));
  }
  if (options.padding) {
    keep = spec.keep.op(Op::logical_and, DType::boolean, {keep, padding(spec.keep)});
    spec.keep_kv.set_root(padding(spec.keep_kv));
  }
  spec.keep.set_root(keep);
  spec.normaliser = options.normaliser;
  if (options.sink) {
    spec.sink.emplace();
    spec.sink->set_root(spec.sink->load(kTheSink, DType::f32, {spec.sink->index(Axis::h)}, true));
  }
  spec.output = {kTheOutput, {axis(Axis::b), axis(Axis::h), axis(Axis::q), axis(Axis::d)}};
  if (options.normaliser == Normaliser::softmax)
    spec.logsumexp = {kTheLse, {axis(Axis::b), axis(Axis::h), axis(Axis::q)}};
  return spec;
}

/// The same attention as a graph.
Graph make_graph(const Options& options) {
  const Dim b = Dim::named("B"), q = Dim::named("Sq"), k = Dim::named("Sk");
  GraphBuilder g("test");
  const ValueId query = g.param("q", {DType::f32, {b, kHeads, q, kHeadDim}});
  const ValueId key = g.param("k", {DType::f32, {b, kHeads / 2, k, kHeadDim}});
  const ValueId value = g.param("v", {DType::f32, {b, kHeads / 2, k, kValueDim}});
  const ValueId len = g.param("len", {DType::i32, {b}});
  const ValueId sink = g.param("sink", {DType::f32, {kHeads}});
  ValueId s = g.matmul_nt(query, g.repeat_heads(key, 2));
  s = g.binary(Op::mul, s, g.constant(0.5, DType::f32));
  const double hidden = options.normaliser == Normaliser::softmax ? -HUGE_VAL : 0;
  const ValueId other = g.constant(hidden, DType::f32);
  if (options.causal) {
    const ValueId p = g.binary(Op::add, g.index(2, {1, 1, q, 1}), g.dim(k - q));
    s = g.select(g.binary(Op::le, g.index(3, {1, 1, 1, k}), p), s, other);
  }
  if (options.padding) {
    const ValueId lengths = g.cast(g.reshape(len, {b, 1, 1, 1}), DType::i64);
    s = g.select(g.binary(Op::lt, g.index(3, {1, 1, 1, k}), lengths), s, other);
  }
  const ValueId extra = options.sink ? sink : kNoValue;
  const bool softmax = options.normaliser == Normaliser::softmax;
  g.result(g.matmul(softmax ? g.softmax(s, 3, extra) : s, g.repeat_heads(value, 2)));
  if (softmax) g.result(g.logsumexp(s, 3, false, extra));
  return g.take();
}

void expect_close(const std::vector<long double>& found, const std::vector<long double>& expected,
                  const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::isnan(expected[i]) || std::isinf(expected[i])) {
      EXPECT_TRUE(found[i] == expected[i] || (std::isnan(found[i]) && std::isnan(expected[i])))
          << what << " at " << i << ": " << found[i] << " against " << expected[i];
    } else {
      EXPECT_NEAR(static_cast<double>(found[i]), static_cast<double>(expected[i]), 1e-12) << what << " at " << i;
    }
  }
}

void check(const Options& options, bool poison_padding = false) {
  std::mt19937_64 random(3);
  std::normal_distribution<double> gauss;
  const AttentionSpec spec = make_spec(options);
  const Graph graph = make_graph(options);
  const DimBindings dims{{"B", options.batch}, {"Sq", options.q_len}, {"Sk", options.kv_len}};
  std::vector<TestTensor> tensors;
  std::vector<TensorView> views;
  for (const SpecTensor& tensor : spec.tensors) {
    std::vector<int64_t> shape;
    for (const Dim& dim : tensor.type.shape) shape.push_back(*dim.evaluate(dims));
    TestTensor& t = tensors.emplace_back(tensor.type.dtype, shape, Layout::reversed, random);
    for (int64_t i = 0; i < t.size(); ++i) {
      const int64_t kv = i / kValueDim % std::max<int64_t>(1, options.kv_len);
      const bool stale = poison_padding && tensor.name == "v" && kv >= 6;
      t.set(i, tensor.name == "len" ? std::min<double>(6, static_cast<double>(i) * 6)
               : stale              ? std::nan("")
                                    : gauss(random));
    }
    views.push_back(t.view());
  }
  std::vector<std::vector<long double>> expected;
  for (size_t r = 0; r < graph.results.size(); ++r) {
    auto out = interpret(graph, dims, std::span(views).first(5), r, std::nullopt, Precision::oracle);
    ASSERT_TRUE(out.ok()) << to_string(out.error());
    expected.push_back(out->values);
  }
  auto fused = interpret(spec, dims, views);
  ASSERT_TRUE(fused.ok()) << to_string(fused.error());
  for (size_t r = 0; r < expected.size(); ++r) expect_close((*fused)[r].values, expected[r], "spec");
  const TileProgram program = build_tile_program(spec);
  for (int64_t block_q : {1, 3, 64})
    for (int64_t block_kv : {1, 4, 64})
      for (int64_t splits : {1, 2, 5}) {
        auto tiled = interpret(program, dims, views, block_q, block_kv, splits);
        ASSERT_TRUE(tiled.ok()) << to_string(tiled.error());
        for (size_t r = 0; r < expected.size(); ++r)
          expect_close((*tiled)[r].values, expected[r],
                       fmt::format("tiles {}x{}, {} splits", block_q, block_kv, splits));
      }
}

TEST(Attention, Plain) { check({}); }
TEST(Attention, Causal) { check({.causal = true}); }
TEST(Attention, CausalWithEmptyRows) { check({.causal = true, .q_len = 9, .kv_len = 5}); }
TEST(Attention, PaddingWithAnEmptySequence) { check({.padding = true}); }
TEST(Attention, PaddingHidesStaleMemory) { check({.padding = true}, true); }
TEST(Attention, CausalPaddingAndSink) { check({.causal = true, .padding = true, .sink = true}); }
TEST(Attention, NoNormaliser) { check({.causal = true, .padding = true, .normaliser = Normaliser::none}); }
TEST(Attention, EmptySequences) {
  check({.sink = true, .kv_len = 0});
  check({.q_len = 0});
  check({.batch = 0});
}

}  // namespace
}  // namespace tilewright
