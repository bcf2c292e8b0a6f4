// Cases of the sm_90a prefill on the emulator: small tiles, so that rings turn over, and the executions that are tried.
#pragma once

#include <gtest/gtest.h>

#include "compiler/cuda_sm90_layout.h"
#include "tests/emulator/spec_launch.h"
#include "tests/support/attention_case.h"

namespace tilewright::testing {

inline const CudaTarget kSm90 = *parse_cuda_target("sm_90a");

inline CudaSchedule sm90_schedule(int64_t block_kv, int64_t consumers = 2, int64_t stages = 2) {
  CudaSchedule s;
  s.kernel = CudaTemplate::sm90_prefill;
  s.block_q = 64 * consumers;
  s.block_kv = block_kv;
  s.warps = 4 + 4 * consumers;
  s.stages = stages;
  return s;
}
/// TMA and wgmma early and late in all combinations, threads in order and shuffled.
inline std::vector<EmulatorOptions> sm90_executions(uint64_t seeds = 1) {
  std::vector<EmulatorOptions> all;
  for (const bool late_tma : {false, true})
    for (const bool late_wgmma : {false, true})
      for (uint64_t seed = 0; seed < seeds; ++seed) {
        EmulatorOptions options;
        options.seed = seed == 0 ? 0 : 17 * seed + (late_tma ? 2 : 0) + (late_wgmma ? 1 : 0);
        options.late_tma = late_tma;
        options.late_wgmma = late_wgmma;
        all.push_back(options);
      }
  return all;
}

inline std::string describe(const EmulatorOptions& options) {
  return fmt::format("TMA {}, wgmma {}, seed {}", options.late_tma ? "late" : "early",
                     options.late_wgmma ? "late" : "early", options.seed);
}

/// A spec with data whose kernels may round weights to the type of V.
inline AttentionCase sm90_case(const CaseOptions& options) {
  std::mt19937_64 random(7);
  AttentionCase test = make_case(options, random);
  test.spec.weights = options.dtype;
  return test;
}

/// The plan's choice for this template, wherever it stands; null when there is none.
inline const CudaPlan::Choice* sm90_choice(const CudaPlan& plan) {
  for (const CudaPlan::Choice& choice : plan.choices)
    if (choice.schedule.kernel == CudaTemplate::sm90_prefill) return &choice;
  return nullptr;
}

}  // namespace tilewright::testing
