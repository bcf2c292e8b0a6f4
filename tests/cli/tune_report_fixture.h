// A tuning as a tuner might leave it, without one: 6 × 5 tile sizes around the rules' choice, a smooth landscape with
// noise from a small generator, candidates of every fate.
#pragma once

#include <cmath>

#include "runtime/tuner.h"

namespace tilewright::testing {

inline std::vector<double> sample_runs(double seconds, double noise, size_t count, uint64_t& state) {
  std::vector<double> runs;
  for (size_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005 + 1442695040888963407;
    const double uniform = static_cast<double>(state >> 11) * 0x1p-53;
    runs.push_back(seconds * (1 + noise * uniform * uniform * 2));
  }
  return runs;
}

inline TunedStep sample_prefill_step() {
  using Fate = TunedCandidate::Fate;
  TunedStep step;
  step.name = "o";
  step.shape_class =
      "prefill avx512 | q f32 k f32 v f32 in f32 | d 64/64 group 1 | mask end | score plain | q_len >2048";
  step.dims = step.measured_at = {{"B", 1}, {"Sq", 4096}, {"Sk", 4096}};
  step.workers = 1;
  step.flops = 4.0 * 8 * 64 * 4096 * 4096 / 2;
  step.bytes = 4.0 * 8 * 4096 * 64 * 4;
  step.fma_peak_gflops = 176.3;
  step.read_gbs = 17.1;
  step.noise = 0.018;
  step.legal = 212;
  step.axes = {{"block_q", &CpuSchedule::block_q, {48, 96, 192, 384, 768}},
               {"block_kv", &CpuSchedule::block_kv, {64, 128, 192, 256, 384, 512}},
               {"k_unroll", &CpuSchedule::k_unroll, {1, 2, 4}}};
  CpuSchedule rules;
  rules.kernel = CpuTemplate::prefill;
  rules.isa = CpuIsa::avx512;
  rules.lanes = 16;
  rules.block_q = 384;
  rules.block_kv = 256;
  rules.strip_rows = 12;
  rules.k_unroll = 1;
  rules.reasons = {"a 6x4 micro-kernel keeps its sums in 24 of 32 vector registers and fits Dv 64",
                   "a strip of 12 rows by 256 scores takes 12 KB of the 48 KB L1",
                   "Q and O of 384 rows with K and V of 256 keys take 320 KB of the 2048 KB L2"};
  uint64_t state = 7;
  const auto add = [&](const CpuSchedule& schedule, Fate fate) {
    const double q = std::log2(static_cast<double>(schedule.block_q) / 192),
                 kv = std::log2(static_cast<double>(schedule.block_kv) / 384);
    const double seconds = 0.118 * (1 + 0.035 * q * q + 0.045 * kv * kv + (schedule.k_unroll == 1 ? 0 : 0.03));
    TunedCandidate candidate;
    candidate.schedule = schedule;
    candidate.fate = fate;
    candidate.cost.cycles = seconds * 2.6e9 * (1 + 0.03 * kv);
    candidate.cost.reasons = {"arithmetic takes 2.9e+08 cycles: 24 sums per 10 loads, softmax 3 per 16 scores",
                              "K and V come from L2 once per 192 rows"};
    if (fate == Fate::failed) candidate.why = "block_kv is 512, and a strip of 48 rows takes 96 KB of the 48 KB L1";
    if (fate == Fate::wrong) candidate.why = "o[0, 3, 95, 17] is 0.25, the oracle says 0.5";
    if (fate != Fate::pruned && fate != Fate::failed && fate != Fate::wrong) {
      const size_t runs = fate == Fate::dropped ? 5 : 25;
      candidate.warm = sample_runs(seconds, fate == Fate::dropped ? 0.05 : 0.02, runs, state);
      candidate.cold = sample_runs(seconds * 1.03, 0.04, 5, state);
    }
    step.candidates.push_back(candidate);
  };
  add(rules, Fate::dropped);
  for (const int64_t block_q : step.axes[0].values)
    for (const int64_t block_kv : step.axes[1].values) {
      CpuSchedule schedule = rules;
      schedule.reasons.clear();
      schedule.block_q = block_q;
      schedule.block_kv = block_kv;
      if (block_q == 384 && block_kv == 256) continue;
      if (block_q == 768 && block_kv == 512) continue;  // not legal
      Fate fate = Fate::dropped;
      if (block_q == 192 && block_kv == 384) fate = Fate::chosen;
      if (block_q == 48 && block_kv != 64 && block_kv != 256) fate = Fate::pruned;
      if (block_kv == 64 && block_q > 96) fate = Fate::pruned;
      if (block_q == 768 && block_kv == 384) fate = Fate::failed;
      if (block_q == 96 && block_kv == 512) fate = Fate::wrong;
      if (fate == Fate::chosen) {
        step.chosen = step.candidates.size();
        schedule.reasons = {"tuned on avx512 l1 49152: 1.04 times the rules' speed (measured 145 GFLOP/s against 139)"};
      }
      add(schedule, fate);
      if (block_q == 192 && fate == Fate::dropped) {
        schedule.k_unroll = 4;
        add(schedule, Fate::dropped);
      }
    }
  step.slice = {0, 4, 32};
  step.candidates[0].whole = {1.04, 1.05, 1.03};
  step.candidates[step.chosen].whole = {1.0, 1.01, 0.99};
  step.assembly =
      "\t.text\n\t.globl\tkernel\nkernel:\n\tvmovups\t(%rdi), %zmm0\n\tvfmadd231ps\t(%rsi){1to16}, %zmm0, "
      "%zmm1\n\tretq\n";
  return step;
}

/// Decode: memory-bound, one integer, the rules' schedule stays.
inline TunedStep sample_decode_step() {
  using Fate = TunedCandidate::Fate;
  TunedStep step;
  step.name = "o";
  step.shape_class =
      "decode avx512 | q f32 k f32 v f32 in f32 | d 128/128 group 4 | mask none | score plain | kv_len >2048";
  step.dims = {{"B", 1}, {"Sq", 1}, {"Sk", 16000}};
  step.measured_at = {{"B", 1}, {"Sq", 1}, {"Sk", 8192}};
  step.workers = 2;
  step.flops = 4.0 * 32 * 128 * 8192;
  step.bytes = 2.0 * 8 * 8192 * 128 * 4;
  step.fma_peak_gflops = 340;
  step.read_gbs = 28.4;
  step.noise = 0.06;
  step.legal = 6;
  step.axes = {{"split_kv", &CpuSchedule::split_kv, {256, 512, 1024, 2048, 4096}}};
  uint64_t state = 3;
  for (const int64_t split : {1024, 512, 2048, 256, 4096}) {
    TunedCandidate candidate;
    candidate.schedule.kernel = CpuTemplate::decode;
    candidate.schedule.isa = CpuIsa::avx512;
    candidate.schedule.split_kv = split;
    candidate.schedule.block_q = 16;
    candidate.fate = split == 1024 ? Fate::chosen : split == 512 ? Fate::tied : Fate::dropped;
    const double seconds = 0.0026 * (1 + 0.02 * std::abs(std::log2(static_cast<double>(split) / 1024)));
    candidate.warm = sample_runs(seconds, 0.1, 9, state);
    candidate.cold = sample_runs(seconds * 1.2, 0.1, 5, state);
    candidate.cost.cycles = seconds * 3e9;
    step.candidates.push_back(candidate);
  }
  step.out_of_time = true;
  return step;
}

inline TuneResult sample_result() {
  TuneResult result;
  result.graph = "causal";
  result.device = "avx512 with avx512_bf16 avx512_fp16, 2 cores, L1d 48 KB, L2 2048 KB, L3 260 MB";
  result.compiler = "llvm 19.1.7 source 15b1181fb6508265e31795058103e32f";
  result.date = "2026-11-21";
  result.seconds = 57.3;
  result.database = "/home/somebody/.cache/tilewright/tuned.json";
  result.notes = {"%y, an output projection, is no attention: its matmul template has one legal schedule at M 1"};
  result.steps = {sample_prefill_step(), sample_decode_step()};
  return result;
}

}  // namespace tilewright::testing
