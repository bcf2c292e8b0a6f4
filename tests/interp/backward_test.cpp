// The oracle of BackwardSpec against central differences of the forward graph's oracle, and its rules of masked memory.
#include <gtest/gtest.h>

#include <cmath>

#include "ir/interp.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/support/test_tensor.h"

namespace tilewright {
namespace {

using testing::Layout;
using testing::TestTensor;

/// Causal at the bottom right, keys up to len[b], grouped heads, a bias of every score and a clamped table.
constexpr std::string_view kForward = R"(
graph @forward(%q: f64[B,4,Sq,5], %k: f64[B,2,Sk,5], %v: f64[B,2,Sk,3], %bias: f64[4,Sq,Sk], %table: f64[4,3], %len: i64[B])
    -> (f64[B,4,Sq,3], f64[B,4,Sq]) {
  %kh = repeat_heads %k, times=2 : f64[B,4,Sk,5]
  %vh = repeat_heads %v, times=2 : f64[B,4,Sk,3]
  %s = matmul_nt %q, %kh : f64[B,4,Sq,Sk]
  %a = mul %s, 0.5 : f64[B,4,Sq,Sk]
  %i = index axis=2 : i64[1,1,Sq,1]
  %j = index axis=3 : i64[1,1,1,Sk]
  %h = index axis=1 : i64[1,4,1,1]
  %r = sub %i, %j : i64[1,1,Sq,Sk]
  %t = load %table[%h, %r] : f64[1,4,Sq,Sk]
  %c = add %a, %t : f64[B,4,Sq,Sk]
  %d = add %c, %bias : f64[B,4,Sq,Sk]
  %e = mask_causal %d, align=bottom_right : f64[B,4,Sq,Sk]
  %n = reshape %len : i64[B,1,1,1]
  %keep = lt %j, %n : bool[B,1,1,Sk]
  %f = select %keep, %e, -inf : f64[B,4,Sq,Sk]
  %p = softmax %f, axis=3 : f64[B,4,Sq,Sk]
  %o = matmul %p, %vh : f64[B,4,Sq,3]
  %l = logsumexp %f, axis=3, keepdims=false : f64[B,4,Sq]
  return %o, %l
}
)";

constexpr std::string_view kBackward = R"(
backward @backward(%q: f64[B,4,Sq,5], %k: f64[B,2,Sk,5], %v: f64[B,2,Sk,3], %bias: f64[4,Sq,Sk], %table: f64[4,3],
    %len: i64[B], %do: f64[B,4,Sq,3], %lse: f64[B,4,Sq], %delta: f64[B,4,Sq],
    out %dq: f64[B,4,Sq,5], out %dk: f64[B,2,Sk,5], out %dv: f64[B,2,Sk,3], out %dbias: f64[4,Sq,Sk],
    out %dtable: f64[4,3]) {
  batch [B] heads [4] group 2 q_len Sq kv_len Sk accumulate f64
  dot 5 { query %q[b, h, q, d] key %k[b, div(h, 2), kv, d] }
  output_gradient 3 { query %do[b, h, q, d] key %v[b, div(h, 2), kv, d] }
  keep(b, h, q, kv) { logical_and(le(kv, add(q, dim(Sk-Sq))), lt(kv, %len[b])) }
  keep_kv(b, h, kv) { lt(kv, %len[b]) }
  weights(s, t; b, h, q, kv) {
    let r = sub(q, kv);
    let lse = %lse[b, h, q];
    let e = add(add(mul(s, 0.5), clamped %table[h, r]), %bias[h, q, kv]);
    let p = exp(sub(e, select(eq(lse, -inf), 0, lse)));
    let de = mul(p, sub(t, %delta[b, h, q]));
    let ds = mul(de, 0.5);
  }
  row 5 { weight ds operand %k[b, div(h, 2), kv, d] output %dq[b, h, q, d] }
  column 5 { weight ds operand %q[b, h, q, d] output %dk[b, div(h, 2), kv, d] }
  column 3 { weight p operand %do[b, h, q, d] output %dv[b, div(h, 2), kv, d] }
  captured { weight de output %dbias[h, q, kv] }
  captured { weight de output clamped %dtable[h, r] }
}
)";

enum BackwardSlot { kQ, kK, kV, kBias, kTable, kLen, kDo, kLse, kDelta, kDq };

struct ForwardAndBackward {
  BackwardSpec spec;
  Graph forward;
  DimBindings dims;
  std::vector<TestTensor> tensors;  ///< of the spec
  std::vector<TensorView> views;

  ForwardAndBackward(int64_t batch, int64_t q_len, int64_t kv_len)
      : spec(*parse_backward(kBackward)),
        forward(*parse_graph(kForward)),
        dims{{"B", batch}, {"Sq", q_len}, {"Sk", kv_len}} {
    EXPECT_EQ(to_string(verify(spec)), "");
    EXPECT_EQ(to_string(verify(forward)), "");
    std::mt19937_64 random(5);
    std::normal_distribution<double> gauss;
    for (const SpecTensor& tensor : spec.tensors) {
      std::vector<int64_t> shape;
      for (const Dim& dim : tensor.type.shape) shape.push_back(*dim.evaluate(dims));
      TestTensor& t = tensors.emplace_back(tensor.type.dtype, shape, Layout::reversed, random);
      for (int64_t i = 0; i < t.size(); ++i)
        t.set(i, tensor.name == "len" ? static_cast<double>(i == 0 ? kv_len - 2 : 0) : gauss(random));
      views.push_back(t.view());
    }
    const auto o = forward_result(0);
    const auto lse = forward_result(1);
    for (size_t row = 0; row < lse.size(); ++row) {
      long double delta = 0;
      for (size_t d = 0; d < 3; ++d) delta += o[row * 3 + d] * tensors[kDo].get(static_cast<int64_t>(row * 3 + d));
      tensors[kDelta].set(static_cast<int64_t>(row), static_cast<double>(delta));
      tensors[kLse].set(static_cast<int64_t>(row), static_cast<double>(lse[row]));
    }
  }

  std::vector<long double> forward_result(size_t result) const {
    auto out = interpret(forward, dims, std::span(views).first(kDo), result, std::nullopt, Precision::oracle);
    EXPECT_TRUE(out.ok()) << to_string(out.error());
    return out->values;
  }

  /// Σ dO∘O
  long double loss() const {
    const auto o = forward_result(0);
    long double sum = 0;
    for (size_t i = 0; i < o.size(); ++i) sum += o[i] * tensors[kDo].get(static_cast<int64_t>(i));
    return sum;
  }

  std::vector<OracleTensor> backward() const {
    auto out = interpret(spec, dims, views);
    EXPECT_TRUE(out.ok()) << to_string(out.error());
    return *out;
  }
};

TEST(Backward, AgreesWithCentralDifferences) {
  ForwardAndBackward c(2, 4, 6);
  const auto gradients = c.backward();
  ASSERT_EQ(gradients.size(), 5u);
  for (const int input : {kQ, kK, kV, kBias, kTable}) {
    const auto& found = gradients[static_cast<size_t>(input)].values;  // outputs stand in the order of the inputs
    TestTensor& x = c.tensors[static_cast<size_t>(input)];
    ASSERT_EQ(static_cast<int64_t>(found.size()), x.size());
    for (int64_t i = 0; i < x.size(); ++i) {
      constexpr double kStep = 1e-4;
      const double at = x.get(i);
      x.set(i, at + kStep);
      const long double above = c.loss();
      x.set(i, at - kStep);
      const long double below = c.loss();
      x.set(i, at);
      EXPECT_NEAR(static_cast<double>(found[static_cast<size_t>(i)]),
                  static_cast<double>((above - below) / (2 * kStep)), 1e-7)
          << c.spec.tensors[static_cast<size_t>(input)].name << " at " << i;
    }
  }
}

TEST(Backward, EmptyRowsGiveExactZeros) {
  ForwardAndBackward c(1, 9, 4);  // rows 0 to 4 see nothing
  const auto gradients = c.backward();
  for (int64_t h = 0; h < 4; ++h)
    for (int64_t q = 0; q < 5; ++q) {
      for (int64_t d = 0; d < 5; ++d) EXPECT_EQ(gradients[0].values[static_cast<size_t>((h * 9 + q) * 5 + d)], 0);
      for (int64_t kv = 0; kv < 4; ++kv)
        EXPECT_EQ(gradients[3].values[static_cast<size_t>((h * 9 + q) * 4 + kv)], 0) << h << " " << q;
    }
}

TEST(Backward, EmptySequences) {
  for (const auto& [batch, q_len, kv_len] : {std::array<int64_t, 3>{2, 3, 0}, {2, 0, 3}, {0, 3, 3}}) {
    ForwardAndBackward c(batch, q_len, kv_len);
    for (const OracleTensor& tensor : c.backward())
      for (const long double value : tensor.values) EXPECT_EQ(value, 0);
  }
}

/// Keys that keep_kv hides are never read; elsewhere a NaN reaches exactly what attends to it.
TEST(Backward, StaleKeysAreHiddenAndAttendedNaNsPropagate) {
  ForwardAndBackward c(2, 4, 6);
  const auto clean = c.backward();
  for (const int input : {kK, kV}) {
    TestTensor& x = c.tensors[static_cast<size_t>(input)];
    const int64_t columns = x.shape()[3];
    for (int64_t i = 0; i < x.size(); ++i) {
      const int64_t kv = i / columns % 6, b = i / columns / 12;
      if (b == 1 || kv >= 4) x.set(i, std::nan(""));
    }
  }
  const auto stale = c.backward();
  for (size_t i = 0; i < clean.size(); ++i) EXPECT_EQ(stale[i].values, clean[i].values) << i;

  c.tensors[kQ].set(0, std::nan(""));  // b 0, h 0, q 0: attends keys 0 to 2
  const auto poisoned = c.backward();
  for (size_t d = 0; d < 5; ++d) {
    EXPECT_TRUE(std::isnan(poisoned[0].values[d]));
    EXPECT_EQ(poisoned[0].values[5 + d], clean[0].values[5 + d]);
    EXPECT_TRUE(std::isnan(poisoned[1].values[2 * 5 + d]));
    EXPECT_EQ(poisoned[1].values[3 * 5 + d], clean[1].values[3 * 5 + d]) << "key 3 is not attended by query 0";
  }
}

TEST(Backward, TensorsOfAnotherShapeAreRefused) {
  ForwardAndBackward c(2, 4, 6);
  std::vector<TensorView> views = c.views;
  std::swap(views[kQ], views[kK]);
  const auto wrong = interpret(c.spec, c.dims, views);
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(to_string(wrong.error()).substr(0, 32), "%q: does not match f64[B,4,Sq,5]");
  const auto few = interpret(c.spec, c.dims, std::span(c.views).first(3));
  ASSERT_FALSE(few.ok());
  EXPECT_EQ(to_string(few.error()), "@backward has 14 tensors, but 3 were given");
}

}  // namespace
}  // namespace tilewright
