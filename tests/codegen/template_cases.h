// Cases and small schedules that the tests of several templates share: what every fast template of attention has to get
// right is a change to a case that the template takes.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "compiler/plan_rules.h"
#include "tests/support/backward_case.h"

namespace tilewright::testing {

/// What decode templates take: one query, a group of four heads.
inline CaseOptions one_query() {
  CaseOptions options;
  options.sq = 1;
  options.sk = 150;
  options.heads = options.group = 4;
  options.dqk = options.dv = 64;
  return options;
}

inline BackwardOptions backward_options(int64_t sq, int64_t sk, int64_t dim, Mask mask = Mask::none) {
  BackwardOptions options;
  options.forward.sq = sq;
  options.forward.sk = sk;
  options.forward.dqk = options.forward.dv = dim;
  options.forward.heads = 1;
  options.forward.mask = mask;
  return options;
}

/// Blocks so small that short sequences have several.
inline CpuSchedule small_prefill(const TileProgram& program, const CpuTarget& target) {
  CpuSchedule schedule = schedule_prefill(program, target);
  schedule.block_q = 2 * schedule.strip_rows;
  schedule.block_kv = schedule.nr();
  return schedule;
}
inline CpuSchedule small_backward(const BackwardSpec& spec, const CpuTarget& target, bool generic) {
  CpuSchedule schedule = plan_backward(spec, target, {generic}).choices[0].schedule;
  EXPECT_EQ(schedule.kernel, generic ? CpuTemplate::generic : CpuTemplate::backward);
  schedule.block_q = generic ? 5 : 2 * schedule.mr;
  schedule.block_kv = generic ? 11 : schedule.nr();
  schedule.chunk_kv = 2 * schedule.block_kv;
  return schedule;
}

/// How often a listing says it.
inline int64_t occurrences(const std::string& text, const std::string& what) {
  int64_t found = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

inline std::vector<CaseOptions> dropout_cases(CaseOptions options) {
  std::vector<CaseOptions> cases;
  options.dropout = options.lse = true;
  options.batch = options.heads = options.group = 2;
  options.sk = 103;
  options.dqk = 8;
  options.dv = 12;
  for (Mask mask : {Mask::none, Mask::window, Mask::everything})
    for (DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      options.mask = mask;
      options.dtype = dtype;
      cases.push_back(options);
    }
  return cases;
}

/// Every mask with every score, without and with a sink and the LSE.
inline std::vector<CaseOptions> mask_and_score_cases(CaseOptions options) {
  std::vector<CaseOptions> cases;
  for (Mask mask :
       {Mask::none, Mask::causal, Mask::window, Mask::padding, Mask::causal_padding, Mask::tensor, Mask::everything})
    for (Score score : {Score::scale, Score::alibi, Score::softcap, Score::bias})
      for (bool sink : {false, true}) {
        options.mask = mask;
        options.score = score;
        options.sink = options.lse = sink;
        cases.push_back(options);
      }
  return cases;
}

inline std::vector<CaseOptions> layout_cases(CaseOptions options) {
  std::vector<CaseOptions> cases;
  options.mask = Mask::causal_padding;
  options.lse = true;
  options.batch = options.group = 2;
  for (Arrangement arrangement : {Arrangement::bhsd, Arrangement::bshd, Arrangement::merged, Arrangement::packed})
    for (Layout layout : {Layout::contiguous, Layout::permuted, Layout::gapped, Layout::reversed})
      for (DType dtype : {DType::f32, DType::bf16}) {
        options.arrangement = arrangement;
        options.layout = layout;
        options.dtype = options.output = dtype;
        cases.push_back(options);
      }
  return cases;
}

inline std::vector<CaseOptions> unnormalised_cases(CaseOptions options) {
  std::vector<CaseOptions> cases;
  options.normaliser = Normaliser::none;
  for (Mask mask : {Mask::none, Mask::causal, Mask::padding, Mask::everything}) {
    options.mask = mask;
    cases.push_back(options);
  }
  return cases;
}

/// O, element by element.
inline std::vector<double> output_values(const AttentionCase& test) {
  const TestTensor& out = test.tensors[static_cast<size_t>(test.spec.output.tensor)];
  std::vector<double> values;
  for (int64_t i = 0; i < out.size(); ++i) values.push_back(out.get(i));
  return values;
}

}  // namespace tilewright::testing
