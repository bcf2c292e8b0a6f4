// A fused program run step by step on the emulator: every kernel of the GPU backend as the CPU executes its text.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "codegen/cuda/cuda_source.h"
#include "compiler/passes.h"
#include "emulator/module.h"
#include "ir/bind.h"
#include "ir/interp.h"
#include "tests/support/random_graph.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {

/// Gives the schedule of an attention, from the plan or of its own.
using ChooseSchedule = std::function<CudaSchedule(const TileProgram&, const CudaTarget&)>;
inline CudaSchedule generic_schedule(const TileProgram& program, const CudaTarget& target) {
  return plan_cuda(program, target, {.force_generic = true}).choices.back().schedule;
}

class EmulatedProgram {
 public:
  /// Errors: what fusion, planning, generation or the C++ compiler says.
  static Result<EmulatedProgram> create(const Graph& graph, const ChooseSchedule& choose = generic_schedule,
                                        const CudaTarget& target = *parse_cuda_target("sm_80")) {
    auto canonical = canonicalize(graph);
    if (!canonical) return canonical.error();
    auto program = fuse(*canonical);
    if (!program) return program.error();
    EmulatedProgram out;
    out.program_ = std::move(*program);
    for (const Step& step : out.program_.steps) {
      Built built;
      const std::string prefix = fmt::format("step{}", out.steps_.size());
      Result<CudaSource> source = unsupported("a step without a GPU kernel");
      if (const auto* attention = std::get_if<AttentionStep>(&step.what)) {
        built.spec_tensors = attention->spec.tensors;
        built.layout = args_layout(attention->spec);
        const TileProgram tiles = build_tile_program(attention->spec);
        source = generate_cuda(tiles, choose(tiles, target), target, prefix);
      }
      if (!source) return source.error();
      auto module = EmulatedModule::build(*source);
      if (!module) return module.error();
      built.launch = std::move(source->launch);
      built.module.emplace(std::move(*module));
      out.steps_.push_back(std::move(built));
    }
    return out;
  }

  const Program& program() const { return program_; }

  /// Empty when all went well, else the sentence. Temporaries and the workspace start as NaN.
  std::string run(const DimBindings& dims, std::span<const TensorView> params, std::span<const TensorView> results,
                  const EmulatorOptions& options = {}) const {
    std::vector<TestTensor> temporaries;
    std::vector<TensorView> views;
    std::mt19937_64 random(options.seed);
    for (const ProgramTensor& tensor : program_.tensors) {
      const auto position = static_cast<size_t>(tensor.position);
      if (tensor.role == TensorRole::param) {
        views.push_back(params[position]);
      } else if (tensor.role == TensorRole::result) {
        views.push_back(results[position]);
      } else {
        temporaries.emplace_back(tensor.type.dtype, concrete_shape(tensor.type, dims), Layout::contiguous, random);
        temporaries.back().poison();
        views.push_back(temporaries.back().view());
      }
    }
    for (size_t i = 0; i < steps_.size(); ++i)
      if (std::string error = run_step(steps_[i], program_.steps[i], dims, views, options); !error.empty())
        return error;
    return {};
  }

 private:
  struct Built {
    std::vector<SpecTensor> spec_tensors;
    ArgsLayout layout;
    CudaLaunch launch;
    std::optional<EmulatedModule> module;
  };

  static int64_t at_dims(const Expr& expr, const DimBindings& dims) {
    const std::vector<int64_t> axes(16, 0);
    return evaluate_int(expr, dims, {}, axes);
  }

  static std::string run_step(const Built& built, const Step& step, const DimBindings& dims,
                              const std::vector<TensorView>& views, const EmulatorOptions& options) {
    std::vector<uint64_t> words, meta;
    for (const std::string& name : built.layout.dims) meta.push_back(static_cast<uint64_t>(dims.at(name)));
    for (const int tensor : step.tensors) {
      const TensorView& view = views[static_cast<size_t>(tensor)];
      words.push_back(reinterpret_cast<uint64_t>(view.data));
      for (int axis = 0; axis < view.rank; ++axis) meta.push_back(static_cast<uint64_t>(view.shape[axis]));
      for (int axis = 0; axis < view.rank; ++axis) meta.push_back(static_cast<uint64_t>(view.strides[axis]));
    }
    words.insert(words.end(), meta.begin(), meta.end());
    if (meta.empty()) words.push_back(0);
    const auto doubles = static_cast<size_t>(at_dims(built.launch.workspace_bytes, dims) / 8 + 1);
    std::vector<double> workspace(doubles, std::nan(""));
    words.push_back(reinterpret_cast<uint64_t>(workspace.data()));
    for (const CudaPhase& phase : built.launch.phases) {
      EmulatedLaunch launch;
      launch.symbol = phase.symbol;
      launch.blocks = at_dims(phase.blocks, dims);
      launch.threads = phase.threads;
      launch.shared_bytes = phase.shared_bytes;
      launch.args = words;
      if (launch.blocks == 0) continue;
      auto done = built.module->launch(launch, options);
      if (!done) return to_string(done.error());
    }
    return {};
  }

  Program program_;
  std::vector<Built> steps_;
};

}  // namespace tilewright::testing
