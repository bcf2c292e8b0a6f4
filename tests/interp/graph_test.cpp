// The graph oracle: ops against values worked out by hand, empty rows, NaN rules, naive rounding, pieces against whole.
#include <gtest/gtest.h>

#include <cmath>

#include "ir/bind.h"
#include "ir/interp.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/support/random_graph.h"

namespace tilewright {
namespace {

using testing::Layout;
using testing::TestTensor;

constexpr double kInf = HUGE_VAL;
const double kNan = std::nan("");

struct Input {
  DType dtype;
  std::vector<int64_t> shape;
  std::vector<double> values;
};

std::vector<double> run(const std::string& text, const std::vector<Input>& inputs, size_t result = 0,
                        Precision precision = Precision::oracle) {
  auto graph = parse_graph(text);
  EXPECT_TRUE(graph.ok()) << (graph ? "" : to_string(graph.error()));
  if (!graph) return {};
  const Diagnostics wrong = verify(*graph);
  EXPECT_TRUE(wrong.empty()) << to_string(wrong);
  std::mt19937_64 random(7);
  std::vector<TestTensor> tensors;
  std::vector<TensorView> views;
  std::vector<TensorType> types;
  std::vector<std::string> names;
  for (const Input& input : inputs) {
    TestTensor& tensor = tensors.emplace_back(input.dtype, input.shape, Layout::reversed, random);
    for (size_t i = 0; i < input.values.size(); ++i) tensor.set(static_cast<int64_t>(i), input.values[i]);
    views.push_back(tensor.view());
  }
  for (ValueId id : graph->params) {
    types.push_back(graph->type(id));
    names.push_back((*graph)[id].name);
  }
  auto dims = bind_dims(types, names, views);
  EXPECT_TRUE(dims.ok()) << (dims ? "" : to_string(dims.error()));
  auto out = interpret(*graph, *dims, views, result, std::nullopt, precision);
  EXPECT_TRUE(out.ok()) << (out ? "" : to_string(out.error()));
  return out ? std::vector<double>(out->values.begin(), out->values.end()) : std::vector<double>();
}

/// One op on f32 vectors: result of `%r = <op>` with operands %a, %b.
std::vector<double> on_vectors(const std::string& op, std::vector<double> a, std::vector<double> b = {},
                               const std::string& type = "f32", DType dtype = DType::f32) {
  const auto n = static_cast<int64_t>(a.size());
  if (b.empty()) b.assign(a.size(), 0);
  return run("graph @g(%a: " + type + "[N], %b: " + type + "[N]) -> " + type + "[N] {\n  %r = " + op + " : " + type +
                 "[N]\n  return %r\n}",
             {{dtype, {n}, a}, {dtype, {n}, b}});
}

void expect_same(const std::vector<double>& found, const std::vector<double>& expected, double tolerance = 1e-14) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::isnan(expected[i]))
      EXPECT_TRUE(std::isnan(found[i])) << i;
    else if (std::isinf(expected[i]))
      EXPECT_EQ(found[i], expected[i]) << i;
    else
      EXPECT_NEAR(found[i], expected[i], tolerance * std::max(1.0, std::fabs(expected[i]))) << i;
  }
}

TEST(GraphOps, FloatArithmetic) {
  expect_same(on_vectors("add %a, %b", {1, 2}, {10, -2}), {11, 0});
  expect_same(on_vectors("sub %a, 1", {1, 2}), {0, 1});
  expect_same(on_vectors("mul %a, %b", {3, 2}, {10, -2}), {30, -4});
  expect_same(on_vectors("div %a, %b", {3, 2}, {0, -4}), {kInf, -0.5});
  expect_same(on_vectors("mod %a, %b", {-7.5, 7.5}, {2, -2}), {0.5, -0.5});
  expect_same(on_vectors("min %a, %b", {kNan, 2}, {1, -2}), {kNan, -2});
  expect_same(on_vectors("max %a, %b", {1, 2}, {kNan, -2}), {kNan, 2});
  expect_same(on_vectors("neg %a", {1, -2}), {-1, 2});
  expect_same(on_vectors("abs %a", {1, -2}), {1, 2});
  expect_same(on_vectors("floor %a", {1.5, -1.5}), {1, -2});
}

TEST(GraphOps, ElementaryFunctions) {
  expect_same(on_vectors("exp %a", {0, 1, -kInf}), {1, M_E, 0});
  expect_same(on_vectors("exp2 %a", {0, 10}), {1, 1024}, 0);
  expect_same(on_vectors("log %a", {1, 0, -1}), {0, -kInf, kNan});
  expect_same(on_vectors("tanh %a", {0.5, kInf}), {0.46211715726000975, 1});
  expect_same(on_vectors("sigmoid %a", {0, -kInf, 2}), {0.5, 0, 0.8807970779778824});
  expect_same(on_vectors("erf %a", {0.5}), {0.5204998778130465});
  expect_same(on_vectors("sqrt %a", {9, -1}), {3, kNan});
  expect_same(on_vectors("rsqrt %a", {4, 0}), {0.5, kInf});
}

TEST(GraphOps, IntegersAndCasts) {
  expect_same(on_vectors("div %a, %b", {-7, 7, 5}, {2, -2, 0}, "i32", DType::i32), {-4, -4, 0});
  expect_same(on_vectors("mod %a, %b", {-7, 7, 5}, {2, -2, 0}, "i64", DType::i64), {1, -1, 0});
  expect_same(on_vectors("add %a, %b", {127, 1}, {1, 1}, "i8", DType::i8), {-128, 2});
  expect_same(on_vectors("shl %a, %b", {1, 1}, {33, 31}, "i32", DType::i32), {2, -2147483648.0});
  expect_same(run("graph @g(%a: f32[N]) -> i8[N] {\n  %r = cast %a : i8[N]\n  return %r\n}",
                  {{DType::f32, {4}, {300, -300, kNan, -1.9}}}),
              {127, -128, 0, -1});
}

TEST(GraphOps, ComparisonsSelectAndBroadcast) {
  const std::vector<double> out = run(R"(graph @g(%a: f32[2,1], %b: f32[3]) -> f32[2,3] {
  %c = lt %a, %b : bool[2,3]
  %r = select %c, %a, -inf : f32[2,3]
  return %r
})",
                                      {{DType::f32, {2, 1}, {1, kNan}}, {DType::f32, {3}, {0, 1, 2}}});
  expect_same(out, {-kInf, -kInf, 1, -kInf, -kInf, -kInf});
}

TEST(GraphOps, ViewsMoveElements) {
  const Input a{DType::f32, {2, 3, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}};
  expect_same(run(R"(graph @g(%a: f32[2,3,2]) -> f32[6,2] {
  %t = transpose %a, perm=[1,0,2] : f32[3,2,2]
  %r = reshape %t : f32[6,2]
  return %r
})",
                  {a}),
              {0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11});
  expect_same(run(R"(graph @g(%a: f32[2,3,2]) -> f32[2,4,2] {
  %s = slice %a, axis=1, begin=1, end=3 : f32[2,2,2]
  %r = concat %s, %s, axis=1 : f32[2,4,2]
  return %r
})",
                  {a}),
              {2, 3, 4, 5, 2, 3, 4, 5, 8, 9, 10, 11, 8, 9, 10, 11});
  expect_same(run(R"(graph @g(%a: f32[2,3,2]) -> f32[4,3,2] {
  %r = repeat_heads %a, times=2 : f32[4,3,2]
  return %r
})",
                  {a}),
              {0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 6, 7, 8, 9, 10, 11});
}

TEST(GraphOps, ReductionsAndMatmul) {
  const Input a{DType::f32, {2, 3}, {1, 2, 4, -1, kNan, 3}};
  const auto reduce = [&](const std::string& op) {
    return run(
        "graph @g(%a: f32[2,3]) -> f32[2] {\n  %r = " + op + " %a, axis=1, keepdims=false : f32[2]\n  return %r\n}",
        {a});
  };
  expect_same(reduce("reduce_sum"), {7, kNan});
  expect_same(reduce("reduce_max"), {4, kNan});
  expect_same(reduce("reduce_min"), {1, kNan});
  expect_same(reduce("reduce_mean"), {7.0 / 3, kNan});
  expect_same(run(R"(graph @g(%a: f32[2,2], %b: f32[3,2]) -> f32[2,3] {
  %r = matmul_nt %a, %b : f32[2,3]
  return %r
})",
                  {{DType::f32, {2, 2}, {1, 2, 3, 4}}, {DType::f32, {3, 2}, {1, 0, 0, 1, 1, 1}}}),
              {1, 2, 3, 3, 4, 7});
}

TEST(GraphOps, LoadClampsItsIndices) {
  expect_same(run(R"(graph @g(%t: f32[3], %i: i32[4]) -> f32[4] {
  %r = load %t[%i] : f32[4]
  return %r
})",
                  {{DType::f32, {3}, {5, 6, 7}}, {DType::i32, {4}, {-9, 1, 2, 99}}}),
              {5, 6, 7, 7});
}

TEST(Softmax, EmptyRowsAndSinks) {
  const Input scores{DType::f32, {1, 2, 2, 2}, {0, 0, -kInf, -kInf, 1, 2, -kInf, 0}};
  const Input sink{DType::f32, {2}, {0, -1}};
  const std::string signature = "graph @g(%e: f32[1,2,2,2], %s: f32[2]) -> ";
  expect_same(run(signature + "f32[1,2,2,2] {\n %p = softmax %e, axis=3, sink=%s : f32[1,2,2,2]\n return %p\n}",
                  {scores, sink}),
              {1.0 / 3, 1.0 / 3, 0, 0, std::exp(1) / (std::exp(1) + std::exp(2) + std::exp(-1)),
               std::exp(2) / (std::exp(1) + std::exp(2) + std::exp(-1)), 0, 1 / (1 + std::exp(-1))});
  expect_same(
      run(signature + "f32[1,2,2] {\n %p = logsumexp %e, axis=3, keepdims=false, sink=%s : f32[1,2,2]\n return %p\n}",
          {scores, sink}),
      {std::log(3), 0, std::log(std::exp(1) + std::exp(2) + std::exp(-1)), std::log(1 + std::exp(-1))});
  expect_same(run("graph @g(%e: f32[2,2]) -> f32[2,1] {\n %p = logsumexp %e, axis=1, keepdims=true : f32[2,1]\n"
                  " return %p\n}",
                  {{DType::f32, {2, 2}, {-kInf, -kInf, kNan, 0}}}),
              {-kInf, kNan});
}

TEST(Softmax, DecomposedSpellingsMeanTheOps) {
  const Input scores{DType::f32, {2, 3}, {-kInf, -kInf, -kInf, 0, 1, -kInf}};
  const std::string parts = R"(
  %m = reduce_max %e, axis=1, keepdims=false : f32[2]
  %mk = reshape %m : f32[2,1]
  %d = sub %e, %mk : f32[2,3]
  %x = exp %d : f32[2,3]
  %l = reduce_sum %x, axis=1, keepdims=true : f32[2,1]
  %lb = broadcast %l : f32[2,3]
)";
  const double sum = 1 + std::exp(-1);
  expect_same(
      run("graph @g(%e: f32[2,3]) -> f32[2,3] {" + parts + "  %p = div %x, %lb : f32[2,3]\n  return %p\n}", {scores}),
      {0, 0, 0, std::exp(-1) / sum, 1 / sum, 0});
  expect_same(run("graph @g(%e: f32[2,3]) -> f32[2,1] {" + parts +
                      "  %g = log %l : f32[2,1]\n  %p = add %mk, %g : f32[2,1]\n  return %p\n}",
                  {scores}),
              {-kInf, 1 + std::log(sum)});
  // Without the division by the sum the pattern is incomplete and follows IEEE.
  expect_same(run("graph @g(%e: f32[2,3]) -> f32[2,3] {" + parts + "  return %x\n}", {scores}),
              {kNan, kNan, kNan, std::exp(-1), 1, 0});
}

TEST(Masks, HiddenNanVanishes) {
  // One query, three keys; key 1 is stale memory.
  const Input q{DType::f32, {1, 1}, {1}}, k{DType::f32, {3, 1}, {0, kNan, 0}}, v{DType::f32, {3, 1}, {2, kNan, 4}};
  const Input keep{DType::boolean, {3}, {1, 0, 1}};
  const std::string head = R"(graph @g(%q: f32[1,1], %k: f32[3,1], %v: f32[3,1], %m: bool[3]) -> f32[1,1] {
  %s = matmul_nt %q, %k : f32[1,3]
)";
  const std::string tail = R"(
  %p = softmax %e, axis=1 : f32[1,3]
  %o = matmul %p, %v : f32[1,1]
  return %o
})";
  expect_same(run(head + "  %e = select %m, %s, -inf : f32[1,3]" + tail, {q, k, v, keep}), {3});
  expect_same(run(head + "  %z = select %m, 0.0, -inf : f32[3]\n  %e = add %s, %z : f32[1,3]" + tail, {q, k, v, keep}),
              {3});
  expect_same(run(head + "  %e = mul %s, 1.0 : f32[1,3]" + tail, {q, k, v, keep}), {kNan});
}

TEST(Sugar, CausalWindowAlibiSoftcap) {
  const Input s{DType::f32, {1, 2, 2, 3}, std::vector<double>(12, 1)};
  const auto sugar = [&](const std::string& op) {
    return run("graph @g(%s: f32[1,2,2,3]) -> f32[1,2,2,3] {\n  %r = " + op + " : f32[1,2,2,3]\n  return %r\n}", {s});
  };
  const double x = -kInf;
  expect_same(sugar("mask_causal %s, align=top_left"), {1, x, x, 1, 1, x, 1, x, x, 1, 1, x});
  expect_same(sugar("mask_causal %s, align=bottom_right"), {1, 1, x, 1, 1, 1, 1, 1, x, 1, 1, 1});
  expect_same(sugar("mask_window %s, left=0, right=0, align=top_left"), {1, x, x, x, 1, x, 1, x, x, x, 1, x});
  expect_same(sugar("mask_window %s, left=-1, right=1, align=top_left"), {1, 1, x, 1, 1, 1, 1, 1, x, 1, 1, 1});
  const double a = 1.0 / 16, b = 1.0 / 256;  // two heads: 2^-4 and 2^-8
  expect_same(sugar("alibi %s, align=top_left"),
              {1, 1 + a, 1 + 2 * a, 1 - a, 1, 1 + a, 1, 1 + b, 1 + 2 * b, 1 - b, 1, 1 + b});
  expect_same(sugar("softcap %s, cap=2"), std::vector<double>(12, 2 * std::tanh(0.5)));
  expect_same(run(R"(graph @g(%s: f32[2,1,1,3], %o: i32[2]) -> f32[2,1,1,3] {
  %r = mask_causal %s, q_offset=%o : f32[2,1,1,3]
  return %r
})",
                  {{DType::f32, {2, 1, 1, 3}, std::vector<double>(6, 1)}, {DType::i32, {2}, {-1, 1}}}),
              {x, x, x, 1, 1, x});
}

TEST(Naive, RoundsEveryValueAndAddsSequentially) {
  const std::string text = R"(graph @g(%a: f32[1,3], %b: f32[3,1]) -> f32[1,1] {
  %r = matmul %a, %b : f32[1,1]
  return %r
})";
  const std::vector<Input> inputs{{DType::f32, {1, 3}, {0x1p25, 1, -0x1p25}}, {DType::f32, {3, 1}, {1, 1, 1}}};
  expect_same(run(text, inputs), {1}, 0);
  expect_same(run(text, inputs, 0, Precision::naive), {0}, 0);
  const std::string cast = R"(graph @g(%a: f32[2]) -> f32[2] {
  %h = cast %a : bf16[2]
  %r = cast %h : f32[2]
  return %r
})";
  const std::vector<Input> fine{{DType::f32, {2}, {1 + 0x1p-8, 1 + 0x1p-7}}};
  expect_same(run(cast, fine), {1 + 0x1p-8, 1 + 0x1p-7}, 0);
  expect_same(run(cast, fine, 0, Precision::naive), {1, 1 + 0x1p-7}, 0);
}

TEST(Naive, F64GraphsUseLongDouble) {
  const std::string text = R"(graph @g(%a: f64[3]) -> f64[1] {
  %r = reduce_sum %a, axis=0 : f64[1]
  return %r
})";
  const std::vector<Input> inputs{{DType::f64, {3}, {0x1p60, 1, -0x1p60}}};
  expect_same(run(text, inputs), {1}, 0);
  expect_same(run(text, inputs, 0, Precision::naive), {0}, 0);
}

TEST(Pieces, RandomGraphsPieceByPieceEqualTheWhole) {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    testing::RandomCase c = testing::random_attention(seed);
    std::mt19937_64 random(seed);
    std::vector<TestTensor> tensors;
    std::vector<TensorView> views;
    for (size_t i = 0; i < c.graph.params.size(); ++i) {
      const TensorType& type = c.graph.type(c.graph.params[i]);
      tensors.emplace_back(type.dtype, testing::concrete_shape(type, c.dims), Layout::gapped, random);
      testing::fill(tensors.back(), c.fills[i], random);
      views.push_back(tensors.back().view());
    }
    auto oracle = GraphOracle::create(c.graph, c.dims, views);
    ASSERT_TRUE(oracle.ok()) << to_string(oracle.error());
    for (ValueId result : c.graph.results) {
      for (Precision precision : {Precision::oracle, Precision::naive}) {
        const std::vector<int64_t>& shape = oracle->shape(result);
        IndexLists all, some;
        for (int64_t size : shape) {
          std::vector<int64_t>&full = all.emplace_back(), &part = some.emplace_back();
          for (int64_t i = 0; i < size; ++i) {
            full.push_back(i);
            if (random() % 3 == 0) part.push_back(i);
          }
        }
        const auto whole = oracle->evaluate(result, all, {precision, false});
        const auto piece = oracle->evaluate(result, some, {precision, false});
        size_t n = 0;
        std::vector<size_t> at(shape.size(), 0);
        for (size_t flat = 0; flat < whole.size(); ++flat) {
          size_t rest = flat;
          bool inside = true;
          for (size_t axis = shape.size(); axis-- > 0;) {
            const auto index = static_cast<int64_t>(rest % static_cast<size_t>(shape[axis]));
            rest /= static_cast<size_t>(shape[axis]);
            inside &= std::find(some[axis].begin(), some[axis].end(), index) != some[axis].end();
          }
          if (!inside) continue;
          ASSERT_LT(n, piece.size());
          EXPECT_TRUE(piece[n] == whole[flat] || (std::isnan(piece[n]) && std::isnan(whole[flat])))
              << "seed " << seed << " element " << flat << ": " << piece[n] << " against " << whole[flat];
          ++n;
        }
        EXPECT_EQ(n, piece.size());
      }
    }
  }
}

}  // namespace
}  // namespace tilewright
