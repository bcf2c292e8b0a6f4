// Each precision policy is judged by its own bound: what it permits passes, what only a looser one permits fails.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "ir/accuracy.h"

namespace tilewright {
namespace {

/// To nearest even, by the bits.
float bf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u);
}

/// One product as a kernel of the policy computes it, large terms first (the naive run adds small ones first).
float product(float a, float b, PrecisionPolicy policy) {
  const float a_high = bf16(a), b_high = bf16(b);
  switch (policy) {
    case PrecisionPolicy::bf16: return a_high * b_high;
    case PrecisionPolicy::f32_x3: return a_high * b_high + (a_high * bf16(b - b_high) + bf16(a - a_high) * b_high);
    default: return a * b;
  }
}

constexpr int64_t kRows = 48, kKeys = 160, kDim = 32;

/// Attention of one head, weights not normalised before they meet V, keys from the last to the first.
struct Attention {
  std::vector<float> q, k, v, o;
  Graph graph;
  DimBindings dims{{"S", kRows}, {"K", kKeys}};

  Attention() {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (auto* x : {&q, &k, &v}) {
      x->resize(static_cast<size_t>((x == &q ? kRows : kKeys) * kDim));
      for (float& value : *x) value = normal(random);
    }
    o.resize(static_cast<size_t>(kRows * kDim));
    GraphBuilder g("attention");
    const Dim s = Dim::named("S"), keys = Dim::named("K");
    const ValueId a = g.param("q", {DType::f32, {s, kDim}}), b = g.param("k", {DType::f32, {keys, kDim}});
    const ValueId c = g.param("v", {DType::f32, {keys, kDim}});
    const ValueId scaled = g.binary(Op::mul, g.matmul_nt(a, b), g.constant(0.25, DType::f32));
    g.result(g.matmul(g.softmax(scaled, 1), c));
    graph = g.take();
  }

  void run(PrecisionPolicy policy) {
    for (int64_t row = 0; row < kRows; ++row) {
      std::vector<float> p(static_cast<size_t>(kKeys));
      float sum = 0;
      for (int64_t key = kKeys; key-- > 0;) {
        float s = 0;
        for (int64_t d = 0; d < kDim; ++d) s += product(q[at(row, d)], k[at(key, d)], policy);
        sum += p[static_cast<size_t>(key)] = std::exp2(s * 0.25f * 1.4426950408889634f);
      }
      for (int64_t d = 0; d < kDim; ++d) {
        float out = 0;
        for (int64_t key = kKeys; key-- > 0;) out += product(p[static_cast<size_t>(key)], v[at(key, d)], policy);
        o[at(row, d)] = out / sum;
      }
    }
  }

  AccuracyReport judge(PrecisionPolicy policy) {
    graph.precision = policy;
    const TensorView in[] = {view(q, kRows), view(k, kKeys), view(v, kKeys)}, out[] = {view(o, kRows)};
    const auto reports = verify_outputs(graph, dims, in, out);
    EXPECT_TRUE(reports) << to_string(reports.error());
    return (*reports)[0];
  }

  static size_t at(int64_t row, int64_t d) { return static_cast<size_t>(row * kDim + d); }
  static TensorView view(std::vector<float>& x, int64_t rows) {
    return TensorView::contiguous(x.data(), DType::f32, {rows, kDim});
  }
};

TEST(Precision, EachPolicyIsJudgedByItsOwnBound) {
  const auto rank = [](PrecisionPolicy p) {
    return p == PrecisionPolicy::bf16 ? 2 : p == PrecisionPolicy::f32_x3 ? 1 : 0;
  };
  Attention attention;
  for (const PrecisionPolicy ran : kPrecisionPolicies) {
    attention.run(ran);
    for (const PrecisionPolicy asked : kPrecisionPolicies) {
      const AccuracyReport report = attention.judge(asked);
      EXPECT_EQ(report.pass, rank(ran) <= rank(asked))
          << to_string(ran) << " judged as " << to_string(asked) << ": " << to_string(report);
    }
  }
}

TEST(Precision, ProductsKeepTheStatedBounds) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> mantissa(1, 2);
  double worst[2] = {0, 0};
  for (int i = 0; i < 20000; ++i) {
    const float a = mantissa(random), b = -mantissa(random);
    const double exact = static_cast<double>(a) * b;
    const auto relative = [&](PrecisionPolicy p) { return std::fabs((product(a, b, p) - exact) / exact); };
    worst[0] = std::max(worst[0], relative(PrecisionPolicy::f32_x3));
    worst[1] = std::max(worst[1], relative(PrecisionPolicy::bf16));
  }
  EXPECT_LE(worst[0], 0x1p-14);
  EXPECT_GE(worst[0], 0x1p-16);
  EXPECT_LE(worst[1], 0x1p-7 + 0x1p-16);
  EXPECT_GE(worst[1], 0x1p-8);
}

TEST(Precision, NaiveProductsAreThoseOfThePolicy) {
  const float a = 1 + 0x1p-9f + 0x1p-16f, b = 3 + 0x1p-12f;  // a: bf16(a) = 1, rest 2^-9 + 2^-16
  std::vector<float> x{a}, y{b};
  GraphBuilder g("product");
  const ValueId left = g.param("a", {DType::f32, {1, 1}}), right = g.param("b", {DType::f32, {1, 1}});
  g.result(g.matmul(left, right));
  Graph graph = g.take();
  const TensorView in[] = {TensorView::contiguous(x.data(), DType::f32, {1, 1}),
                           TensorView::contiguous(y.data(), DType::f32, {1, 1})};
  const auto value = [&](PrecisionPolicy policy, Precision how) {
    graph.precision = policy;
    return static_cast<float>(interpret(graph, {}, in, 0, std::nullopt, how)->values[0]);
  };
  for (const PrecisionPolicy policy : kPrecisionPolicies)
    EXPECT_EQ(value(policy, Precision::oracle), static_cast<float>(static_cast<double>(a) * b));
  EXPECT_EQ(value(PrecisionPolicy::bf16, Precision::naive), 3);
  EXPECT_EQ(value(PrecisionPolicy::f32_x3, Precision::naive), 3 + (0x1p-12f + 3 * (0x1p-9f + 0x1p-16f)));
  EXPECT_EQ(value(PrecisionPolicy::f32_fma, Precision::naive), a * b);
  EXPECT_EQ(value(PrecisionPolicy::f32, Precision::naive), a * b);
}

}  // namespace
}  // namespace tilewright
