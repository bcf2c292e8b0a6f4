// Each part against loops written from its formula, in f64 through the engine.
#include "layers/graph_parts.h"

#include <cmath>
#include <functional>
#include <limits>

#include "tests/layers/run_graph.h"

namespace tilewright {
namespace {

using testing::run_graph;
using Values = std::vector<double>;

const Dim B = Dim::named("B"), S = Dim::named("S");
const DimBindings kDims = {{"B", 2}, {"S", 5}};
constexpr size_t kB = 2, kS = 5;

TensorType f64(Shape shape) { return {DType::f64, std::move(shape)}; }
Values values(size_t count, double phase) { return testing::test_values<double>(count, phase); }

void expect_near(const Values& found, const Values& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-13) << "element " << i;
}

TEST(GraphParts, LinearIsXTimesWeightTransposedPlusBias) {
  GraphBuilder g("linear");
  const ValueId x = g.param("x", f64({B, S, 6})), w = g.param("w", f64({4, 6})), b = g.param("b", f64({4}));
  g.result(linear(g, x, w, b));
  Values xs = values(kB * kS * 6, 0.1), ws = values(24, 0.2), bs = values(4, 0.3), expected;
  for (size_t row = 0; row < kB * kS; ++row)
    for (size_t n = 0; n < 4; ++n) {
      double sum = bs[n];
      for (size_t k = 0; k < 6; ++k) sum += xs[row * 6 + k] * ws[n * 6 + k];
      expected.push_back(sum);
    }
  expect_near(run_graph(g.take(), {&xs, &ws, &bs}, kDims), expected);
}

TEST(GraphParts, NormsOverTheLastAxis) {
  Values xs = values(kB * kS * 6, 0.1), ws = values(6, 0.2), bs = values(6, 0.3), rms, layer;
  for (size_t row = 0; row < kB * kS; ++row) {
    double mean = 0, squares = 0, variance = 0;
    for (size_t i = 0; i < 6; ++i) mean += xs[row * 6 + i] / 6, squares += xs[row * 6 + i] * xs[row * 6 + i] / 6;
    for (size_t i = 0; i < 6; ++i) variance += (xs[row * 6 + i] - mean) * (xs[row * 6 + i] - mean) / 6;
    for (size_t i = 0; i < 6; ++i) {
      rms.push_back(xs[row * 6 + i] / std::sqrt(squares + 0.01) * ws[i]);
      layer.push_back((xs[row * 6 + i] - mean) / std::sqrt(variance + 0.01) * ws[i] + bs[i]);
    }
  }
  GraphBuilder r("rms");
  const ValueId rx = r.param("x", f64({B, S, 6})), rw = r.param("w", f64({6}));
  r.result(rms_norm(r, rx, rw, 0.01));
  expect_near(run_graph(r.take(), {&xs, &ws}, kDims), rms);
  GraphBuilder l("layer");
  const ValueId lx = l.param("x", f64({B, S, 6})), lw = l.param("w", f64({6})), lb = l.param("b", f64({6}));
  l.result(layer_norm(l, lx, lw, lb, 0.01));
  expect_near(run_graph(l.take(), {&xs, &ws, &bs}, kDims), layer);
}

TEST(GraphParts, Activations) {
  const auto run = [](Activation activation, Values xs) {
    GraphBuilder g("activation");
    const ValueId x = g.param("x", f64({B, S, 3}));
    g.result(activate(g, x, activation));
    if (activation == Activation::identity) return xs;  // a graph needs no op for it
    return run_graph(g.take(), {&xs}, kDims);
  };
  const Values xs = values(kB * kS * 3, 0.4);
  const auto expect_each = [&](Activation activation, const std::function<double(double)>& f) {
    Values expected;
    for (const double x : xs) expected.push_back(f(x));
    SCOPED_TRACE(std::string(to_string(activation)));
    expect_near(run(activation, xs), expected);
  };
  expect_each(Activation::relu, [](double x) { return std::max(x, 0.0); });
  expect_each(Activation::gelu, [](double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2.0))); });
  expect_each(Activation::silu, [](double x) { return x / (1 + std::exp(-x)); });
  expect_each(Activation::tanh, [](double x) { return std::tanh(x); });
  expect_each(Activation::sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); });
  Values expected;
  for (size_t row = 0; row < kB * kS; ++row) {
    double sum = 0;
    for (size_t i = 0; i < 3; ++i) sum += std::exp(xs[row * 3 + i]);
    for (size_t i = 0; i < 3; ++i) expected.push_back(std::exp(xs[row * 3 + i]) / sum);
  }
  expect_near(run(Activation::softmax, xs), expected);
}

TEST(GraphParts, SwigluGatesAndComesBack) {
  GraphBuilder g("swiglu");
  const ValueId x = g.param("x", f64({B, S, 3})), gate = g.param("gate", f64({4, 3})), up = g.param("up", f64({4, 3})),
                down = g.param("down", f64({3, 4}));
  g.result(swiglu(g, x, gate, up, down));
  Values xs = values(kB * kS * 3, 0.1), gs = values(12, 0.2), us = values(12, 0.3), ds = values(12, 0.4), expected;
  for (size_t row = 0; row < kB * kS; ++row) {
    double hidden[4];
    for (size_t n = 0; n < 4; ++n) {
      double a = 0, b = 0;
      for (size_t k = 0; k < 3; ++k) a += xs[row * 3 + k] * gs[n * 3 + k], b += xs[row * 3 + k] * us[n * 3 + k];
      hidden[n] = a / (1 + std::exp(-a)) * b;
    }
    for (size_t n = 0; n < 3; ++n) {
      double sum = 0;
      for (size_t k = 0; k < 4; ++k) sum += hidden[k] * ds[n * 4 + k];
      expected.push_back(sum);
    }
  }
  expect_near(run_graph(g.take(), {&xs, &gs, &us, &ds}, kDims), expected);
}

TEST(GraphParts, HeadsSplitAndMergeBack) {
  GraphBuilder g("heads");
  const ValueId x = g.param("x", f64({B, S, 6}));
  const ValueId heads = split_heads(g, x, 3);
  EXPECT_EQ(to_string(g.graph().type(heads)), "f64[B,3,S,2]");
  g.result(heads);
  Values xs = values(kB * kS * 6, 0.1), expected;
  for (size_t b = 0; b < kB; ++b)
    for (size_t h = 0; h < 3; ++h)
      for (size_t s = 0; s < kS; ++s)
        for (size_t d = 0; d < 2; ++d) expected.push_back(xs[(b * kS + s) * 6 + h * 2 + d]);
  expect_near(run_graph(g.take(), {&xs}, kDims), expected);
  GraphBuilder back("back");
  const ValueId y = back.param("x", f64({B, S, 6}));
  back.result(merge_heads(back, split_heads(back, y, 3)));
  EXPECT_EQ(run_graph(back.take(), {&xs}, kDims), xs);
}

TEST(GraphParts, RopeTurnsPairsOfBothLayouts) {
  constexpr size_t kD = 6, kHeads = 2, kRows = 9;
  Values xs = values(kB * kHeads * kS * kD, 0.1), cos(kRows * kD / 2), sin(cos);
  for (size_t p = 0; p < kRows; ++p)
    for (size_t i = 0; i < kD / 2; ++i) {
      const double angle = static_cast<double>(p) * std::pow(100.0, -2.0 * static_cast<double>(i) / kD);
      cos[p * kD / 2 + i] = std::cos(angle);
      sin[p * kD / 2 + i] = std::sin(angle);
    }
  for (const RopeLayout layout : {RopeLayout::rotate_half, RopeLayout::interleaved})
    for (const int64_t first : {0, 3, 6}) {  // from 6 on, the last rows are past the tables
      Values expected(xs.size());
      for (size_t head = 0; head < kB * kHeads; ++head)
        for (size_t s = 0; s < kS; ++s)
          for (size_t i = 0; i < kD / 2; ++i) {
            const size_t row = (head * kS + s) * kD, p = std::min(static_cast<size_t>(first) + s, kRows - 1);
            const bool half = layout == RopeLayout::rotate_half;
            const size_t a = row + (half ? i : 2 * i), b = half ? a + kD / 2 : a + 1;
            const double c = cos[p * kD / 2 + i], n = sin[p * kD / 2 + i];
            expected[a] = xs[a] * c - xs[b] * n;
            expected[b] = xs[b] * c + xs[a] * n;
          }
      for (const bool per_batch : {false, true}) {
        if (first == 0 && per_batch) continue;
        SCOPED_TRACE(fmt::format("first {} per batch {}", first, per_batch));
        GraphBuilder g("rope");
        const ValueId x = g.param("x", f64({B, 2, S, 6})), c = g.param("cos", f64({9, 3})),
                      n = g.param("sin", f64({9, 3}));
        ValueId at = first == 0 ? kNoValue : g.constant_int(first, DType::i64);
        if (per_batch) at = g.broadcast(at, {B});
        g.result(rope(g, x, c, n, layout, at));
        expect_near(run_graph(g.take(), {&xs, &cos, &sin}, kDims), expected);
      }
    }
}

/// Attention of [B,H,S,D] with groups of heads by its definition.
Values reference_attention(const Values& q, const Values& k, const Values& v, size_t heads, size_t kv_heads, size_t sq,
                           size_t sk, size_t d, double scale,
                           const std::function<double(size_t, size_t, size_t, size_t, double)>& score) {
  Values out;
  for (size_t b = 0; b < kB; ++b)
    for (size_t h = 0; h < heads; ++h)
      for (size_t i = 0; i < sq; ++i) {
        const double* query = &q[((b * heads + h) * sq + i) * d];
        const size_t kv_head = b * kv_heads + h / (heads / kv_heads);
        Values row(d);
        double sum = 0;
        for (size_t j = 0; j < sk; ++j) {
          double s = 0;
          for (size_t c = 0; c < d; ++c) s += query[c] * k[(kv_head * sk + j) * d + c];
          const double p = std::exp(score(b, h, i, j, s * scale));
          sum += p;
          for (size_t c = 0; c < d; ++c) row[c] += p * v[(kv_head * sk + j) * d + c];
        }
        for (const double x : row) out.push_back(sum == 0 ? 0 : x / sum);
      }
  return out;
}

TEST(GraphParts, AttentionInAllItsForms) {
  constexpr size_t kH = 4, kG = 2, kSk = 7, kD = 3;
  constexpr double kNone = -std::numeric_limits<double>::infinity();
  Values q = values(kB * kH * kS * kD, 0.1), k = values(kB * kG * kSk * kD, 0.2), v = values(kB * kG * kSk * kD, 0.3);
  Values bias = values(kH * kSk, 0.5), slopes = values(kH, 0.6);
  for (const bool causal : {false, true})
    for (const bool alibi : {false, true})
      for (const bool biased : {false, true})
        for (const int64_t offset : {0, 2}) {
          SCOPED_TRACE(fmt::format("causal {} alibi {} bias {} offset {}", causal, alibi, biased, offset));
          GraphBuilder g("attention");
          std::vector<Values*> params = {&q, &k, &v};
          const ValueId gq = g.param("q", f64({B, 4, S, 3})), gk = g.param("k", f64({B, 2, 7, 3})),
                        gv = g.param("v", f64({B, 2, 7, 3}));
          AttentionForm form;
          form.scale = 0.7;
          form.causal = causal;
          form.alibi = alibi;
          if (alibi) form.slopes = g.param("slopes", f64({4})), params.push_back(&slopes);
          if (biased) form.bias = g.param("bias", f64({4, 1, 7})), params.push_back(&bias);
          if (offset) form.offset = g.constant_int(offset, DType::i64);
          form.mask = g.binary(Op::ne, g.index(3, {1, 1, 1, 7}), g.constant_int(1, DType::i64));
          g.result(attention(g, gq, gk, gv, form).output);
          const auto expected = reference_attention(
              q, k, v, kH, kG, kS, kSk, kD, 0.7, [&](size_t, size_t h, size_t i, size_t j, double s) {
                const auto distance = static_cast<int64_t>(j) - static_cast<int64_t>(i) - offset;
                if (j == 1 || (causal && distance > 0)) return kNone;
                if (alibi) s += slopes[h] * static_cast<double>(distance);
                return biased ? s + bias[h * kSk + j] : s;
              });
          const Graph graph = g.take();
          expect_near(run_graph(graph, params, kDims), expected);
          EXPECT_EQ(testing::test_engine().compile(graph)->stats().fused_attentions, 1);
        }
}

TEST(GraphParts, AttentionOperandsAreCastAndScoresStayWide) {
  GraphBuilder g("cast");
  const TensorType type{DType::f32, {B, 2, S, 4}};
  const ValueId q = g.param("q", type), k = g.param("k", type), v = g.param("v", type);
  AttentionForm form;
  form.operands = DType::bf16;
  const AttentionValues values = attention(g, q, k, v, form);
  g.result(values.output);
  EXPECT_EQ(to_string(g.graph().type(values.output)), "f32[B,2,S,4]");
  EXPECT_EQ(to_string(g.graph().type(values.weights)), "f32[B,2,S,S]");
  for (const Node& node : g.graph().nodes) {
    if (node.op != Op::matmul && node.op != Op::matmul_nt) continue;
    for (const ValueId operand : node.operands) EXPECT_EQ(g.graph().type(operand).dtype, DType::bf16);
  }
}

}  // namespace
}  // namespace tilewright
