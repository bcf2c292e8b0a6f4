// Cases that every fast template of attention has to get right, as changes to a case that the template takes.
#pragma once

#include <vector>

#include "tests/support/attention_case.h"

namespace tilewright::testing {

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
