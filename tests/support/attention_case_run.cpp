// Running attention cases, and what they should give.
#include <gtest/gtest.h>
#include <immintrin.h>

#include <cmath>
#include <limits>

#include "ir/interp.h"
#include "runtime/orc_jit.h"
#include "tests/support/attention_case.h"

namespace tilewright::testing {
namespace {

int64_t value_of(const Expr& expr, const DimBindings& dims) {
  const std::vector<int64_t> axes(12, 0);
  return evaluate_int(expr, dims, {}, axes);
}

std::vector<int64_t> fill_meta(const ArgsLayout& layout, const AttentionCase& test) {
  std::vector<int64_t> meta(static_cast<size_t>(layout.size));
  for (size_t i = 0; i < layout.dims.size(); ++i) meta[i] = test.dims.find(layout.dims[i])->second;
  for (size_t t = 0; t < test.tensors.size(); ++t) {
    const TensorView& view = test.tensors[t].view();
    for (int axis = 0; axis < view.rank; ++axis) {
      meta[static_cast<size_t>(layout.shape_offset[t] + axis)] = view.shape[static_cast<size_t>(axis)];
      meta[static_cast<size_t>(layout.stride_offset[t] + axis)] = view.strides[static_cast<size_t>(axis)];
    }
  }
  return meta;
}

/// Guarded memory, 64-byte aligned.
TestTensor guarded_bytes(int64_t bytes) {
  std::mt19937_64 random(0);
  TestTensor memory(DType::i8, {(bytes + 63) / 64 * 64}, Layout::contiguous, random);
  memory.poison();
  return memory;
}

/// Kernels run as the runtime runs them: subnormals are zero.
struct FlushSubnormals {
  unsigned saved = _mm_getcsr();
  FlushSubnormals() { _mm_setcsr(saved | 0x8040); }
  ~FlushSubnormals() { _mm_setcsr(saved); }
};

int64_t position(const AttentionCase& test, const Access& access, const std::vector<int64_t>& axes) {
  const TestTensor& tensor = test.tensors[static_cast<size_t>(access.tensor)];
  int64_t at = 0;
  for (size_t axis = 0; axis < access.axes.size(); ++axis) {
    const int64_t index = evaluate_int(access.axes[axis], test.dims, {}, axes);
    EXPECT_TRUE(index >= 0 && index < tensor.shape()[axis]);
    at = at * tensor.shape()[axis] + index;
  }
  return at;
}

double element(const AttentionCase& test, const Access& access, const std::vector<int64_t>& axes) {
  return test.tensors[static_cast<size_t>(access.tensor)].get(position(test, access, axes));
}

void expect_close(double got, double want, double tolerance, const std::string& where) {
  if (std::isnan(want))
    EXPECT_TRUE(std::isnan(got)) << where << ": got " << got << ", want NaN";
  else if (std::isinf(want))
    EXPECT_EQ(got, want) << where;
  else
    EXPECT_TRUE(std::abs(got - want) <= tolerance) << where << ": got " << got << ", want " << want;
}

double epsilon(DType dtype) {
  switch (dtype) {
    case DType::f64: return 0x1p-52;
    case DType::f32: return 0x1p-23;
    case DType::f16: return 0x1p-10;
    default: return 0x1p-7;
  }
}

}  // namespace

int64_t run_case(const AttentionCase& test, const CpuSchedule& schedule, const CpuTarget& target, bool packed,
                 int64_t pieces) {
  const TileProgram program = build_tile_program(test.spec);
  CpuKernelSource source = generate_attention(program, schedule, target, "case");
  const LaunchInfo launch = std::move(source.launch);
  auto object = compile_module(std::move(source.module), target, {.verify = true});
  if (!object) {
    ADD_FAILURE() << to_string(object.error());
    return 0;
  }
  auto code = JitCode::load(object->bytes);
  if (!code) {
    ADD_FAILURE() << to_string(code.error());
    return 0;
  }
  const std::vector<int64_t> meta = fill_meta(args_layout(test.spec), test);
  std::vector<void*> pointers;
  for (const TestTensor& tensor : test.tensors) pointers.push_back(tensor.view().data);
  const TestTensor scratch = guarded_bytes(launch.scratch_bytes);
  const TestTensor workspace = guarded_bytes(value_of(launch.workspace_bytes, test.dims));
  const int64_t packed_size = value_of(launch.packed_bytes, test.dims);
  const TestTensor packed_memory = guarded_bytes(packed_size);
  const bool give_packed = packed && packed_size > 0;
  const KernelArgs args = {pointers.data(), meta.data(), workspace.view().data,
                           give_packed ? packed_memory.view().data : nullptr};
  const FlushSubnormals flush;
  for (const LaunchPhase& phase : launch.phases) {
    if (phase.only_when_packed && !give_packed) continue;
    const auto run = (*code)->find_as<KernelFunction>(phase.symbol);
    if (!run) {
      ADD_FAILURE() << "no symbol " << phase.symbol;
      return 0;
    }
    const int64_t items = value_of(phase.items, test.dims);
    for (int64_t piece = 0; piece < pieces; ++piece)
      run(&args, items * piece / pieces, items * (piece + 1) / pieces, scratch.view().data);
  }
  return object->ir_instructions;
}

void check_case(const AttentionCase& test) {
  const AttentionSpec& spec = test.spec;
  const std::vector<TensorView> views = test.views();
  const auto extent = [&](const Dim& dim) { return *dim.evaluate(test.dims); };
  const int64_t kv_len = extent(spec.kv_len);
  double largest_v = 0;
  const TestTensor& v = test.tensors[static_cast<size_t>(spec.value.tensor)];
  for (int64_t i = 0; i < v.size(); ++i)
    if (!std::isnan(v.get(i))) largest_v = std::max(largest_v, std::abs(v.get(i)));
  const DType out = spec.tensors[static_cast<size_t>(spec.output.tensor)].type.dtype;
  const bool wide = spec.accumulate == DType::f64;
  const double exactness = spec.normaliser == Normaliser::none ? static_cast<double>(kv_len + 1) : 1;
  const double tolerance = exactness * largest_v * ((wide ? 1e-13 : 4e-6) + 4 * epsilon(out));

  std::vector<int64_t> axes(12, 0);
  int64_t& b = axes[0];
  int64_t& h = axes[1];
  int64_t& q = axes[2];
  int64_t& kv = axes[3];
  int64_t& d = axes[4];
  for (b = 0; b < extent(spec.batch[0]); ++b) {
    for (h = 0; h < extent(spec.heads[0]); ++h) {
      for (q = 0; q < extent(spec.q_len); ++q) {
        std::vector<int64_t> kept;
        std::vector<double> scores;
        double top = -std::numeric_limits<double>::infinity();
        for (kv = 0; kv < kv_len; ++kv) {
          if (!evaluate_int(spec.keep, test.dims, views, axes)) continue;
          double dot = 0;
          for (const DotTerm& term : spec.dots)
            for (d = 0; d < term.head_dim; ++d) dot += element(test, term.query, axes) * element(test, term.key, axes);
          d = 0;
          kept.push_back(kv);
          scores.push_back(static_cast<double>(evaluate(spec.score, test.dims, views, axes, dot)));
          top = std::max(top, scores.back());
        }
        kv = 0;
        const bool softmax = spec.normaliser == Normaliser::softmax;
        double sink = -std::numeric_limits<double>::infinity();
        if (spec.sink) sink = static_cast<double>(evaluate(*spec.sink, test.dims, views, axes, 0));
        top = std::max(top, sink);
        double sum = std::isinf(top) ? 0 : std::exp(sink - top);
        for (double& s : scores)
          if (softmax) sum += s = std::isinf(top) ? 0 : std::exp(s - top);
        const std::string where = fmt::format("b {} h {} q {}", b, h, q);
        for (d = 0; d < spec.value_dim; ++d) {
          double o = 0;
          for (size_t i = 0; i < kept.size(); ++i) {
            kv = kept[i];
            if (scores[i] != 0) o += scores[i] * element(test, spec.value, axes);
          }
          kv = 0;
          if (softmax) o = sum == 0 ? 0 : o / sum;
          expect_close(element(test, spec.output, axes), o, tolerance, fmt::format("O {} d {}", where, d));
          if (::testing::Test::HasFailure()) return;
        }
        d = 0;
        if (spec.logsumexp) {
          const double lse = top + std::log(sum);
          const double got = element(test, *spec.logsumexp, axes);
          expect_close(got, sum == 0 ? -std::numeric_limits<double>::infinity() : lse,
                       (wide ? 1e-13 : 4e-6) * (1 + std::abs(lse)), "LSE " + where);
          if (::testing::Test::HasFailure()) return;
        }
      }
    }
  }
  for (size_t i = 0; i < test.tensors.size(); ++i)
    EXPECT_TRUE(test.tensors[i].gaps_intact()) << "bytes around " << spec.tensors[i].name << " were written";
}

}  // namespace tilewright::testing
