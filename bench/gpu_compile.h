// The compile gate: every GPU template × dtype × head dim × architecture through NVRTC, with no GPU.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/cuda/compile_report.h"

namespace tilewright::bench {

struct GpuCompileCase {
  std::string name;  ///< "sm80_prefill bf16 128 causal"
  CudaTarget target;
  CudaSource source;
  int64_t head_dim = 0, value_dim = 0;
};

struct GpuCompileOptions {
  std::vector<std::pair<int64_t, int64_t>> head_dims;  ///< of Q and K, of V
  std::vector<CudaTarget> targets;
  std::vector<DType> dtypes = {DType::bf16, DType::f16, DType::f32, DType::f64};
  std::vector<Graph> graphs;    ///< besides, every kernel of these
  bool causal = true;           ///< else nothing is masked
  bool every_schedule = false;  ///< all legal ones that a tuner may try, not the rules' alone
};
/// All head dims and architectures that the templates promise, and gate_graphs.
GpuCompileOptions whole_compile_gate();
/// What is not the forward pass of attention: backward passes, and steps outside of attention.
std::vector<Graph> gate_graphs();

/// The kernels of the plans' schedules, each once; GQA, but for `graphs`. Errors: a broken plan or generator.
Result<std::vector<GpuCompileCase>> gpu_compile_cases(const GpuCompileOptions& options);

struct GpuCompiled {
  const GpuCompileCase* compiled = nullptr;
  Result<CudaCompileReport> report;
};
/// On as many threads as there are cores, or one at a time for times that mean something; in the order of the cases.
std::vector<GpuCompiled> compile_all(const std::vector<GpuCompileCase>& cases, const Nvrtc& compiler, int threads);

/// One line a kernel under a heading: ms, registers, shared memory, spills, blocks, census.
std::string compile_table(const std::vector<GpuCompiled>& compiled);

}  // namespace tilewright::bench
