#include "tests/support/spec_kernel.h"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <atomic>
#include <map>
#include <thread>

#include "ir/interp.h"
#include "runtime/cpu_detect.h"

namespace tilewright::testing {
namespace {

int64_t value_of(const Expr& expr, const DimBindings& dims) {
  const std::vector<int64_t> axes(12, 0);
  return evaluate_int(expr, dims, {}, axes);
}

std::vector<int64_t> fill_meta(const ArgsLayout& layout, const DimBindings& dims,
                               const std::vector<TestTensor>& tensors) {
  std::vector<int64_t> meta(static_cast<size_t>(layout.size));
  for (size_t i = 0; i < layout.dims.size(); ++i) meta[i] = dims.find(layout.dims[i])->second;
  for (size_t t = 0; t < tensors.size(); ++t) {
    const TensorView& view = tensors[t].view();
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

struct FlushSubnormals {
  unsigned saved = _mm_getcsr();
  FlushSubnormals() { _mm_setcsr(saved | 0x8040); }
  ~FlushSubnormals() { _mm_setcsr(saved); }
};

}  // namespace

std::vector<CpuTarget> runnable_targets() {
  std::vector<CpuTarget> targets;
  CpuTarget target = detect_cpu();
  if (target.isa >= CpuIsa::avx512) targets.push_back(target);
  if (target.isa >= CpuIsa::avx2) {
    target.isa = CpuIsa::avx2;
    target.avx512_bf16 = target.avx512_fp16 = false;
    targets.push_back(target);
  }
  return targets;
}

std::vector<CpuTarget> tile_targets() {
  std::vector<CpuTarget> targets;
  for (const CpuIsa isa : {CpuIsa::amx_emulated, CpuIsa::amx})
    if (const auto target = target_at(isa)) targets.push_back(*target);
  return targets;
}

std::shared_ptr<const JitCode> link_module(CpuModule module, const CpuTarget& target, int64_t* ir_instructions) {
  const auto object = compile_module(std::move(module), target, {.verify = true});
  if (!object) {
    ADD_FAILURE() << to_string(object.error());
    return nullptr;
  }
  if (ir_instructions) *ir_instructions = object->ir_instructions;
  const auto code = JitCode::load(object->bytes);
  if (code) return *code;
  ADD_FAILURE() << to_string(code.error());
  return nullptr;
}

const SpecKernel& spec_kernel(const std::string& spec_text, const CpuSchedule& schedule, const CpuTarget& target,
                              const std::function<CpuKernelSource()>& generate) {
  static std::map<std::string, SpecKernel> done;
  SpecKernel& kernel = done[spec_text + print(schedule) + std::string(to_string(target.isa))];
  if (kernel.code) return kernel;
  CpuKernelSource source = generate();
  kernel.launch = std::move(source.launch);
  kernel.code = link_module(std::move(source.module), target, &kernel.ir_instructions);
  return kernel;
}

int64_t run_spec_kernel(const SpecKernel& kernel, const ArgsLayout& layout, const DimBindings& dims,
                        const std::vector<TestTensor>& tensors, const Sharing& sharing) {
  if (!kernel.code) return 0;
  const LaunchInfo& launch = kernel.launch;
  const std::vector<int64_t> meta = fill_meta(layout, dims, tensors);
  std::vector<void*> pointers;
  for (const TestTensor& tensor : tensors) pointers.push_back(tensor.view().data);
  const TestTensor workspace = guarded_bytes(value_of(launch.workspace_bytes, dims));
  const int64_t packed_size = sharing.packed ? value_of(launch.packed_bytes, dims) : 0;
  const TestTensor packed = guarded_bytes(packed_size);
  const KernelArgs args{pointers.data(), meta.data(), workspace.view().data,
                        packed_size > 0 ? packed.view().data : nullptr};
  for (const LaunchPhase& phase : launch.phases) {
    if (phase.only_when_packed && packed_size == 0) continue;
    const auto run = kernel.code->find_as<KernelFunction>(phase.symbol);
    if (!run) {
      ADD_FAILURE() << "no symbol " << phase.symbol;
      return 0;
    }
    const int64_t items = value_of(phase.items, dims);
    const int64_t pieces = sharing.pieces ? sharing.pieces : items;
    std::atomic<int64_t> next{0};
    const auto work = [&] {
      const FlushSubnormals flush;
      const TestTensor scratch = guarded_bytes(launch.scratch_bytes);
      for (int64_t piece = next++; piece < pieces; piece = next++)
        run(&args, items * piece / pieces, items * (piece + 1) / pieces, scratch.view().data);
      EXPECT_TRUE(scratch.gaps_intact());
    };
    std::vector<std::thread> threads;
    for (int i = 1; i < sharing.workers; ++i) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_TRUE(workspace.gaps_intact() && packed.gaps_intact());
  return kernel.ir_instructions;
}

}  // namespace tilewright::testing
