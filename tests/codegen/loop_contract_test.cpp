// The unfused matrix product against plain loops.
#include <cmath>
#include <limits>

#include "tests/codegen/loop_support.h"

namespace tilewright::testing {
namespace {

struct Product {
  DType in = DType::f32, out = DType::f32;
  bool nt = false;
  std::string lead_a, lead_b, lead;  ///< "2,1," for the leading axes
  Index shape_a, shape_b;            ///< their sizes
};

// Dims M, N and K are run-time values, so one kernel serves every size.
LoopRunner runner(const Product& p, const CpuTarget& target, Blocks blocks = Blocks::planned) {
  const std::string a(to_string(p.in)), c(to_string(p.out));
  const std::string type = c + "[" + p.lead + "M,N]";
  return LoopRunner("graph @f(%a: " + a + "[" + p.lead_a + "M,K], %b: " + a + "[" + p.lead_b + (p.nt ? "N,K" : "K,N") +
                        "]) -> " + type + " {\n  %c = " + (p.nt ? "matmul_nt" : "matmul") + " %a, %b : " + type +
                        "\n  return %c\n}\n",
                    target, false, blocks);
}

void check_product(LoopRunner& loop, const Product& p, int64_t m, int64_t n, int64_t k, Layout layout,
                   std::mt19937_64& random) {
  Index shape_a = p.shape_a, shape_b = p.shape_b;
  shape_a.insert(shape_a.end(), {m, k});
  shape_b.insert(shape_b.end(), {p.nt ? n : k, p.nt ? k : n});
  const auto a = random_tensor(p.in, shape_a, layout, random), b = random_tensor(p.in, shape_b, layout, random);
  const auto c = loop.run({a, b}, layout, random);
  const double sums = (p.in == DType::f64 || p.out == DType::f64 ? 0x1p-52 : 0x1p-23) * static_cast<double>(k + 8);
  expect_tensor(
      c[0], sums + rounding(p.out), fmt::format("{}x{}x{} {}", m, n, k, to_string(p.in)), [&](const Index& i) {
        const auto index = [&](const Index& lead, int64_t x, int64_t y) {
          Index result;
          for (size_t axis = 0; axis < lead.size(); ++axis)
            result.push_back(lead[axis] == 1 ? 0 : i[i.size() - 2 - lead.size() + axis]);
          result.insert(result.end(), {x, y});
          return result;
        };
        const int64_t row = i[i.size() - 2], column = i.back();
        double sum = 0;
        for (int64_t j = 0; j < k; ++j)
          sum +=
              at(a, index(p.shape_a, row, j)) * at(b, p.nt ? index(p.shape_b, column, j) : index(p.shape_b, j, column));
        return sum;
      });
}

TEST(LoopContract, OddSizesAndStrides) {
  std::mt19937_64 random(1);
  for (const CpuTarget& target : runnable_targets())
    for (bool nt : {false, true}) {
      const Product p{.nt = nt};
      LoopRunner loop = runner(p, target);
      const int64_t sizes[][3] = {{1, 1, 1},     {5, 7, 3},     {6, 64, 256}, {193, 65, 257}, {400, 3, 5},
                                  {2, 130, 600}, {191, 17, 33}, {0, 4, 4},    {4, 0, 4}};
      for (const auto& [m, n, k] : sizes) check_product(loop, p, m, n, k, kLayouts[random() % 4], random);
    }
}

// Several blocks in every direction, B packed once and by each item.
TEST(LoopContract, SmallBlocks) {
  std::mt19937_64 random(7);
  for (const CpuTarget& target : runnable_targets())
    for (bool nt : {false, true})
      for (DType dtype : {DType::f32, DType::f64}) {
        const Product p{.in = dtype, .out = dtype, .nt = nt};
        LoopRunner loop = runner(p, target, Blocks::small);
        const int64_t sizes[][3] = {{60, 150, 70}, {29, 129, 33}, {28, 128, 32}, {100, 5, 17}, {9, 300, 1}};
        for (const auto& [m, n, k] : sizes) {
          loop.packed = !loop.packed;
          check_product(loop, p, m, n, k, kLayouts[random() % 4], random);
          EXPECT_EQ(loop.ran(0), CpuTemplate::matmul);
        }
      }
}

TEST(LoopContract, FewRowsStreamB) {
  std::mt19937_64 random(8);
  for (const CpuTarget& target : runnable_targets())
    for (bool nt : {false, true})
      for (DType dtype : {DType::f32, DType::bf16, DType::f64}) {
        const Product p{.in = dtype, .out = dtype == DType::bf16 ? DType::f32 : dtype, .nt = nt};
        LoopRunner loop = runner(p, target);
        const int64_t sizes[][3] = {{1, 1100, 2100}, {8, 37, 1030}, {3, 515, 7}, {2, 5, 1}, {5, 16, 0}};
        for (const auto& [m, n, k] : sizes)
          for (Layout layout : kLayouts) {
            check_product(loop, p, m, n, k, layout, random);
            EXPECT_EQ(loop.ran(0), CpuTemplate::matvec);
          }
      }
}

// The order of every sum is fixed: neither the split of the work nor the packing of B shows.
TEST(LoopContract, SameBitsHoweverItIsSplit) {
  for (const CpuTarget& target : runnable_targets())
    for (int64_t m : {4, 200}) {
      const Product p{};
      LoopRunner loop = runner(p, target, Blocks::small);
      std::mt19937_64 random(9);
      const auto a = random_tensor(DType::f32, {m, 300}, Layout::contiguous, random);
      const auto b = random_tensor(DType::f32, {300, 520}, Layout::contiguous, random);
      loop.pieces = 1;
      const auto want = loop.run({a, b}, Layout::contiguous, random);
      for (int64_t pieces : {2, 5, 64}) {
        loop.pieces = pieces;
        loop.packed = !loop.packed;
        const auto got = loop.run({a, b}, Layout::contiguous, random);
        for_each_index({m, 520}, [&](const Index& i) { ASSERT_EQ(at(got[0], i), at(want[0], i)); });
      }
    }
}

// Bias, SiLU, a gate from memory, a residual and a narrowing cast leave with the sums.
TEST(LoopContract, Epilogue) {
  std::mt19937_64 random(10);
  for (const CpuTarget& target : runnable_targets())
    for (Blocks blocks : {Blocks::planned, Blocks::small}) {
      LoopRunner loop(
          R"(graph @f(%a: bf16[B,M,K], %w: bf16[N,K], %bias: f32[N], %u: f32[B,M,N], %r: f32[B,M,N]) -> bf16[B,M,N] {
  %s = matmul_nt %a, %w : f32[B,M,N]
  %t = add %s, %bias    : f32[B,M,N]
  %g = sigmoid %t       : f32[B,M,N]
  %h = mul %t, %g       : f32[B,M,N]
  %v = mul %h, %u       : f32[B,M,N]
  %o = add %v, %r       : f32[B,M,N]
  %c = cast %o          : bf16[B,M,N]
  return %c
})",
          target, true, blocks);
      ASSERT_EQ(loop.program().steps.size(), 1u) << print(loop.program());
      const int64_t sizes[][4] = {{3, 11, 70, 40}, {2, 30, 37, 9}, {1, 2, 40, 5}, {2, 3, 33, 0}};
      for (const auto& [b, m, n, k] : sizes)
        for (Layout layout : kLayouts) {
          const auto a = random_tensor(DType::bf16, {b, m, k}, layout, random);
          const auto w = random_tensor(DType::bf16, {n, k}, layout, random);
          const auto bias = random_tensor(DType::f32, {n}, layout, random);
          const auto u = random_tensor(DType::f32, {b, m, n}, layout, random);
          const auto r = random_tensor(DType::f32, {b, m, n}, layout, random);
          const auto c = loop.run({a, w, bias, u, r}, layout, random);
          expect_tensor(c[0], 1e-4 + rounding(DType::bf16), "epilogue", [&](const Index& i) {
            double t = at(bias, {i[2]});
            for (int64_t j = 0; j < w.shape()[1]; ++j) t += at(a, {i[0], i[1], j}) * at(w, {i[2], j});
            return t / (1 + std::exp(-t)) * at(u, i) + at(r, i);
          });
        }
    }
}

// A fault planted into the step: each column gets its neighbour's bias.
TEST(LoopContract, BiasOfANeighbourColumnIsSeen) {
  const auto plant = [](Program& program) {
    auto& step = std::get<LoopStep>(program.steps.at(0).what);
    Expr to;
    std::vector<ExprId> moved;
    for (ExprNode node : step.epilogue.nodes()) {
      for (ExprId& arg : node.args) arg = moved[static_cast<size_t>(raw(arg))];
      if (node.kind == ExprKind::load && step.tensors[static_cast<size_t>(node.tensor)].name == "bias") {
        node.args[0] = to.op(Op::add, DType::i64, {node.args[0], to.constant_int(1, DType::i64)});
        node.in_bounds = false;
      }
      moved.push_back(to.add(std::move(node)));
    }
    to.set_root(moved[static_cast<size_t>(raw(step.epilogue.root()))]);
    step.epilogue = to;
  };
  for (const CpuTarget& target : runnable_targets())
    for (int64_t m : {2, 11})  // matvec, matmul
      for (bool planted : {false, true}) {
        std::mt19937_64 random(12);
        LoopRunner loop(R"(graph @f(%a: f32[M,K], %w: f32[K,N], %bias: f32[N]) -> f32[M,N] {
  %s = matmul %a, %w   : f32[M,N]
  %c = add %s, %bias   : f32[M,N]
  return %c
})",
                        target, true, Blocks::small, planted ? plant : std::function<void(Program&)>{});
        ASSERT_EQ(loop.program().steps.size(), 1u) << print(loop.program());
        const auto a = random_tensor(DType::f32, {m, 20}, Layout::gapped, random);
        const auto w = random_tensor(DType::f32, {20, 75}, Layout::gapped, random);
        const auto bias = random_tensor(DType::f32, {75}, Layout::gapped, random);
        const auto c = loop.run({a, w, bias}, Layout::gapped, random);
        const int wrong = count_wrong(
            c[0], 1e-5,
            [&](const Index& i) {
              double sum = at(bias, {i[1]});
              for (int64_t j = 0; j < 20; ++j) sum += at(a, {i[0], j}) * at(w, {j, i[1]});
              return sum;
            },
            [](int, const Index&, double, double) {});
        EXPECT_EQ(wrong > 0, planted) << wrong << " wrong elements";
      }
}

// Aᵀ with neighbours along m is transposed while packing.
TEST(LoopContract, TransposedA) {
  std::mt19937_64 random(11);
  for (const CpuTarget& target : runnable_targets())
    for (Blocks blocks : {Blocks::planned, Blocks::small}) {
      LoopRunner loop(R"(graph @f(%x: f32[K,M], %w: f32[K,N]) -> f32[M,N] {
  %a = transpose %x, perm=[1,0] : f32[M,K]
  %c = matmul %a, %w            : f32[M,N]
  return %c
})",
                      target, true, blocks);
      for (int64_t m : {3, 47})
        for (Layout layout : kLayouts) {
          const auto x = random_tensor(DType::f32, {45, m}, layout, random);
          const auto w = random_tensor(DType::f32, {45, 70}, layout, random);
          const auto c = loop.run({x, w}, layout, random);
          expect_tensor(c[0], 1e-5, "transposed", [&](const Index& i) {
            double sum = 0;
            for (int64_t k = 0; k < 45; ++k) sum += at(x, {k, i[0]}) * at(w, {k, i[1]});
            return sum;
          });
        }
    }
}

TEST(LoopContract, NothingToSumGivesZeros) {
  std::mt19937_64 random(2);
  for (const CpuTarget& target : runnable_targets()) {
    const Product p{};
    LoopRunner loop = runner(p, target);
    check_product(loop, p, 200, 70, 0, Layout::gapped, random);
  }
}

TEST(LoopContract, EveryType) {
  std::mt19937_64 random(3);
  const std::pair<DType, DType> types[] = {{DType::f64, DType::f64},  {DType::f32, DType::f64},
                                           {DType::bf16, DType::f32}, {DType::bf16, DType::bf16},
                                           {DType::f16, DType::f16},  {DType::f16, DType::f32}};
  for (const CpuTarget& target : runnable_targets())
    for (const auto& [in, out] : types)
      for (bool nt : {false, true}) {
        const Product p{.in = in, .out = out, .nt = nt};
        LoopRunner loop = runner(p, target);
        check_product(loop, p, 7, 37, 19, Layout::contiguous, random);
        check_product(loop, p, 13, 9, 300, Layout::reversed, random);
      }
}

TEST(LoopContract, LeadingAxesBroadcast) {
  std::mt19937_64 random(4);
  const Product shapes[] = {
      {.lead_a = "2,3,", .lead_b = "2,3,", .lead = "2,3,", .shape_a = {2, 3}, .shape_b = {2, 3}},
      {.lead_a = "2,1,", .lead_b = "1,3,", .lead = "2,3,", .shape_a = {2, 1}, .shape_b = {1, 3}},
      {.lead_a = "3,", .lead_b = "2,3,", .lead = "2,3,", .shape_a = {3}, .shape_b = {2, 3}},
      {.lead_a = "2,3,", .lead_b = "", .lead = "2,3,", .shape_a = {2, 3}, .shape_b = {}},
  };
  for (const CpuTarget& target : runnable_targets())
    for (Product p : shapes)
      for (bool nt : {false, true}) {
        p.nt = nt;
        LoopRunner loop = runner(p, target);
        check_product(loop, p, 5, 6, 7, Layout::gapped, random);
        check_product(loop, p, 1, 20, 9, Layout::permuted, random);
      }
}

// Transposes, slices and casts reach the product through its expressions: no copy is made.
TEST(LoopContract, ReadsThroughViews) {
  std::mt19937_64 random(5);
  for (const CpuTarget& target : runnable_targets()) {
    LoopRunner loop(R"(graph @f(%x: bf16[B,S,3,8], %w: bf16[N,8,3]) -> f32[B,3,S,N] {
  %t = transpose %x, perm=[0,2,1,3]      : bf16[B,3,S,8]
  %a = slice %t, axis=3, begin=1, end=7  : bf16[B,3,S,6]
  %f = cast %a                           : f32[B,3,S,6]
  %v = transpose %w, perm=[2,1,0]        : bf16[3,8,N]
  %u = slice %v, axis=1, begin=2, end=8  : bf16[3,6,N]
  %g = cast %u                           : f32[3,6,N]
  %c = matmul %f, %g                     : f32[B,3,S,N]
  return %c
})",
                    target, true);
    EXPECT_EQ(loop.program().steps.size(), 1u);
    for (Layout layout : kLayouts) {
      const auto x = random_tensor(DType::bf16, {2, 11, 3, 8}, layout, random);
      const auto w = random_tensor(DType::bf16, {37, 8, 3}, layout, random);
      const auto c = loop.run({x, w}, layout, random);
      expect_tensor(c[0], 1e-6, "views", [&](const Index& i) {
        double sum = 0;
        for (int64_t k = 0; k < 6; ++k) sum += at(x, {i[0], i[2], i[1], k + 1}) * at(w, {i[3], k + 2, i[1]});
        return sum;
      });
    }
  }
}

TEST(LoopContract, NanStaysInItsRowAndColumn) {
  std::mt19937_64 random(6);
  for (const CpuTarget& target : runnable_targets()) {
    const Product p{};
    LoopRunner loop = runner(p, target);
    auto a = random_tensor(DType::f32, {9, 5}, Layout::contiguous, random);
    auto b = random_tensor(DType::f32, {5, 70}, Layout::contiguous, random);
    a.set(3 * 5 + 4, std::numeric_limits<double>::quiet_NaN());
    b.set(2 * 70 + 69, std::numeric_limits<double>::infinity());
    const auto c = loop.run({a, b}, Layout::contiguous, random);
    for_each_index({9, 70}, [&](const Index& i) {
      EXPECT_EQ(std::isfinite(at(c[0], i)), i[0] != 3 && i[1] != 69) << i[0] << " " << i[1];
    });
  }
}

}  // namespace
}  // namespace tilewright::testing
