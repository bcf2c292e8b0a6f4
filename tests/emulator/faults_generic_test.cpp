// The fault campaign of the generic GPU templates: forward, backward and steps that are no attention. Every fault is
// shown by some legal execution, the clean kernels by none.
#include <map>

#include "ir/text.h"
#include "tests/emulator/fault_campaign.h"
#include "tests/support/backward_case.h"

namespace tilewright::testing {
namespace {

constexpr std::string_view kTiles = "generic_tiles.cuh", kBackward = "generic_backward.cuh", kLoop = "loop.cuh",
                           kContract = "contract.cuh";
// Forward: rows that attend nothing; hidden keys that are NaN, a sink and dropout; a sum of two products.
// Backward: hidden keys and heads in groups; hidden keys among others; a bias by element; a table whose sums lie in the
// workspace. Loops, one each.
constexpr std::string_view kCausal = "causal", kHidden = "hidden", kTwo = "two", kGradients = "gradients",
                           kHoles = "holes", kBias = "bias", kTable = "table", kPointwise = "pointwise", kMean = "mean",
                           kMaximum = "maximum", kSoftmax = "softmax", kSink = "sink", kLogsumexp = "logsumexp",
                           kMatmul = "matmul", kScatter = "scatter", kScatterItems = "scatter_items";

constexpr Fault kFaults[] = {
    // Forward: places.
    {"R16: rows beyond the last", kTiles, "int_min(q_begin + block_q, Variant::q_len(args))", "q_begin + block_q",
     kCausal},
    {"heads and batches change places", kTiles, "{i32(row / heads), i32(row % heads), q_begin",
     "{i32(row % heads), i32(row / heads), q_begin", kHidden},
    {"R16: O of one row too many", kTiles, "if (q < rows.q_end)\n      store_element(Variant::output",
     "if (q <= rows.q_end)\n      store_element(Variant::output", kCausal},
    {"the second term over the first", kTiles, "      column += Variant::head_dim(term);\n    }\n  }\n  block_sync();",
     "    }\n  }\n  block_sync();", kTwo},
    {"the first query in every row", kTiles, "Variant::query_element(args, term, rows.b, rows.h, q, d, sums)",
     "Variant::query_element(args, term, rows.b, rows.h, rows.q_begin, d, sums)", kCausal},
    {"V of hidden keys", kTiles, "visible ? Variant::value_element", "kv < kv_end ? Variant::value_element", kHidden},
    // Forward: arithmetic.
    {"an infinite reference", kTiles, "a == T(neg_inf()) ? T(0) : a", "a", kCausal},
    {"an empty row is divided by zero", kTiles, "b == 0 ? T(0) : a / b", "a / b", kCausal},
    {"the LSE in base 2", kTiles, "real_fma(max, T(0.6931471805599453), real_log(sum))",
     "real_fma(max, T(1), real_log(sum))", kCausal},
    {"the exponent's sign", kTiles, "real_exp2(a - b)", "real_exp2(b - a)", kCausal},
    {"sums without the last column", kTiles,
     "column < A::kColumns; ++column) sum +=", "column < A::kColumns - 1; ++column) sum +=", kCausal},
    {"keys of the wrong turn", kTiles, "tile_get(keys, column + c * kTurn, d)", "tile_get(keys, column + c, d)",
     kCausal},
    {"one query for four rows", kTiles, "tile_get(queries, row + r, d)", "tile_get(queries, row, d)", kCausal},
    {"half of the head dim", kTiles, "for (i32 d = 0; d < Q::kColumns; ++d) {",
     "for (i32 d = 0; d < Q::kColumns / 2; ++d) {", kTwo},
    {"columns of V past the last", kTiles, "if (column + c * kTurn < D::kColumns) tile_set(dst, row + r, at[c]",
     "tile_set(dst, row + r, at[c]", kHidden},
    {"the last key is left out", kTiles, "for (i32 kv = 0; kv < V::kRows; ++kv) {",
     "for (i32 kv = 0; kv < V::kRows - 1; ++kv) {", kCausal},
    {"R16: scores of one key too many", kTiles, "if (q < rows.q_end && kv < kv_end) score",
     "if (q < rows.q_end && kv <= kv_end) score", kTwo},
    {"no mask", kTiles, "kv < kv_end && Variant::keep(args, rows.b, rows.h, q, kv)", "kv < kv_end", kCausal},
    {"weights that are not dropped", kTiles,
     "tile_get(a, row, column) * Variant::weight_factor(args, rows.b, rows.h, q, kv)", "tile_get(a, row, column)",
     kHidden},
    {"the sink in natural units", kTiles, " * T(1.4426950408889634) : T(neg_inf())", " : T(neg_inf())", kHidden},
    // Forward: R15, races of shared memory.
    {"R15: no barrier after an elementwise op", kTiles, "tile_get(b, row, column)));\n  }\n  block_sync();",
     "tile_get(b, row, column)));\n  }", kCausal},
    {"R15: no barrier after a fill", kTiles, "i % D::kColumns, value);\n  block_sync();", "i % D::kColumns, value);",
     kCausal},
    {"R15: no barrier after K and V", kTiles,
     "visible ? Variant::value_element(args, rows.b, rows.h, kv, d) : 0);\n  }\n  block_sync();",
     "visible ? Variant::value_element(args, rows.b, rows.h, kv, d) : 0);\n  }", kCausal},
    {"R15: no barrier after the scores", kTiles,
     "tile_set(dst, row + r, column + c * kTurn, sums[r][c]);\n      }\n    }\n  }\n  block_sync();",
     "tile_set(dst, row + r, column + c * kTurn, sums[r][c]);\n      }\n    }\n  }", kCausal},
    {"R15: no barrier after the mask", kTiles, "keep ? tile_get(a, row, column) : hidden);\n  }\n  block_sync();",
     "keep ? tile_get(a, row, column) : hidden);\n  }", kCausal},
    // Backward.
    {"keys of the group's number", kBackward, "i32(row % heads) * Space::kHeadGroup, kv_begin",
     "i32(row % heads), kv_begin", kGradients},
    {"R16: keys beyond the last", kBackward, "int_min(kv_begin + block_kv, Space::kv_len(args))", "kv_begin + block_kv",
     kGradients},
    {"weights of hidden keys", kBackward, "kv < kv_end && Space::keep(args, rows.b, rows.h, q, kv)", "kv < kv_end",
     kGradients},
    {"operands of hidden keys", kBackward,
     "if (Operand::kKeys && Space::kHasKeepKv && visible) visible =", "if (false) visible =", kHoles},
    {"t in the place of s", kBackward, "Weight::value(args, tile_get(s, row, column), tile_get(t, row, column)",
     "Weight::value(args, tile_get(t, row, column), tile_get(s, row, column)", kGradients},
    {"R16: a gradient of one row too many", kBackward, "    if (begin + row < end)\n", "    if (begin + row <= end)\n",
     kGradients},
    {"columns of rows", kTiles, "transposed ? tile_get(weights, kv, row + r) : tile_get(weights, row + r, kv)",
     "tile_get(weights, row + r, kv)", kGradients},
    {"R15: no barrier after the operands", kBackward,
     "Operand::element(args, b, h, row, d) : 0);\n  }\n  block_sync();",
     "Operand::element(args, b, h, row, d) : 0);\n  }", kGradients},
    {"R15: no barrier after the weights", kBackward, "    tile_set(dst, row, column, weight);\n  }\n  block_sync();",
     "    tile_set(dst, row, column, weight);\n  }", kGradients},
    {"R16: a captured place too many", kBackward, "if (q < rows.q_end && kv < kv_end)\n      store_element(Captured",
     "if (q < rows.q_end && kv <= kv_end)\n      store_element(Captured", kBias},
    {"every thread adds", kBackward, "offset >= 0 && i32(offset & (W::kThreads - 1)) == thread_index()", "offset >= 0",
     kTable},
    {"places beyond the block's keys", kBackward, "offset >= 0 && i32(", "i32(", kTable},
    {"sums that are not cleared", kBackward, "Captured::sums(args, chunk)[n] = 0;",
     "(void)Captured::sums(args, chunk)[n];", kTable},
    {"the second chunk is left out", kBackward, "for (i32 chunk = 1; chunk < Captured::kChunks; ++chunk) sum",
     "for (i32 chunk = 2; chunk < Captured::kChunks; ++chunk) sum", kTable},
    {"R15: offsets before they are written", kBackward, "u64(offset));\n  }\n  block_sync();", "u64(offset));\n  }",
     kTable},
    // Loops.
    {"R16: one item too many", kLoop,
     "if (item >= Step::items(args)) return;\n  const typename Step::Index at = Step::index(args, item);\n  store",
     "if (item > Step::items(args)) return;\n  const typename Step::Index at = Step::index(args, item);\n  store",
     kPointwise},
    {"sums begin at one", kLoop, "    return 0;\n", "    return 1;\n", kMean},
    {"lanes 31 apart", kLoop, "i < length; i += 32) {\n    Step::fold(at, i);\n    T x",
     "i < length; i += 31) {\n    Step::fold(at, i);\n    T x", kMean},
    {"the sum of half a warp", kLoop, "for (i32 mask = 16; mask > 0; mask /= 2) folded",
     "for (i32 mask = 8; mask > 0; mask /= 2) folded", kMean},
    {"a sum for a mean", kLoop, "if (mean) folded", "if (false) folded", kMean},
    {"R16: one row too many", kLoop, "if (row >= Step::items(args)) return;", "if (row > Step::items(args)) return;",
     kMean},
    {"a NaN is overlooked", kLoop, "return real_max(a, b);", "return max_number(a, b);", kMaximum},
    {"maxima begin at zero", kLoop, "    return neg_inf();\n", "    return 0;\n", kMaximum},
    {"the infinite maximum of an empty row", kLoop, "if (reference == T(neg_inf())) reference = 0;", "", kSoftmax},
    {"an empty row is divided by zero", kLoop, "if (total == 0) total = 1;", "", kSoftmax},
    {"no maximum is taken off", kLoop, "if constexpr (exponential) x = real_exp(x - reference);",
     "if constexpr (exponential) x = real_exp(x);", kSoftmax},
    {"the sink is left out of the sum", kLoop, "if (Step::kHasSink) total +=", "if (false) total +=", kSink},
    {"the logarithm of nothing", kLoop, "total == 0 ? T(neg_inf()) : reference + real_log(total)",
     "total == 0 ? T(0) : reference + real_log(total)", kLogsumexp},
    {"every lane adds", kLoop, " && (to & 31) == lane_index()", "", kScatter},
    {"updates beyond the last", kLoop, "if (first + lane < updates && ", "if (", kScatter},
    {"updates 31 at a time", kLoop, "first < updates; first += 32) {", "first < updates; first += 31) {", kScatter},
    {"R16: one place too many", kLoop,
     "if (item >= Step::items(args)) return;\n  typename Step::Index at = Step::index(args, item);\n  const i64 "
     "updates",
     "if (item > Step::items(args)) return;\n  typename Step::Index at = Step::index(args, item);\n  const i64 updates",
     kScatterItems},
    {"the last update is left out", kLoop, "for (i64 n = 0; n < updates; ++n) {",
     "for (i64 n = 0; n < updates - 1; ++n) {", kScatterItems},
    {"one update again and again", kLoop, "    Step::set_update(args, at, n);\n    add_element(",
     "    Step::set_update(args, at, 0);\n    add_element(", kScatterItems},
    {"the last update alone", kLoop, "add_element(float* p, float x) { *p += x; }",
     "add_element(float* p, float x) { *p = x; }", kScatterItems},
    {"R16: one more of the depth", kContract, "if (k + d < depth && row + side < rows) {",
     "if (k + d <= depth && row + side < rows) {", kMatmul},
    {"columns four apart", kContract, "across + 16 * c) * sizeof", "across + 4 * c) * sizeof", kMatmul},
    {"R16: one row too many", kContract, "if (row + down + r >= rows) continue;",
     "if (row + down + r > rows) continue;", kMatmul},
    {"R15: tiles before they are written", kContract,
     "    block_sync();\n    TW_NO_UNROLL\n    for (i32 d = 0; d < kDepth",
     "    TW_NO_UNROLL\n    for (i32 d = 0; d < kDepth", kMatmul},
    {"R15: tiles over those that are read", kContract, "      }\n    }\n    block_sync();\n  }\n  TW_UNROLL",
     "      }\n    }\n  }\n  TW_UNROLL", kMatmul},
};

const CudaTarget kTarget = *parse_cuda_target("sm_80");

FaultSubject forward(const CaseOptions& options) {
  std::mt19937_64 random(7);
  CudaSchedule schedule;
  schedule.kernel = CudaTemplate::generic;
  schedule.block_q = schedule.block_kv = 8;
  schedule.warps = 2;
  return subject(make_case(options, random), schedule, kTarget);
}

FaultSubject backward(const BackwardOptions& options) {
  std::mt19937_64 random(17);
  const BackwardCase test = make_backward_case(options, random);
  CudaSchedule schedule;
  schedule.kernel = CudaTemplate::generic_backward;
  schedule.block_q = 8;
  schedule.block_kv = 16;
  schedule.warps = 2;
  const auto check = [test, want = expected_gradients(test)](const std::vector<TestTensor>& tensors) {
    BackwardCase done = test;
    done.tensors = tensors;
    check_backward_case(done, want);
  };
  return {generate_cuda(test.spec, schedule, kTarget, "k"),
          args_layout(test.spec),
          test.dims,
          test.spec.tensors,
          test.tensors,
          check};
}

/// A graph that is one loop step, or zeros and a step that adds to them.
FaultSubject loop(const std::string& text) {
  const auto graph = parse_graph(text);
  TW_CHECK(graph.ok());
  const auto canonical = canonicalize(*graph);
  const auto program = fuse(*canonical);
  TW_CHECK(program.ok() && program->steps.size() <= 2);
  const LoopStep& step = std::get<LoopStep>(program->steps.back().what);
  const DimBindings dims = {{"M", 70}, {"N", 39}, {"K", 21}};
  std::mt19937_64 random(3);
  std::vector<TestTensor> tensors;
  for (const SpecTensor& tensor : step.tensors) {
    tensors.emplace_back(tensor.type.dtype, concrete_shape(tensor.type, dims), Layout::contiguous, random);
    if (tensor.output) continue;
    Fill how;
    if (is_integer(tensor.type.dtype)) how = {Fill::Kind::integer_between, 1, 0, 8};
    fill(tensors.back(), how, random);
    if (tensor.name != "x") continue;
    // A NaN, a row of nothing, one of large numbers.
    tensors.back().set(5, std::nan(""));
    for (int64_t i = 0; i < 39; ++i) {
      tensors.back().set(39 + i, -std::numeric_limits<double>::infinity());
      tensors.back().set(2 * 39 + i, 200 + static_cast<double>(i) / 8);
      tensors.back().set(3 * 39 + i, -2 - static_cast<double>(i) / 8);
    }
  }
  const auto check = [graph = *graph, dims, names = step.tensors](const std::vector<TestTensor>& done) {
    std::vector<TensorView> inputs;
    for (const ValueId id : graph.params)
      for (size_t i = 0; i < names.size(); ++i)
        if (names[i].name == graph[id].name) inputs.push_back(done[i].view());
    const auto want = interpret(graph, dims, inputs, 0, std::nullopt, Precision::oracle);
    ASSERT_TRUE(want) << to_string(want.error());
    for (size_t i = 0; i < names.size(); ++i)
      for (int64_t at = 0; names[i].output && at < done[i].size(); ++at) {
        const auto expected = static_cast<double>(want->values[static_cast<size_t>(at)]);
        const double got = done[i].get(at);
        EXPECT_TRUE(std::isnan(expected)
                        ? std::isnan(got)
                        : expected == got || std::abs(expected - got) < 1e-4 * (1 + std::abs(expected)))
            << at << ": " << got << ", expected " << expected;
      }
  };
  return {generate_cuda(step, plan_cuda(step, kTarget).choices.back().schedule, kTarget, "k"),
          args_layout(step),
          dims,
          step.tensors,
          std::move(tensors),
          check,
          program->steps.size() == 2};
}

FaultSubject make(std::string_view name) {
  if (name == kCausal)
    return forward({.heads = 1, .sq = 27, .sk = 13, .dqk = 10, .dv = 6, .mask = Mask::causal, .lse = true});
  if (name == kHidden)
    return forward({.batch = 2,
                    .heads = 3,
                    .sq = 11,
                    .sk = 21,
                    .dqk = 8,
                    .dv = 6,
                    .mask = Mask::padding,
                    .sink = true,
                    .lse = true,
                    .dropout = true});
  if (name == kTwo) return forward({.heads = 1, .sq = 9, .sk = 13, .dqk = 10, .dv = 8, .lse = true, .two_dots = true});
  if (name == kGradients)
    return backward(
        {.forward = {
             .batch = 2, .heads = 4, .group = 2, .sq = 19, .sk = 21, .dqk = 8, .dv = 8, .mask = Mask::causal_padding}});
  if (name == kHoles)
    return backward({.forward = {.batch = 2, .heads = 4, .group = 2, .sq = 10, .sk = 21, .mask = Mask::holes}});
  if (name == kBias)
    return backward({.forward = {.sq = 10, .sk = 21, .mask = Mask::causal, .score = Score::bias}, .captured = true});
  if (name == kTable) return backward({.forward = {.batch = 2, .sq = 19, .sk = 21}, .table = true});
  const std::map<std::string_view, std::string> bodies = {
      {kPointwise, "(%x: f32[M,N]) -> f32[M,N] {\n  %y = tanh %x : f32[M,N]\n"},
      {kMean, "(%a: f32[M,N]) -> f32[M,1] {\n  %y = reduce_mean %a, axis=1 : f32[M,1]\n"},
      {kMaximum, "(%x: f32[M,N]) -> f32[M,1] {\n  %y = reduce_max %x, axis=1 : f32[M,1]\n"},
      {kSoftmax, "(%x: f32[M,N]) -> f32[M,N] {\n  %y = softmax %x, axis=1 : f32[M,N]\n"},
      {kSink, "(%x: f32[M,N], %s: f32[M,1]) -> f32[M,N] {\n  %y = softmax %x, axis=1, sink=%s : f32[M,N]\n"},
      {kLogsumexp, "(%x: f32[M,N]) -> f32[M,1] {\n  %y = logsumexp %x, axis=1 : f32[M,1]\n"},
      {kMatmul, "(%a: f32[M,K], %b: f32[N,K]) -> f32[M,N] {\n  %y = matmul_nt %a, %b : f32[M,N]\n"},
      {kScatter,
       "(%a: f32[M,N], %i: i64[M,1], %j: i64[1,N]) -> f32[9,8] {\n  %y = scatter_add %a, %i, %j : f32[9,8]\n"},
      {kScatterItems,
       "(%a: f32[M,40], %i: i64[M,1]) -> f32[9,40] {\n  %j = index axis=1 : i64[1,40]\n  %y = scatter_add %a, %i, %j : "
       "f32[9,40]\n"}};
  return loop("graph @loop" + bodies.at(name) + "  return %y\n}\n");
}

class GenericFaults : public ::testing::TestWithParam<std::string_view> {};

TEST_P(GenericFaults, AreAllCaught) {
  std::vector<EmulatorOptions> executions(2);
  executions[1].seed = 1;
  FaultCase clean(make(GetParam()), executions);
  if (!HasFailure()) expect_all_caught(clean, kFaults, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Cases, GenericFaults,
                         ::testing::Values(kCausal, kHidden, kTwo, kGradients, kHoles, kBias, kTable, kPointwise, kMean,
                                           kMaximum, kSoftmax, kSink, kLogsumexp, kMatmul, kScatter, kScatterItems),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace tilewright::testing
