#include "tests/support/expr_scene.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>

#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/expr_emitter.h"
#include "codegen/kernel_abi.h"
#include "ir/interp.h"
#include "runtime/cpu_detect.h"
#include "runtime/orc_jit.h"

namespace tilewright::testing {
namespace {

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

}  // namespace

void check_scene(const Scene& scene, double tolerance, bool thorough) {
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

}  // namespace tilewright::testing
