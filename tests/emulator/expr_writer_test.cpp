// The text of expressions, run on the emulator: random integer and bool expressions, to the bit, and every float op on
// special values, against the oracle's evaluation.
#include "codegen/cuda/expr_writer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compiler/passes.h"
#include "emulator/module.h"
#include "ir/interp.h"
#include "tests/support/random_expr.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {
namespace {

const DimBindings kDims{{"Sk", 32}, {"Sq", 20}};
constexpr int64_t kExtents[] = {2, 8, 20, 32};
const std::vector<std::pair<Axis, std::string>> kNames = {
    {Axis::b, "b"}, {Axis::h, "h"}, {Axis::q, "q"}, {Axis::kv, "kv"}};

/// Roots of one Expr over b, h, q, kv, and what they read.
struct Roots {
  Expr expr;
  std::vector<ExprId> ids;
};

/// All roots at `points` random places, row by row: integers and bools as i64, floats as f64 bits.
std::vector<double> run_roots(const Roots& roots, std::vector<SpecTensor> types, std::vector<TensorView> views,
                              const std::vector<std::array<int64_t, 12>>& points) {
  LoopStep step;
  step.value = roots.expr;
  step.value.set_root(
      step.value.op(Op::add, DType::i64, {step.value.dim(Dim::named("Sk")), step.value.dim(Dim::named("Sq"))}));
  const auto count = static_cast<int64_t>(points.size()), width = static_cast<int64_t>(roots.ids.size());
  types.push_back({"places", {DType::i64, {count, 4}}});
  types.push_back({"out", {DType::f64, {count, width}}, true});
  step.tensors = types;
  const ArgsLayout layout = args_layout(step);
  cuda::DeviceNames names(step.tensors, layout);
  const cuda::AxisNames axes{kNames[0], kNames[1], kNames[2], kNames[3]};
  const cuda::WrittenRoots written = cuda::write_roots(names, axes, roots.expr, roots.ids);
  std::string body;
  for (size_t i = 0; i < written.roots.size(); ++i)
    body += fmt::format("  out[{}] = double({});\n", i, written.roots[i].text);
  CudaSource source;
  CudaPhase phase;
  phase.symbol = "kernel";
  phase.threads = 32;
  source.parts = {
      std::string(device_file("math.cuh")), names.text(),
      fmt::format("TW_DEVICE void roots(const Args& args, float s, i32 b, i32 h, i32 q, i32 kv, double* out) "
                  "{{\n{}{}}}\n"
                  "TW_KERNEL(32, 1) kernel(TW_PARAM Args args) {{\n"
                  "  const i64 n = block_index() * 32 + thread_index();\n  if (n >= {}) return;\n"
                  "  const i64* at = (const i64*)args.tensors[kTensor_places] + 4 * n;\n"
                  "  roots(args, float(at[3]) * 0.25f - 3.0f, i32(at[0]), i32(at[1]), i32(at[2]), "
                  "i32(at[3]), (double*)args.tensors[kTensor_out] + n * {});\n}}\n",
                  written.lines, body, count, width)};
  source.launch.phases.push_back(phase);
  const auto module = EmulatedModule::build(source);
  if (!module) {
    ADD_FAILURE() << to_string(module.error()) << source.parts[1] << source.parts[2];
    return {};
  }
  std::vector<int64_t> places;
  for (const auto& point : points) places.insert(places.end(), point.begin(), point.begin() + 4);
  std::vector<double> out(static_cast<size_t>(count * width), std::nan(""));
  views.push_back(TensorView::contiguous(places.data(), DType::i64, {count, 4}));
  views.push_back(TensorView::contiguous(out.data(), DType::f64, {count, width}));
  std::vector<uint64_t> words;
  for (const TensorView& view : views) words.push_back(reinterpret_cast<uint64_t>(view.data));
  for (const std::string& name : layout.dims) words.push_back(static_cast<uint64_t>(kDims.find(name)->second));
  for (const TensorView& view : views) {
    for (int axis = 0; axis < view.rank; ++axis) words.push_back(static_cast<uint64_t>(view.shape[axis]));
    for (int axis = 0; axis < view.rank; ++axis) words.push_back(static_cast<uint64_t>(view.strides[axis]));
  }
  words.push_back(0);
  EmulatedLaunch launch;
  launch.symbol = "kernel";
  launch.blocks = (count + 31) / 32;
  launch.threads = 32;
  launch.args = words;
  const auto done = module->launch(launch);
  EXPECT_TRUE(done) << to_string(done.error());
  return out;
}

std::vector<std::array<int64_t, 12>> random_points(std::mt19937_64& random, int count) {
  std::vector<std::array<int64_t, 12>> points(static_cast<size_t>(count));
  for (auto& point : points)
    for (size_t axis = 0; axis < 4; ++axis)
      point[axis] = static_cast<int64_t>(random() % static_cast<uint64_t>(kExtents[axis]));
  return points;
}

TEST(ExprWriter, RandomIntegersAndBoolsToTheBit) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 12; ++round) {
    const MaskTensors tensors(random, round % 3 == 0);
    Roots roots;
    RandomExpr generate(random, roots.expr);
    for (int i = 0; i < 25; ++i)
      roots.ids.push_back(i % 2 ? generate.boolean(4) : generate.integer(4, i % 4 ? DType::i64 : DType::i32));
    // Only the low 53 bits pass through f64.
    for (ExprId& id : roots.ids)
      if (roots.expr[id].dtype == DType::i64)
        id = roots.expr.op(Op::mod, DType::i64, {id, roots.expr.constant_int(int64_t{1} << 53, DType::i64)});
    const auto points = random_points(random, 64);
    const std::vector<double> found = run_roots(roots, tensors.types(), tensors.views(), points);
    ASSERT_FALSE(found.empty());
    for (size_t p = 0; p < points.size(); ++p)
      for (size_t i = 0; i < roots.ids.size(); ++i) {
        Expr one = roots.expr;
        one.set_root(roots.ids[i]);
        const int64_t want = evaluate_int(one, kDims, tensors.views(), points[p]);
        ASSERT_EQ(found[p * roots.ids.size() + i], static_cast<double>(want)) << dump(one.pruned());
      }
  }
}

TEST(ExprWriter, FloatOpsOnSpecialValues) {
  const double special[] = {0, -0.0, 1, -1, 0.5, -2.5, 3e9, -3e19, 1e-3, 88, -88, 6, HUGE_VAL, -HUGE_VAL, std::nan("")};
  for (const DType dtype : {DType::f32, DType::f64}) {
    Roots roots;
    Expr& e = roots.expr;
    const auto keep = [&](ExprId id) { roots.ids.push_back(id); };
    for (const double x : special) {
      const ExprId a =
          e.op(Op::add, dtype,
               {e.constant(x, dtype),
                e.op(Op::cast, dtype, {e.op(Op::mul, DType::i64, {e.index(Axis::b), e.constant_int(0, DType::i64)})})});
      for (const Op op : {Op::neg, Op::abs, Op::exp, Op::exp2, Op::log, Op::tanh, Op::sigmoid, Op::erf, Op::sqrt,
                          Op::rsqrt, Op::floor})
        keep(e.op(op, dtype, {a}));
      for (const DType to : {DType::i64, DType::i32, DType::i8, DType::boolean}) {
        const ExprId cast = e.op(Op::cast, to, {a});
        keep(to == DType::i64 ? e.op(Op::shr, to, {cast, e.constant_int(11, to)}) : cast);
      }
      for (const double y : special) {
        const ExprId b = e.constant(y, dtype);
        for (const Op op : {Op::min, Op::max, Op::div}) keep(e.op(op, dtype, {a, b}));
        for (const Op op : {Op::lt, Op::le, Op::eq, Op::ne, Op::gt, Op::ge}) keep(e.op(op, DType::boolean, {a, b}));
      }
    }
    const std::vector<std::array<int64_t, 12>> points(1);
    const std::vector<double> found = run_roots(roots, {}, {}, points);
    ASSERT_FALSE(found.empty());
    const std::vector<long double> products(2, 0);
    const std::vector<long double> want = evaluate(e, roots.ids, kDims, {}, points[0], products);
    const double tolerance = dtype == DType::f32 ? 1e-6 : 1e-14;
    for (size_t i = 0; i < want.size(); ++i) {
      Expr one = e;
      one.set_root(roots.ids[i]);
      const auto expected = static_cast<double>(want[i]);
      const bool overflows = dtype == DType::f32 && std::abs(expected) > 3.4e38;
      if (std::isnan(expected))
        EXPECT_TRUE(std::isnan(found[i])) << dump(one.pruned());
      else if (std::isinf(expected) || overflows)
        EXPECT_EQ(found[i], std::copysign(HUGE_VAL, expected)) << dump(one.pruned());
      else
        EXPECT_NEAR(found[i], expected, tolerance * std::max(1.0, std::abs(expected))) << dump(one.pruned());
    }
  }
}

}  // namespace
}  // namespace tilewright::testing
