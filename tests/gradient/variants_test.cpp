// Every variant of the suite in f64: gradients of all float parameters, captured tensors included, against central
// differences of the oracle; and what the spelling promises.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "ir/text.h"
#include "tests/support/gradient_case.h"
#include "tests/support/paths.h"
#include "tests/support/variant_case.h"

namespace tilewright::testing {
namespace {

const std::string kFolder = testing::source_dir() + "/examples/variants";

/// Head dims that the graph allows: 20 and 26 build indices over 64 columns, 24 has V of 128.
Graph in_f64(const Variant& variant) {
  const bool fixed = variant.number == 20 || variant.number == 26;
  return respell(variant.graph, Numbers::f64, fixed ? 64 : 6, fixed ? 64 : variant.number == 24 ? 128 : 5);
}

class Variants : public ::testing::TestWithParam<Variant> {};

GradientCase variant_case(const Variant& variant, const Sizes& sizes, bool recompute) {
  GradientCase test;
  test.graph = in_f64(variant);
  test.dims = bind_sizes(test.graph, sizes);
  test.seed = static_cast<uint64_t>(variant.number);
  test.request.recompute = recompute;
  std::mt19937_64 random(test.seed);
  test.inputs = variant_inputs(test.graph, test.dims, random, Hidden::finite);
  return test;
}

TEST_P(Variants, MatchDifferences) {
  for (const Sizes& sizes : {Sizes{"ragged", 2, 5, 9}, Sizes{"square", 1, 6, 6}})
    for (bool recompute : {false, true}) {
      const bool wide = in_f64(GetParam()).nodes.front().type.shape.back().constant() >= 64;
      if (wide && recompute == (sizes.name == "ragged")) continue;  // slow to interpret
      SCOPED_TRACE(sizes.name + (recompute ? ", recompute" : ", save"));
      GradientCase test = variant_case(GetParam(), sizes, recompute);
      ASSERT_TRUE(run_backward(test)) << print(test.gradient.backward);
      expect_differences(test, 1);
      ASSERT_FALSE(HasFailure()) << print(test.gradient.backward);
    }
}

TEST_P(Variants, EmptySequences) {
  for (const Sizes& sizes : {Sizes{"no keys", 2, 5, 0}, Sizes{"no queries", 2, 0, 5}, Sizes{"no batch", 0, 3, 5}}) {
    if (GetParam().number == 26) continue;  // one query, pages
    if (sizes.sq == 0 && in_f64(GetParam()).type(ValueId{0}).shape[2] != Dim::named("Sq")) continue;  // one length
    SCOPED_TRACE(sizes.name);
    GradientCase test = variant_case(GetParam(), sizes, false);
    ASSERT_TRUE(run_backward(test));
    for (const auto& gradient : test.gradients)
      for (long double g : gradient) ASSERT_EQ(g, 0);
  }
}

// Nothing of size Sq x Sk is kept between the passes.
TEST_P(Variants, SaveNothingScoreSized) {
  const GradientCase test = variant_case(GetParam(), {"", 2, 5, 9}, false);
  const auto made = gradient(test.graph);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->saved.empty(), GetParam().number == 25);  // what has no normaliser needs no O and no LSE
  for (size_t i = test.graph.results.size(); i < made->forward.results.size(); ++i) {
    const TensorType& type = made->forward.type(made->forward.results[i]);
    std::set<std::string> names;
    for (const Dim& dim : type.shape)
      for (const auto& [name, coefficient] : dim.terms())
        if (name != "B") names.insert(name);
    const bool square = std::count(type.shape.begin(), type.shape.end(), Dim::named("N")) > 1;
    EXPECT_TRUE(names.size() <= 1 && !square) << to_string(type);
  }
}

INSTANTIATE_TEST_SUITE_P(Suite, Variants, ::testing::ValuesIn(all_variants(kFolder)),
                         [](const auto& variant) { return "v" + variant.param.stem; });

// A row without a kept key has gradients of exactly zero, whatever arrives from above.
TEST(MaskedRows, GiveExactZeros) {
  auto graph = parse_graph(R"(
    graph @g(%q: f64[2,Sq,4], %k: f64[2,Sk,4], %v: f64[2,Sk,3], %keep: bool[Sq,Sk]) -> (f64[2,Sq,3], f64[2,Sq]) {
      %s = matmul_nt %q, %k : f64[2,Sq,Sk]
      %e = select %keep, %s, -inf : f64[2,Sq,Sk]
      %p = softmax %e, axis=2 : f64[2,Sq,Sk]
      %o = matmul %p, %v : f64[2,Sq,3]
      %l = logsumexp %e, axis=2, keepdims=false : f64[2,Sq]
      return %o, %l
    })");
  ASSERT_TRUE(graph.ok());
  for (bool recompute : {false, true}) {
    GradientCase test = make_gradient_case(*graph, {{"Sq", 4}, {"Sk", 5}});
    test.request.recompute = recompute;
    for (int64_t i = 0; i < 20; ++i) test.inputs[3].set(i, i / 5 != 2 && i % 5 != 1);
    ASSERT_TRUE(run_backward(test));
    expect_differences(test);
    for (int64_t i = 0; i < 2 * 4 * 4; ++i)
      if (i / 4 % 4 == 2) {
        EXPECT_EQ(test.gradients[0][static_cast<size_t>(i)], 0);  // the query of the row
      }
    for (int64_t i = 0; i < 2 * 5 * 4; ++i)
      if (i / 4 % 5 == 1) {
        EXPECT_EQ(test.gradients[1][static_cast<size_t>(i)], 0);  // the key nobody sees
      }
  }
}

// An additive mask before an expression that makes NaN of -inf (s · sigmoid(s)): gradients stop at the mask, as they do
// at a select.
TEST(MaskedRows, GradientsStopAtAdditiveMasks) {
  const char* const masks[] = {
      "%m = select %keep, 0, -inf : f64[Sq,Sk]\n",
      "%n = logical_not %keep : bool[Sq,Sk]\n %h = select %n, -inf, 0 : f64[Sq,Sk]\n %m = reshape %h : f64[1,Sq,Sk]\n",
      "%h = select %keep, 0, -inf : f64[Sq,Sk]\n %i = index axis=1 : i64[1,Sk]\n %c = lt %i, 4 : bool[1,Sk]\n"
      "%r = select %c, 0, -inf : f64[1,Sk]\n %m = add %h, %r : f64[Sq,Sk]\n"};
  for (const char* mask : masks)
    for (bool recompute : {false, true}) {
      SCOPED_TRACE(mask);
      const auto graph = parse_graph(fmt::format(R"(
    graph @g(%q: f64[2,Sq,4], %k: f64[2,Sk,4], %v: f64[2,Sk,3], %keep: bool[Sq,Sk]) -> f64[2,Sq,3] {{
      %s = matmul_nt %q, %k : f64[2,Sq,Sk]
      {}
      %a = add %s, %m : f64[2,Sq,Sk]
      %g = sigmoid %a : f64[2,Sq,Sk]
      %w = mul %a, %g : f64[2,Sq,Sk]
      %j = index axis=2 : i64[1,1,Sk]
      %l = lt %j, 4 : bool[1,1,Sk]
      %b = logical_and %keep, %l : bool[1,Sq,Sk]
      %e = select %b, %w, -inf : f64[2,Sq,Sk]
      %p = softmax %e, axis=2 : f64[2,Sq,Sk]
      %o = matmul %p, %v : f64[2,Sq,3]
      return %o
    }})",
                                                 mask));
      ASSERT_TRUE(graph.ok()) << to_string(graph.error());
      GradientCase test = make_gradient_case(*graph, {{"Sq", 4}, {"Sk", 5}});
      test.request.recompute = recompute;
      for (int64_t i = 0; i < 20; ++i) test.inputs[3].set(i, i / 5 != 2 && i % 5 != 1);
      ASSERT_TRUE(run_backward(test));
      for (const auto& gradient : test.gradients)
        for (long double g : gradient) ASSERT_FALSE(std::isnan(g)) << print(test.gradient.backward);
      expect_differences(test);
    }
}

}  // namespace
}  // namespace tilewright::testing
