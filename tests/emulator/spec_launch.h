// Kernels of fused attention specs on the emulator: a spec with data, the schedule of a template, all legal executions
// against a plain evaluation.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/emulator/kernel.h"
#include "tests/emulator/launches.h"
#include "tests/support/attention_case.h"

namespace tilewright::testing {

/// A spec, its data and the schedule of a fast template.
struct SpecRun {
  std::string name;
  CaseOptions options;
  CudaSchedule schedule;
  CudaTarget target = *parse_cuda_target("sm_80");
  friend void PrintTo(const SpecRun& run, std::ostream* out) { *out << run.name; }
};

/// bf16 or f16 throughout; weights may be rounded to it.
inline CaseOptions narrow(CaseOptions options, DType dtype = DType::bf16) {
  options.dtype = options.output = dtype;
  return options;
}

/// What every fast template is tried with, besides sizes: masks, scores, normalisers, computed rows, heads in groups.
struct NamedOptions {
  std::string name;
  CaseOptions options;
};
inline std::vector<NamedOptions> expression_cases() {
  return {
      {"causal", {.mask = Mask::causal}},
      {"window", {.mask = Mask::window}},
      {"padding", {.batch = 2, .mask = Mask::padding}},
      {"causal_padding", {.batch = 2, .mask = Mask::causal_padding}},
      {"holes", {.batch = 2, .mask = Mask::holes}},
      {"mask_tensor", {.mask = Mask::tensor}},
      {"everything_masked", {.mask = Mask::everything}},
      {"alibi", {.mask = Mask::causal, .score = Score::alibi}},
      {"softcap", {.mask = Mask::causal, .score = Score::softcap}},
      {"bias", {.score = Score::bias}},
      {"sink", {.mask = Mask::causal, .sink = true}},
      {"sink_everything_masked", {.mask = Mask::everything, .sink = true}},
      {"dropout", {.mask = Mask::causal, .dropout = true}},
      {"group", {.heads = 6, .group = 3, .mask = Mask::causal}},
      {"no_softmax", {.mask = Mask::causal, .normaliser = Normaliser::none}},
      {"rope", {.batch = 2, .mask = Mask::causal, .query_rows = Rows::rope_half, .key_rows = Rows::rope_half}},
      {"rope_interleaved",
       {.heads = 6, .group = 3, .query_rows = Rows::rope_interleaved, .key_rows = Rows::rope_interleaved}},
      {"norm_rope", {.batch = 2, .mask = Mask::padding, .query_rows = Rows::norm_rope, .key_rows = Rows::norm_rope}},
      {"layer_norm_of_keys", {.mask = Mask::causal, .key_rows = Rows::layer_norm}},
      {"rms_norm_of_queries", {.mask = Mask::window, .query_rows = Rows::rms_norm}}};
}

/// A case whose kernels may round weights and computed rows to the type of V. Rows that are rounded move scores, which
/// outputs of 16 bits bear and the LSE does not.
inline AttentionCase make_rounding_case(CaseOptions options) {
  const bool computed = options.query_rows != Rows::stored || options.key_rows != Rows::stored;
  options.lse = options.lse && !computed;
  std::mt19937_64 random(7);
  AttentionCase test = make_case(options, random);
  test.spec.weights = options.dtype;
  for (DotTerm& dot : test.spec.dots)
    for (auto* row : {&dot.query_row, &dot.key_row})
      if (*row) (*row)->dtype = options.dtype;
  return test;
}

/// Runs the kernel in the executions and compares each with a plain evaluation of the spec.
inline void check_spec_run(const SpecRun& run, const std::vector<EmulatorOptions>& executions) {
  AttentionCase test = make_rounding_case(run.options);
  const TileProgram program = build_tile_program(test.spec);
  EXPECT_EQ(refusal_of(run.schedule.kernel, program, run.target), "");
  const auto source = generate_cuda(program, run.schedule, run.target, "k");
  ASSERT_TRUE(source) << to_string(source.error());
  const auto module = EmulatedModule::build(*source);
  ASSERT_TRUE(module) << to_string(module.error());
  for (const EmulatorOptions& options : executions) {
    SCOPED_TRACE(describe(options));
    for (size_t i = 0; i < test.tensors.size(); ++i)
      if (test.spec.tensors[i].output) test.tensors[i].poison();
    EmulatorStatistics statistics;
    ASSERT_EQ(launch_all(*module, source->launch, args_layout(test.spec), test.dims, views_of(test.tensors), options,
                         &statistics),
              "");
    check_case(test, run.options.dtype);
    EXPECT_EQ(statistics.matrix_loads.passes, statistics.matrix_loads.accesses) << "bank conflicts of ldmatrix";
    const bool vectors = run.options.arrangement == Arrangement::bhsd && run.options.layout == Layout::contiguous &&
                         run.options.dqk % 8 == 0 && source->primitives == CudaPrimitives::sm80;
    if (vectors && run.options.sq * run.options.sk > 0 && run.options.mask != Mask::everything) {
      EXPECT_GT(statistics.cp_async, 0) << "rows that could be copied by vectors were not";
    }
    if (::testing::Test::HasFailure()) break;
  }
}

}  // namespace tilewright::testing
