// A fused program run step by step on the emulator: every kernel of the GPU backend as the CPU executes its text.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "compiler/passes.h"
#include "ir/bind.h"
#include "tests/emulator/launches.h"
#include "tests/support/random_graph.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {

/// Gives the schedule of an attention, from the plan or of its own.
using ChooseSchedule = std::function<CudaSchedule(const TileProgram&, const CudaTarget&)>;
inline CudaSchedule generic_schedule(const TileProgram& program, const CudaTarget& target) {
  return plan_cuda(program, target, {.force_generic = true}).choices.back().schedule;
}

/// One step: its kernels built, run on tensors in the order of the step's.
class EmulatedStep {
 public:
  static Result<EmulatedStep> create(Result<CudaSource> source, ArgsLayout layout) {
    if (!source) return source.error();
    auto module = EmulatedModule::build(*source);
    if (!module) return module.error();
    return EmulatedStep(std::move(layout), std::move(source->launch), std::move(*module));
  }

  const CudaLaunch& launch() const { return launch_; }

  /// Empty when all went well, else the sentence.
  std::string run(const DimBindings& dims, std::span<const TensorView> tensors, const EmulatorOptions& options) const {
    return launch_all(module_, launch_, layout_, dims, tensors, options);
  }

 private:
  EmulatedStep(ArgsLayout layout, CudaLaunch launch, EmulatedModule module)
      : layout_(std::move(layout)), launch_(std::move(launch)), module_(std::move(module)) {}

  ArgsLayout layout_;
  CudaLaunch launch_;
  EmulatedModule module_;
};

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
      auto built = build(step, fmt::format("step{}", out.steps_.size()), choose, target);
      if (!built) return built.error();
      out.steps_.push_back(std::move(*built));
    }
    return out;
  }

  const Program& program() const { return program_; }

  /// Empty when all went well, else the sentence. Temporaries start as NaN.
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
    for (size_t i = 0; i < steps_.size(); ++i) {
      std::vector<TensorView> own;
      for (const int tensor : program_.steps[i].tensors) own.push_back(views[static_cast<size_t>(tensor)]);
      if (std::string error = steps_[i].run(dims, own, options); !error.empty()) return error;
    }
    return {};
  }

 private:
  static Result<EmulatedStep> build(const Step& step, const std::string& prefix, const ChooseSchedule& choose,
                                    const CudaTarget& target) {
    if (const auto* attention = std::get_if<AttentionStep>(&step.what)) {
      const TileProgram tiles = build_tile_program(attention->spec);
      return EmulatedStep::create(generate_cuda(tiles, choose(tiles, target), target, prefix),
                                  args_layout(attention->spec));
    }
    if (const auto* loop = std::get_if<LoopStep>(&step.what))
      return EmulatedStep::create(
          generate_cuda(*loop, plan_cuda(*loop, target).choices.back().schedule, target, prefix), args_layout(*loop));
    const BackwardSpec& spec = std::get<BackwardStep>(step.what).spec;
    return EmulatedStep::create(generate_cuda(spec, plan_cuda(spec, target).choices.back().schedule, target, prefix),
                                args_layout(spec));
  }

  Program program_;
  std::vector<EmulatedStep> steps_;
};

}  // namespace tilewright::testing
