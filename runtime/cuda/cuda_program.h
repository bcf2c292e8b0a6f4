// CudaProgram: a graph lowered to the text of GPU kernels, with everything that a run of them is told. Pure: made
// without a GPU, without NVRTC and without a C++ compiler; cuda_kernel.h loads and runs it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "codegen/cuda/cuda_source.h"
#include "runtime/compile.h"
#include "runtime/tuning_store.h"

namespace tilewright {

/// Whose measurements choose schedules.
struct CudaTuning {
  const TuningStore* store = nullptr;  ///< null: the rules choose
  MeasuredWith with;                   ///< of the device that will run it
};

struct CudaProgramOptions {
  bool require_fused = false;  ///< anything unfused is an error
  bool materialise = false;    ///< no fusion: every op a step of its own
  CudaPlanOptions plan;
  CudaTuning tuning;
  bool want_texts = false;  ///< fills CudaProgram::texts
};

/// A WorkspaceTensor, for runs.
struct WorkspaceView {
  std::string name;
  DType dtype = DType::f32;
  std::vector<DimFormula> shape;
  LaunchExpr offset_bytes;
  /// With `workspace` as the address of the step's workspace.
  TensorView at(void* workspace, std::span<const int64_t> dims) const;
};

/// One way to run a step; the first whose condition holds, and whose tensor maps the layouts allow, does.
struct CudaChoice {
  CudaSource source;
  LaunchExpr use_when;
  std::string condition;           ///< use_when in words
  std::vector<LaunchExpr> blocks;  ///< per phase
  std::vector<WorkspaceView> workspace_tensors;
};

struct CudaStep {
  std::string name;
  bool fused = false;
  std::vector<std::string> tensors;  ///< names
  std::vector<CudaChoice> choices;
  std::vector<CudaPlan::Refusal> refused;
  std::vector<DimFormula> head_count;  ///< of a fused step: the sizes whose product is batches times heads
};

/// Copies its first tensor to its second.
struct CudaCopy {
  CudaStep step;
  CompiledStep bound;
};

struct CudaProgram {
  CudaProgram(const Graph& from, const CudaTarget& for_target) : graph(from), target(for_target), compiled(from) {}

  Graph graph;
  CudaTarget target;
  /// Signature, program and tensors. Its steps have one choice each, which stands for the sizes of any of theirs.
  Compiled compiled;
  std::vector<CudaStep> steps;
  /// Per result, from where it was staged to the inout parameter that it lies on. Empty without inout parameters.
  std::vector<CudaCopy> copies;
  std::vector<StageTime> stages;
  std::vector<StageText> texts;  ///< 00_input.graph … 05_emit.cu
};

/// Errors: what the graph's verifier says, steps that no GPU template takes (with what each says), what the text cannot
/// hold.
Result<std::shared_ptr<const CudaProgram>> compile_cuda_program(const Graph& graph, const CudaTarget& target,
                                                                const CudaProgramOptions& options = {});

/// The program with another schedule in the place of one choice's. Errors: the bound of the legal space that it breaks.
Result<std::shared_ptr<const CudaProgram>> with_schedule(const CudaProgram& program, size_t step, size_t choice,
                                                         const CudaSchedule& schedule);

/// "sm90_prefill", "sm90_prefill.2" where it is the second of that template: what files of it are called. Empty where
/// the step has one choice.
std::string choice_name(const CudaStep& step, size_t choice);

}  // namespace tilewright
