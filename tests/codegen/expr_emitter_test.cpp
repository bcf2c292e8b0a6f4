// Every op, dtype and load form of the emitter against the oracle's evaluate, on 1, 8 and 16 lanes and both ISAs; then
// random expressions whose values are exact.
#include "codegen/cpu/expr_emitter.h"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <cfloat>
#include <cmath>
#include <random>

#include "codegen/cpu/cpu_module.h"
#include "codegen/kernel_abi.h"
#include "ir/interp.h"
#include "runtime/cpu_detect.h"
#include "runtime/orc_jit.h"
#include "tests/support/test_tensor.h"

namespace tilewright {
namespace {
using testing::Layout;
using testing::TestTensor;

constexpr int64_t kExtent = 37;  ///< positions of the varying axis

struct Scene {
  Expr expr;
  std::vector<SpecTensor> types;
  std::vector<TestTensor> tensors;
  DimBindings dims{{"N", 7}, {"Sk", kExtent}};
  std::array<int64_t, 12> axes{1, 2, 5, 0, 3, 0, 0, 0, 1, 4, 3, 20};
  std::vector<double> scores;  ///< by position

  int add(DType dtype, std::vector<int64_t> shape, Layout layout, std::mt19937_64& random) {
    SpecTensor type;
    type.name = "t" + std::to_string(types.size());
    type.type.dtype = dtype;
    for (int64_t size : shape) type.type.shape.push_back(Dim(size));
    types.push_back(type);
    tensors.emplace_back(dtype, shape, layout, random);
    return static_cast<int>(types.size()) - 1;
  }
  std::vector<TensorView> views() const {
    std::vector<TensorView> list;
    for (const TestTensor& t : tensors) list.push_back(t.view());
    return list;
  }
};

struct Scratch {
  const int64_t* axes;
  const double* scores;
  void* out;
};

/// Results at all positions, `out` of the root's dtype.
void run(const Scene& scene, const CpuTarget& target, int64_t lanes, void* out) {
  AttentionSpec spec;
  spec.tensors = scene.types;
  spec.score = scene.expr;
  spec.q_len = Dim::named("N"), spec.kv_len = Dim::named("Sk");
  const ArgsLayout layout = args_layout(spec);
  CpuModule module = make_cpu_module("expr");
  cpu::LlvmBuilder b(module.state(), target);
  b.begin_kernel("expr");
  cpu::ArgsReader args(b, layout);
  const DType dtype = scene.expr.root_node().dtype;
  auto field = [&](uint64_t i) {
    return b.ir.CreateAlignedLoad(b.pointer_type(), b.ir.CreateConstGEP1_64(b.pointer_type(), b.argument(3), i),
                                  llvm::Align(8));
  };
  llvm::Value *axes = field(0), *scores = field(1), *results = field(2);
  DType score_type = DType::f32;
  for (const ExprNode& node : scene.expr.nodes())
    if (node.kind == ExprKind::score) score_type = node.dtype;
  cpu::ExprEmitter emitter(b, args, scene.types, scene.expr, lanes, Axis::kv);
  auto axis = [&](int i) { return b.load(DType::i64, b.element_pointer(DType::i64, axes, b.i64(i))); };
  for (int i : {0, 1}) emitter.set_axis(static_cast<Axis>(i), axis(i));
  emitter.hoist();
  b.loop(b.i64(0), b.i64(1), 1, [&](llvm::Value*) {
    for (int i : {2, 4, 5, 6, 7, 8, 9, 10, 11}) emitter.set_axis(static_cast<Axis>(i), axis(i));
    emitter.hoist();
    b.loop(b.argument(1), b.argument(2), lanes, [&](llvm::Value* at) {
      llvm::Value* mask = lanes == 1 ? nullptr : b.lane_mask(b.sub(b.argument(2), at), lanes);
      llvm::Value* s = b.load_vector(DType::f64, b.element_pointer(DType::f64, scores, at), lanes, mask);
      if (score_type != DType::f64) s = b.ir.CreateFPCast(s, b.vector_type(score_type, lanes));
      llvm::Value* value = emitter.emit(at, s, mask);
      llvm::Value* pointer =
          b.element_pointer(dtype == DType::bf16 || dtype == DType::f16 ? DType::f32 : dtype, results, at);
      const DType stored = dtype == DType::bf16 || dtype == DType::f16 ? DType::f32 : dtype;
      if (lanes == 1)
        b.store(stored, value, pointer);
      else
        b.store_vector(stored, value, pointer, mask);
    });
  });
  b.ret();
  auto object = compile_module(std::move(module), target, {.verify = true});
  ASSERT_TRUE(object) << to_string(object.error());
  auto code = JitCode::load(object->bytes);
  ASSERT_TRUE(code) << to_string(code.error());

  std::vector<int64_t> meta;
  for (const std::string& name : layout.dims) meta.push_back(scene.dims.at(name));
  std::vector<void*> pointers;
  for (const TestTensor& tensor : scene.tensors) {
    const TensorView& view = tensor.view();
    pointers.push_back(view.data);
    meta.insert(meta.end(), view.shape.begin(), view.shape.begin() + view.rank);
    meta.insert(meta.end(), view.strides.begin(), view.strides.begin() + view.rank);
  }
  meta.push_back(0), pointers.push_back(nullptr);
  const KernelArgs kernel_args{pointers.data(), meta.data(), nullptr, nullptr};
  Scratch scratch{scene.axes.data(), scene.scores.data(), out};
  (*code)->find_as<KernelFunction>("expr")(&kernel_args, 0, kExtent, &scratch);
}

std::vector<std::pair<CpuTarget, int64_t>> configurations(bool thorough) {
  std::vector<std::pair<CpuTarget, int64_t>> list;
  CpuTarget target = detect_cpu();
  if (target.isa >= CpuIsa::avx512) list.insert(list.end(), {{target, 16}, {target, 8}, {target, 1}});
  target.isa = CpuIsa::avx2;
  list.insert(list.end(), {{target, 8}, {target, 4}, {target, 1}});
  if (!thorough) {  // widest first, another one in turn
    static size_t turn = 0;
    std::swap(list[1], list[1 + ++turn % (list.size() - 1)]);
    list.resize(2);
  }
  return list;
}

/// Integers and bools exactly; floats within `tolerance` (relative, and absolute below 1), NaN where the oracle has it.
void check(const Scene& scene, double tolerance = 0, bool thorough = false) {
  const DType dtype = scene.expr.root_node().dtype;
  const auto views = scene.views();
  for (const auto& [target, lanes] : configurations(thorough)) {
    std::vector<double> buffer(kExtent + 1, -777);
    run(scene, target, lanes, buffer.data());
    if (::testing::Test::HasFatalFailure()) return;
    for (int64_t at = 0; at < kExtent; ++at) {
      auto axes = scene.axes;
      axes[static_cast<size_t>(Axis::kv)] = at;
      const auto i = static_cast<size_t>(at);
      const std::string where =
          std::string(to_string(target.isa)) + " lanes " + std::to_string(lanes) + " position " + std::to_string(at);
      if (!is_float(dtype)) {
        const int64_t want = evaluate_int(scene.expr, scene.dims, views, axes);
        int64_t got = 0;
        switch (dtype) {
          case DType::i64: got = reinterpret_cast<const int64_t*>(buffer.data())[i]; break;
          case DType::i32: got = reinterpret_cast<const int32_t*>(buffer.data())[i]; break;
          default: got = reinterpret_cast<const int8_t*>(buffer.data())[i]; break;
        }
        ASSERT_EQ(got, want) << where;
        continue;
      }
      // The emitter sees the score in its own precision.
      double score = scene.scores[i];
      const long double want = evaluate(scene.expr, scene.dims, views, axes, score);
      const double got =
          dtype == DType::f64 ? buffer[i] : static_cast<double>(reinterpret_cast<const float*>(buffer.data())[i]);
      const long double largest = dtype == DType::f64 ? DBL_MAX : FLT_MAX;
      if (std::isnan(want)) {
        ASSERT_TRUE(std::isnan(got)) << where << " got " << got;
      } else if (std::fabs(want) > largest) {
        ASSERT_EQ(got, want > 0 ? INFINITY : -INFINITY) << where;
      } else {
        ASSERT_LE(std::fabs(static_cast<double>(got - want)),
                  tolerance * std::max(1.0, std::fabs(static_cast<double>(want))))
            << where << " got " << got << " want " << static_cast<double>(want);
      }
    }
  }
}

void fill_scores(Scene& scene) {
  const double special[] = {0,    -0.0,     1,         -1,  0.5, 2.25, -3.75, 100,   -100,
                            1e-3, INFINITY, -INFINITY, NAN, 3e9, -3e9, 1e30,  127.5, -128.75};
  for (int64_t i = 0; i < kExtent; ++i)
    scene.scores.push_back(
        i < 18 ? special[i]
               : static_cast<double>(static_cast<float>(std::sin(static_cast<double>(i)) * static_cast<double>(i))));
}

TEST(ExprEmitter, FloatOps) {
  const Op unary[] = {Op::neg,     Op::abs, Op::exp,  Op::exp2,  Op::log,  Op::tanh,
                      Op::sigmoid, Op::erf, Op::sqrt, Op::rsqrt, Op::floor};
  const Op binary[] = {Op::add, Op::sub, Op::mul, Op::div, Op::mod, Op::min, Op::max};
  const Op comparisons[] = {Op::eq, Op::ne, Op::lt, Op::le, Op::gt, Op::ge};
  for (DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const double tolerance = dtype == DType::f64 ? 1e-15 : 6e-7;
    const DType score_type = dtype == DType::f64 ? DType::f64 : DType::f32;
    auto scene_of = [&](auto&& body) {
      Scene scene;
      fill_scores(scene);
      // Results below the normal range may be 0 and huge ones inf in f32: keep arguments in the middle.
      body(scene.expr);
      return scene;
    };
    for (Op op : unary) {
      SCOPED_TRACE(std::string(info(op).name) + " " + std::string(to_string(dtype)));
      check(scene_of([&](Expr& e) { e.set_root(e.op(op, dtype, {e.score(score_type)})); }), tolerance);
      if (HasFatalFailure()) return;
    }
    for (Op op : binary) {
      SCOPED_TRACE(std::string(info(op).name) + " " + std::string(to_string(dtype)));
      for (double other : {2.5, -1.0, double(NAN)})
        for (bool left : {false, true}) {
          if (op == Op::mod && std::isfinite(other)) continue;
          check(scene_of([&](Expr& e) {
                  ExprId s = e.score(score_type), c = e.constant(other, dtype);
                  e.set_root(left ? e.op(op, dtype, {c, s}) : e.op(op, dtype, {s, c}));
                }),
                tolerance);
          if (HasFatalFailure()) return;
        }
    }
    for (Op op : comparisons)
      for (double other : {1.0, double(NAN)}) {
        Scene scene = scene_of([&](Expr& e) {
          ExprId c = e.op(op, DType::boolean, {e.score(score_type), e.constant(other, dtype)});
          e.set_root(e.op(Op::select, dtype, {c, e.constant(1, dtype), e.constant(2, dtype)}));
        });
        check(scene);
        if (HasFatalFailure()) return;
      }
    for (DType to : {DType::i64, DType::i32, DType::i8, DType::boolean}) {
      // Through select, so that the oracle's float evaluation carries the score.
      Scene scene = scene_of([&](Expr& e) {
        ExprId whole = e.op(Op::cast, to, {e.score(score_type)});
        e.set_root(e.op(Op::cast, DType::f64, {whole}));
      });
      SCOPED_TRACE(std::string("cast to ") + std::string(to_string(to)));
      check(scene, 1.2e-16);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(ExprEmitter, FloatMod) {
  Scene scene;
  fill_scores(scene);
  for (double& s : scene.scores)
    if (!(std::fabs(s) < 1000)) s = 7.25;
  Expr& e = scene.expr;
  e.set_root(e.op(Op::mod, DType::f32, {e.score(DType::f32), e.constant(1.5, DType::f32)}));
  check(scene, 1e-4);
}

TEST(ExprEmitter, IntegerOps) {
  const Op binary[] = {Op::add, Op::sub, Op::mul, Op::div,         Op::mod,        Op::min,
                       Op::max, Op::shl, Op::shr, Op::logical_and, Op::logical_or, Op::logical_xor};
  const Op comparisons[] = {Op::eq, Op::ne, Op::lt, Op::le, Op::gt, Op::ge};
  const Op unary[] = {Op::neg, Op::abs, Op::logical_not};
  std::mt19937_64 random(3);
  for (DType dtype : {DType::i64, DType::i32, DType::i8}) {
    const int64_t least = dtype == DType::i64 ? INT64_MIN : dtype == DType::i32 ? INT32_MIN : INT8_MIN;
    auto scene_of = [&](int kinds, Op op, DType result, bool two) {
      Scene scene;
      scene.scores.assign(kExtent, 0);
      const int table = scene.add(dtype, {kExtent}, Layout::contiguous, random);
      const int second = scene.add(dtype, {kExtent}, Layout::gapped, random);
      for (int64_t i = 0; i < kExtent; ++i) {
        const int64_t values[] = {least, least + 1, -1 - least, -1, 0, 1, 2, -2, 3, 7, -7, 63, 64, 100, -100};
        const auto view = scene.tensors[0].view(), view2 = scene.tensors[1].view();
        (void)view, (void)view2;
        auto put = [&](TestTensor& t, int64_t value) {
          void* p = static_cast<char*>(t.view().data) + i * t.view().strides[0] * size_of(dtype);
          if (dtype == DType::i64) *static_cast<int64_t*>(p) = value;
          if (dtype == DType::i32) *static_cast<int32_t*>(p) = static_cast<int32_t>(value);
          if (dtype == DType::i8) *static_cast<int8_t*>(p) = static_cast<int8_t>(value);
        };
        put(scene.tensors[0], values[random() % 15]);
        put(scene.tensors[1], values[random() % 15]);
      }
      Expr& e = scene.expr;
      ExprId kv = e.index(Axis::kv), q = e.index(Axis::q);
      auto operand = [&](int kind, int t) {
        switch (kind) {
          case 0: return e.load(t, dtype, {kv}, true);
          case 1: return e.load(t, dtype, {q}, false);  // uniform
          case 2: return dtype == DType::i8 ? e.load(t, dtype, {kv}, true) : e.index(Axis::kv, dtype);
          case 3: return e.constant_int(t == 0 ? 100 : 8, dtype);
          case 4: return e.constant_int(t == 0 ? -5 : 7, dtype);
          default: return e.constant_int(t == 0 ? least : 0, dtype);
        }
      };
      ExprId a = operand(kinds % 6, table), b2 = operand(kinds / 6, second);
      e.set_root(two ? e.op(op, result, {a, b2}) : e.op(op, result, {a}));
      return scene;
    };
    for (int kinds = static_cast<int>(dtype) % 5; kinds < 36; kinds += 5) {
      for (Op op : binary) {
        SCOPED_TRACE(std::string(info(op).name) + " " + std::string(to_string(dtype)) + " operands " +
                     std::to_string(kinds));
        check(scene_of(kinds, op, dtype, true));
        if (HasFatalFailure()) return;
      }
      if (kinds % 2 == 0)
        for (Op op : comparisons) {
          SCOPED_TRACE(std::string(info(op).name) + " " + std::string(to_string(dtype)) + " operands " +
                       std::to_string(kinds));
          check(scene_of(kinds, op, DType::boolean, true));
          if (HasFatalFailure()) return;
        }
      if (kinds < 12)
        for (Op op : unary) {
          SCOPED_TRACE(std::string(info(op).name) + " " + std::string(to_string(dtype)) + " operands " +
                       std::to_string(kinds));
          check(scene_of(kinds, op, dtype, false));
          if (HasFatalFailure()) return;
        }
    }
    for (DType to : {DType::i64, DType::i32, DType::i8, DType::boolean, DType::f32, DType::f64})
      for (int kinds : {0, 1, 2}) {
        SCOPED_TRACE(std::string("cast ") + std::string(to_string(dtype)) + " to " + std::string(to_string(to)));
        check(scene_of(kinds, Op::cast, to, false), to == DType::f32 ? 6e-8 : to == DType::f64 ? 1.2e-16 : 0);
        if (HasFatalFailure()) return;
      }
  }
}

/// rest ± kv compared with limits from all over the integers.
TEST(ExprEmitter, ThresholdsAreExactForAllBases) {
  std::mt19937_64 random(5);
  const int64_t limits[] = {INT64_MIN,
                            INT64_MIN + 5,
                            -(int64_t{1} << 33),
                            INT32_MIN,
                            -40,
                            -1,
                            0,
                            1,
                            15,
                            16,
                            17,
                            36,
                            37,
                            INT32_MAX - 1,
                            INT32_MAX,
                            int64_t{1} << 31,
                            int64_t{1} << 40,
                            INT64_MAX - 3,
                            INT64_MAX};
  for (int64_t limit : limits)
    for (int64_t rest :
         {int64_t{0}, int64_t{-7}, int64_t{1} << 34, -(int64_t{1} << 34), INT64_MAX - 10, INT64_MIN + 3}) {
      const Op op = std::array{Op::lt, Op::ge, Op::eq, Op::le, Op::gt, Op::ne}[random() % 6];
      Scene scene;
      scene.scores.assign(kExtent, 0);
      Expr& e = scene.expr;
      ExprId kv = e.index(Axis::kv), c = e.constant_int(rest, DType::i64), l = e.constant_int(limit, DType::i64);
      const int shape = static_cast<int>(random() % 4);
      ExprId line = shape % 2 ? e.op(Op::sub, DType::i64, {c, kv}) : e.op(Op::add, DType::i64, {kv, c});
      e.set_root(shape < 2 ? e.op(op, DType::boolean, {line, l}) : e.op(op, DType::boolean, {l, line}));
      SCOPED_TRACE("limit " + std::to_string(limit) + " rest " + std::to_string(rest) + " shape " +
                   std::to_string(shape));
      check(scene);
      if (HasFatalFailure()) return;
    }
}

TEST(ExprEmitter, LoadsOfEveryTypeAndLayout) {
  std::mt19937_64 random(11);
  const auto c = [](Expr& e, int64_t v) { return e.constant_int(v, DType::i64); };
  for (DType dtype :
       {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32, DType::i8, DType::boolean})
    for (Layout layout : {Layout::contiguous, Layout::permuted, Layout::gapped, Layout::reversed})
      for (int form = 0; form < 8; ++form) {
        if (layout == Layout::permuted && form % 2) continue;
        Scene scene;
        scene.scores.assign(kExtent, 0);
        const int t = scene.add(dtype, form == 6 ? std::vector<int64_t>{1, kExtent} : std::vector<int64_t>{6, kExtent},
                                layout, random);
        const int empty = scene.add(dtype, {0, 4}, Layout::contiguous, random);
        for (int64_t i = 0; i < scene.tensors[0].size(); ++i)
          scene.tensors[0].set(i, is_float(dtype)           ? static_cast<double>(i) / 8 - 9
                                  : dtype == DType::boolean ? i % 3 == 0
                                                            : static_cast<double>(i % 100 - 50));
        Expr& e = scene.expr;
        ExprId kv = e.index(Axis::kv), q = e.index(Axis::q);
        auto op = [&](Op o, ExprId a, ExprId b) { return e.op(o, DType::i64, {a, b}); };
        ExprId value{};
        switch (form) {
          case 0: value = e.load(t, dtype, {q, kv}, true); break;
          case 1: value = e.load(t, dtype, {q, op(Op::sub, kv, c(e, 9))}, false); break;
          case 2: value = e.load(t, dtype, {op(Op::mod, kv, c(e, 5)), op(Op::mul, kv, kv)}, false); break;
          case 3: value = e.load(t, dtype, {op(Op::sub, q, c(e, 100)), op(Op::div, kv, c(e, 2))}, false); break;
          case 4: value = e.load(t, dtype, {q, op(Op::sub, c(e, kExtent - 1), kv)}, true); break;
          case 5: value = e.load(t, dtype, {c(e, INT64_MAX), c(e, INT64_MIN)}, false); break;
          case 6: value = e.load(t, dtype, {c(e, 0), op(Op::shl, kv, c(e, 40))}, false); break;
          default: value = e.load(empty, dtype, {kv, q}, false); break;
        }
        e.set_root(value);
        SCOPED_TRACE(std::string(to_string(dtype)) + " layout " + std::to_string(static_cast<int>(layout)) + " form " +
                     std::to_string(form));
        check(scene);
        if (HasFatalFailure()) return;
      }
}

TEST(ExprEmitter, BoxMinimaAndMaxima) {
  std::mt19937_64 random(13);
  for (DType dtype : {DType::i32, DType::i64, DType::f32, DType::boolean})
    for (Layout layout : {Layout::contiguous, Layout::gapped})
      for (ExprKind kind : {ExprKind::load_min, ExprKind::load_max}) {
        Scene scene;
        scene.scores.assign(kExtent, 0);
        const int t = scene.add(dtype, {6, 50}, layout, random);
        for (int64_t i = 0; i < scene.tensors[0].size(); ++i)
          scene.tensors[0].set(i, dtype == DType::boolean ? random() % 2 : static_cast<double>(random() % 2000) - 1000);
        Expr& e = scene.expr;
        ExprNode node;
        node.kind = kind, node.dtype = dtype, node.tensor = t;
        node.args = {e.index(Axis::q_lo), e.index(Axis::kv_lo), e.index(Axis::q_hi),
                     e.op(Op::add, DType::i64, {e.index(Axis::kv_hi), e.constant_int(100, DType::i64)})};
        e.set_root(e.add(node));
        check(scene);
        if (HasFatalFailure()) return;
      }
}

/// Random integer and bool expressions, with floats that hold small whole numbers.
class RandomExpr {
 public:
  explicit RandomExpr(uint64_t seed) : random_(seed) {
    scene_.scores.assign(kExtent, 0);
    for (DType dtype : {DType::i64, DType::i32, DType::i8, DType::boolean, DType::f32}) {
      tables_.push_back(scene_.add(dtype, {3, 1 + static_cast<int64_t>(random_() % 40)},
                                   static_cast<Layout>(random_() % 4), random_));
      TestTensor& t = scene_.tensors.back();
      for (int64_t i = 0; i < t.size(); ++i)
        t.set(i, dtype == DType::boolean ? random_() % 2 : static_cast<double>(random_() % 255) - 127);
    }
  }
  Scene build() {
    const int kind = static_cast<int>(random_() % 4);
    scene_.expr.set_root(kind == 0   ? boolean(4)
                         : kind == 3 ? real(3)
                                     : integer(kind == 1 ? DType::i64 : DType::i32, 4));
    return std::move(scene_);
  }

 private:
  Expr& e() { return scene_.expr; }
  int pick(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }

  ExprId integer(DType dtype, int depth) {
    if (depth == 0 || pick(6) == 0) {
      switch (pick(6)) {
        case 0: return e().index(Axis::kv, dtype);
        case 1: return e().index(static_cast<Axis>(pick(3)), dtype);
        case 2: return e().constant_int(pick(40) - 20, dtype);
        case 3:
          return dtype == DType::i64 ? e().dim(Dim::named("Sk", pick(3) - 1) + Dim(pick(9)))
                                     : e().constant_int(1 << pick(31), dtype);
        case 4:
          return e().constant_int(static_cast<int64_t>(random_()) >> (dtype == DType::i64 ? pick(63) : 33 + pick(30)),
                                  dtype);
        default: return e().index(Axis::kv, dtype);
      }
    }
    static constexpr Op kOps[] = {Op::add, Op::sub, Op::mul,         Op::div,        Op::mod,         Op::min, Op::max,
                                  Op::shl, Op::shr, Op::logical_and, Op::logical_or, Op::logical_xor, Op::add, Op::sub};
    switch (pick(10)) {
      case 0: return e().op(pick(2) ? Op::neg : Op::abs, dtype, {integer(dtype, depth - 1)});
      case 1:
        return e().op(Op::select, dtype, {boolean(depth - 1), integer(dtype, depth - 1), integer(dtype, depth - 1)});
      case 2: {
        static constexpr DType kFrom[] = {DType::i64, DType::i32};
        return e().op(Op::cast, dtype, {integer(kFrom[pick(2)], depth - 1)});
      }
      case 3: {
        static constexpr DType kTypes[] = {DType::i64, DType::i32, DType::i8};
        const int table = pick(3);
        ExprId loaded =
            e().load(tables_[static_cast<size_t>(table)], kTypes[table],
                     {integer(DType::i64, depth - 1), integer(pick(2) ? DType::i64 : DType::i64, depth - 1)}, false);
        return kTypes[table] == dtype ? loaded : e().op(Op::cast, dtype, {loaded});
      }
      case 4: return e().op(Op::cast, dtype, {real(depth - 1)});
      default: return e().op(kOps[pick(14)], dtype, {integer(dtype, depth - 1), integer(dtype, depth - 1)});
    }
  }

  ExprId boolean(int depth) {
    static constexpr Op kCompare[] = {Op::eq, Op::ne, Op::lt, Op::le, Op::gt, Op::ge};
    static constexpr Op kLogic[] = {Op::logical_and, Op::logical_or, Op::logical_xor};
    if (depth == 0) return e().op(Op::le, DType::boolean, {e().index(Axis::kv), e().index(Axis::q)});
    switch (pick(6)) {
      case 0: return e().op(Op::logical_not, DType::boolean, {boolean(depth - 1)});
      case 1: return e().op(kLogic[pick(3)], DType::boolean, {boolean(depth - 1), boolean(depth - 1)});
      case 2:
        return e().load(tables_[3], DType::boolean, {integer(DType::i64, depth - 1), integer(DType::i64, depth - 1)},
                        false);
      case 3: return e().op(kCompare[pick(6)], DType::boolean, {real(depth - 1), real(depth - 1)});
      default: {
        const DType dtype = pick(3) ? DType::i64 : DType::i32;
        return e().op(kCompare[pick(6)], DType::boolean, {integer(dtype, depth - 1), integer(dtype, depth - 1)});
      }
    }
  }

  /// Whole numbers below 2^20 in size.
  ExprId real(int depth) {
    if (depth <= 0 || pick(3) == 0) {
      if (pick(2))
        return e().op(Op::cast, DType::f64,
                      {e().load(tables_[4], DType::f32,
                                {integer(DType::i64, depth > 0 ? depth - 1 : 0), integer(DType::i64, 0)}, false)});
      ExprId small =
          e().op(Op::mod, DType::i64,
                 {integer(DType::i64, depth > 0 ? depth - 1 : 0), e().constant_int(1 + pick(1000), DType::i64)});
      return e().op(Op::cast, DType::f64, {small});
    }
    static constexpr Op kOps[] = {Op::add, Op::sub, Op::min, Op::max};
    if (pick(4) == 0) return e().op(Op::select, DType::f64, {boolean(depth - 1), real(depth - 1), real(depth - 1)});
    return e().op(kOps[pick(4)], DType::f64, {real(depth - 1), real(depth - 1)});
  }

  std::mt19937_64 random_;
  Scene scene_;
  std::vector<int> tables_;
};

TEST(ExprEmitter, RandomExpressions) {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Scene scene = RandomExpr(seed).build();
    check(scene, 0, seed % 4 == 0);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace tilewright
