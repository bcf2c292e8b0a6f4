// The rule of each op against central differences.
#include <gtest/gtest.h>

#include "ir/text.h"
#include "tests/support/gradient_case.h"

namespace tilewright::testing {
namespace {

/// What `body` calls %z is the result, unless it returns by itself.
struct OpCase {
  std::string name, params, body;
  std::string results = {};  ///< their types, when the body returns
};

void PrintTo(const OpCase& c, std::ostream* out) { *out << c.name; }

constexpr const char* kXY = "%x: f64[N,4], %y: f64[4]";
constexpr const char* kX = "%x: f64[N,4]";
OpCase unary(const std::string& op) { return {op, kX, "%z = " + op + " %x : f64[N,4]"}; }
OpCase binary(const std::string& op) { return {op, kXY, "%z = " + op + " %x, %y : f64[N,4]"}; }

Graph graph_of(const OpCase& c) {
  const bool returns = !c.results.empty();
  const std::string results = returns ? c.results : c.body.substr(c.body.rfind(" : ") + 3);
  const std::string text =
      fmt::format("graph @g({}) -> {} {{\n{}{}\n}}\n", c.params, results, c.body, returns ? "" : "\n return %z");
  auto graph = parse_graph(text);
  EXPECT_TRUE(graph.ok()) << (graph ? "" : to_string(graph.error())) << text;
  return graph ? *graph : Graph{};
}

class Ops : public ::testing::TestWithParam<OpCase> {};

TEST_P(Ops, MatchDifferences) { check_gradient(graph_of(GetParam())); }

INSTANTIATE_TEST_SUITE_P(
    Pointwise, Ops,
    ::testing::Values(
        binary("add"), OpCase{"sub", kXY, "%z = sub %y, %x : f64[N,4]"}, binary("mul"),
        OpCase{"square", kX, "%z = mul %x, %x : f64[N,4]"},
        OpCase{"div", kXY, "%s = sigmoid %y : f64[4]\n %d = add %s, 1 : f64[4]\n %z = div %x, %d : f64[N,4]"},
        OpCase{"mod", kXY, "%s = sigmoid %y : f64[4]\n %d = add %s, 1 : f64[4]\n %z = mod %x, %d : f64[N,4]"},
        binary("min"), binary("max"), OpCase{"relu", kX, "%z = max %x, 0 : f64[N,4]"},
        OpCase{"relu_swapped", kX, "%z = max 0, %x : f64[N,4]"},
        OpCase{"clamp", kX, "%a = min %x, 0.7 : f64[N,4]\n %z = max -0.6, %a : f64[N,4]"}, unary("neg"), unary("abs"),
        unary("exp"), unary("exp2"),
        OpCase{"log", kX, "%e = exp %x : f64[N,4]\n %f = add %e, 2 : f64[N,4]\n %z = log %f : f64[N,4]"}, unary("tanh"),
        unary("sigmoid"), unary("erf"), OpCase{"sqrt", kX, "%e = exp %x : f64[N,4]\n %z = sqrt %e : f64[N,4]"},
        OpCase{"rsqrt", kX, "%e = exp %x : f64[N,4]\n %z = rsqrt %e : f64[N,4]"},
        OpCase{"floor", kX, "%f = floor %x : f64[N,4]\n %z = mul %f, %x : f64[N,4]"},
        OpCase{"select", "%x: f64[N,4], %y: f64[4], %c: bool[N,1]", "%z = select %c, %x, %y : f64[N,4]"},
        OpCase{"compare", kXY, "%c = lt %x, %y : bool[N,4]\n %z = select %c, %x, 2 : f64[N,4]"},
        OpCase{"casts", "%x: f64[N,4], %i: i32[4]",
               "%k = cast %x : i32[N,4]\n %l = add %k, %i : i32[N,4]\n %f = cast %l : f64[N,4]\n %z = mul %f, %x : "
               "f64[N,4]"},
        OpCase{"load", "%t: f64[5,4], %i: i32[N,6]",
               "%a = reshape %i : i32[N,6,1]\n %b = index axis=2 : i64[1,1,2]\n %z = load %t[%a, %b] : f64[N,6,2]"},
        OpCase{"load_outside", "%t: f64[3], %i: i32[N,6]",
               "%a = sub %i, 1 : i32[N,6]\n %b = mul %a, 3 : i32[N,6]\n %z = load %t[%b] : f64[N,6]"},
        OpCase{"load_computed", "%t: f64[5,4], %i: i32[N]",
               "%u = tanh %t : f64[5,4]\n %v = transpose %u, perm=[1,0] : f64[4,5]\n %z = load %v[%i, 2] : f64[N]"},
        OpCase{"load_scalar", "%t: f64[], %x: f64[N]", "%s = load %t[] : f64[]\n %z = mul %s, %x : f64[N]"}));

INSTANTIATE_TEST_SUITE_P(
    Views, Ops,
    ::testing::Values(OpCase{"transpose", "%x: f64[N,4,2]", "%z = transpose %x, perm=[2,0,1] : f64[2,N,4]"},
                      OpCase{"reshape", "%x: f64[N,4,2]", "%z = reshape %x : f64[N,8]"},
                      OpCase{"slice", "%x: f64[N,7]", "%z = slice %x, axis=1, begin=2, end=5 : f64[N,3]"},
                      OpCase{"slices_apart", "%x: f64[N,7]",
                             "%a = slice %x, axis=1, begin=5, end=7 : f64[N,2]\n %b = slice %x, axis=1, begin=0, end=2 "
                             ": f64[N,2]\n %z = mul %a, %b : f64[N,2]"},
                      OpCase{"slices_overlap", "%x: f64[N,4]",
                             "%a = slice %x, axis=1, begin=0, end=3 : f64[N,3]\n %b = slice %x, axis=1, begin=1, end=4 "
                             ": f64[N,3]\n %z = mul %a, %b : f64[N,3]"},
                      OpCase{"slices_named", "%x: f64[N+M,4], %y: f64[M]",
                             "%a = slice %x, axis=0, begin=0, end=N : f64[N,4]\n %b = slice %x, axis=0, begin=N, "
                             "end=N+M : f64[M,4]\n return %a, %b",
                             "(f64[N,4], f64[M,4])"},
                      OpCase{
                          "slices_of_two_axes", "%x: f64[N,4]",
                          "%a = slice %x, axis=1, begin=0, end=2 : f64[N,2]\n %b = slice %x, axis=0, begin=1, end=2 : "
                          "f64[1,4]\n %c = slice %b, axis=1, begin=1, end=3 : f64[1,2]\n %z = mul %a, %c : f64[N,2]"},
                      OpCase{"concat", "%x: f64[N,4], %y: f64[N,2]", "%z = concat %x, %y, %x, axis=1 : f64[N,10]"},
                      OpCase{"broadcast", "%x: f64[4,1]", "%z = broadcast %x : f64[3,4,3]"},
                      OpCase{"repeat_heads", "%x: f64[N,2,3,4]", "%z = repeat_heads %x, times=3 : f64[N,6,3,4]"}));

INSTANTIATE_TEST_SUITE_P(
    Reductions, Ops,
    ::testing::Values(
        OpCase{"sum", "%x: f64[N,4]", "%z = reduce_sum %x, axis=1, keepdims=false : f64[N]"},
        OpCase{"sum_of_unread", "%x: f64[N,M]", "%z = reduce_sum %x, axis=1, keepdims=false : f64[N]"},
        OpCase{"mean", "%x: f64[N,M]", "%z = reduce_mean %x, axis=0 : f64[1,M]"},
        OpCase{"max", "%x: f64[N,4]", "%z = reduce_max %x, axis=1 : f64[N,1]"},
        OpCase{"min", "%x: f64[N,4]", "%z = reduce_min %x, axis=0, keepdims=false : f64[4]"},
        OpCase{"softmax", "%x: f64[N,4]", "%z = softmax %x, axis=1 : f64[N,4]"},
        OpCase{"softmax_axis0", "%x: f64[N,4]", "%z = softmax %x, axis=0 : f64[N,4]"},
        OpCase{"softmax_sink", "%x: f64[2,5,N,4], %k: f64[5]", "%z = softmax %x, axis=3, sink=%k : f64[2,5,N,4]"},
        OpCase{"softmax_sink_scalar", "%x: f64[N,4], %k: f64[]", "%z = softmax %x, axis=1, sink=%k : f64[N,4]"},
        OpCase{"softmax_sink_rows", "%x: f64[N,4], %k: f64[N,1]", "%z = softmax %x, axis=1, sink=%k : f64[N,4]"},
        OpCase{"logsumexp", "%x: f64[N,4]", "%z = logsumexp %x, axis=1, keepdims=false : f64[N]"},
        OpCase{"logsumexp_sink", "%x: f64[2,5,N,4], %k: f64[5]", "%z = logsumexp %x, axis=3, sink=%k : f64[2,5,N,1]"},
        OpCase{"softmax_and_both_lses", "%x: f64[N,4]",
               "%p = softmax %x, axis=1 : f64[N,4]\n %l = logsumexp %x, axis=1, keepdims=false : f64[N]\n%m = "
               "logsumexp %x, axis=1 : f64[N,1]\n return %p, %l, %m",
               "(f64[N,4], f64[N], f64[N,1])"},
        OpCase{"scatter_add", "%x: f64[N,6], %i: i32[N,1]",
               "%b = index axis=1 : i64[1,6]\n %z = scatter_add %x, %i, %b : f64[4,6]"}));

INSTANTIATE_TEST_SUITE_P(
    Products, Ops,
    ::testing::Values(
        OpCase{"matmul", "%x: f64[N,4], %y: f64[4,3]", "%z = matmul %x, %y : f64[N,3]"},
        OpCase{"matmul_nt", "%x: f64[N,4], %y: f64[3,4]", "%z = matmul_nt %x, %y : f64[N,3]"},
        OpCase{"square", "%x: f64[N,4]", "%z = matmul_nt %x, %x : f64[N,N]"},
        OpCase{"weight", "%x: f64[2,N,4], %w: f64[4,3]", "%z = matmul %x, %w : f64[2,N,3]"},
        OpCase{"weight_nt", "%x: f64[2,N,4], %w: f64[3,4]", "%z = matmul_nt %x, %w : f64[2,N,3]"},
        OpCase{"weight_named", "%x: f64[B,N,4], %w: f64[4,3]", "%z = matmul %x, %w : f64[B,N,3]"},
        OpCase{"grouped", "%x: f64[2,3,2,N,4], %y: f64[2,3,1,M,4]", "%z = matmul_nt %x, %y : f64[2,3,2,N,M]"},
        OpCase{"widened", "%x: f64[N,4], %f: f32[4,3]", "%d = cast %f : f64[4,3]\n %z = matmul %x, %d : f64[N,3]"}));

// Elements that are equal share the gradient of their maximum.
TEST(Extrema, ShareTies) {
  auto graph = parse_graph(
      "graph @g(%x: f64[4]) -> f64[] {\n %z = reduce_max %x, axis=0, keepdims=false : f64[]\n return %z\n}");
  GradientCase test = make_gradient_case(*graph);
  const double values[] = {1, 3, 3, 2};
  for (int i = 0; i < 4; ++i) test.inputs[0].set(i, values[i]);
  ASSERT_TRUE(run_backward(test));
  const double d = test.result_gradients[0].get(0);
  EXPECT_EQ(test.gradients[0], (std::vector<long double>{0, d / 2, d / 2, 0}));
}

}  // namespace
}  // namespace tilewright::testing
