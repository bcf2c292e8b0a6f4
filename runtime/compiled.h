// Compiled: an immutable, runnable Program. Kernels share it; it owns its machine code.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "codegen/kernel_abi.h"
#include "runtime/engine.h"
#include "runtime/launch_expr.h"
#include "runtime/orc_jit.h"
#include "runtime/signature.h"
#include "runtime/tier/tier.h"

namespace tilewright {

struct CompiledPhase {
  KernelFunction function = nullptr;  ///< generated, or
  std::shared_ptr<const TierKernel> ahead_of_time;
  LaunchExpr items;
  bool only_when_packed = false;
  bool ordered = false;

  void call(const KernelArgs& args, int64_t begin, int64_t end, void* scratch) const {
    if (function)
      function(&args, begin, end, scratch);
    else
      ahead_of_time->run(args, begin, end, scratch);
  }
};

struct CompiledChoice {
  CpuTemplate kernel = CpuTemplate::generic;
  LaunchExpr use_when, workspace_bytes, packed_bytes;
  int64_t scratch_bytes = 0;  ///< per worker
  bool native_tiles = false;  ///< see LaunchInfo
  std::vector<CompiledPhase> phases;
  std::shared_ptr<const JitCode> code;
};

/// `names` are the signature's dims; `functions` by phase, or `tier` for the one phase that it has, or neither for what
/// is not linked.
CompiledChoice make_choice(const LaunchInfo& launch, const Expr& use_when, std::span<const std::string> names,
                           const std::vector<KernelFunction>& functions,
                           std::shared_ptr<const TierKernel> tier = nullptr);

struct CompiledStep {
  std::vector<int> tensors;  ///< into Program::tensors
  std::vector<size_t> dims;  ///< per ArgsLayout dim, its position in Signature::dims()
  int64_t meta_words = 0;
  std::vector<CompiledChoice> choices;
};

/// A tensor by size: element bytes and shape.
struct TensorSize {
  int64_t element_bytes = 0;
  std::vector<DimFormula> shape;
  /// False when the size overflows or an axis is negative.
  bool bytes(std::span<const int64_t> dims, int64_t& result) const;
};

TensorSize tensor_size(const TensorType& type, std::span<const std::string> names);
/// Without choices. `names` are the signature's dims.
CompiledStep bind_step(const Step& step, std::span<const std::string> names);

struct Compiled {
  explicit Compiled(const Graph& graph) : signature(graph) {}

  Signature signature;
  Program program;
  std::vector<TensorSize> tensors;        ///< of Program::tensors
  std::vector<TensorSize> intermediates;  ///< what materialising every value of the graph would take
  std::vector<CompiledStep> steps;
  CompileStats stats;  ///< of the compile that made it
  std::string dump_path;
};

}  // namespace tilewright
