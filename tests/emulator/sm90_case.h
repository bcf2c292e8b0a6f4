// Cases of the sm_90a prefill on the emulator: small tiles, so that rings turn over, and the executions that are tried.
#pragma once

#include <gtest/gtest.h>

#include "compiler/cuda_sm90_layout.h"
#include "compiler/plan_sm90_prefill.h"
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

}  // namespace tilewright::testing
