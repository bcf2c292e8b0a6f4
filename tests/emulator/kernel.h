// Small kernels for tests: a text, tensors as words of Args, one launch on the emulator.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "emulator/module.h"

namespace tilewright::testing {

struct KernelCase {
  std::string body;  ///< of `kernel`, with `args.tensors[i]`, the tensor maps map0, map1, …
  CudaPrimitives primitives = CudaPrimitives::base;
  int tensors = 1;
  int maps = 0;
  std::string before;  ///< text before the kernel
};

inline CudaSource source_of(const KernelCase& kernel) {
  CudaSource source;
  source.primitives = kernel.primitives;
  std::string maps;
  CudaPhase phase;
  phase.symbol = "kernel";
  for (int i = 0; i < kernel.maps; ++i) {
    maps += fmt::format(", TW_PARAM TensorMap map{}", i);
    phase.tensor_maps.emplace_back();
  }
  source.parts = {fmt::format(
      "struct Args {{ void* tensors[{}]; }};\n{}\nTW_KERNEL(1024, 1) kernel(TW_PARAM Args args{}) {{\n{}\n}}\n",
      std::max(1, kernel.tensors), kernel.before, maps, kernel.body)};
  source.launch.phases.push_back(std::move(phase));
  return source;
}

inline EmulatedModule build(const KernelCase& kernel, const EmulatedBuildOptions& options = {}) {
  auto module = EmulatedModule::build(source_of(kernel), options);
  if (!module) {
    ADD_FAILURE() << to_string(module.error());
    std::abort();
  }
  return *module;
}

struct Geometry {
  int64_t threads = 32;
  int64_t shared_bytes = 0;
  int64_t blocks = 1;
};

/// Empty when all went well, else the sentence.
inline std::string run(const EmulatedModule& module, const Geometry& geometry, const std::vector<const void*>& tensors,
                       const EmulatorOptions& options = {}, const std::vector<EmulatedTensorMap>& maps = {},
                       EmulatorStatistics* statistics = nullptr) {
  std::vector<uint64_t> words;
  for (const void* tensor : tensors) words.push_back(reinterpret_cast<uint64_t>(tensor));
  words.resize(std::max<size_t>(words.size(), 16));
  EmulatedLaunch launch;
  launch.symbol = "kernel";
  launch.blocks = geometry.blocks;
  launch.threads = geometry.threads;
  launch.shared_bytes = geometry.shared_bytes;
  launch.args = words;
  launch.tensor_maps = maps;
  auto result = module.launch(launch, options);
  if (!result) return to_string(result.error());
  if (statistics) *statistics = *result;
  return {};
}

inline std::string describe(const EmulatorOptions& options) {
  const auto when = [](bool late) { return late ? "late" : "early"; };
  return fmt::format("seed {}, cp.async {}, TMA {}, wgmma {}", options.seed, when(options.late_copies),
                     when(options.late_tma), when(options.late_wgmma));
}

/// The executions that every right kernel survives: each engine early and late, threads in order and shuffled.
inline std::vector<EmulatorOptions> legal_executions() {
  std::vector<EmulatorOptions> all;
  for (const bool late : {false, true})
    for (const uint64_t seed : {0, 1, 2}) {
      EmulatorOptions options;
      options.seed = seed;
      options.late_copies = options.late_tma = options.late_wgmma = late;
      all.push_back(options);
    }
  return all;
}

}  // namespace tilewright::testing
