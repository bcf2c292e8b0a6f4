// Backward specs with data, for tests of templates: made from the forward cases of attention_case.h.
#pragma once

#include "ir/interp.h"
#include "tests/support/attention_case.h"

namespace tilewright::testing {

struct BackwardOptions {
  CaseOptions forward;          ///< two_dots: a second dQ and dK
  bool captured = false;        ///< the gradient of what the score captures: a bias by element, slopes by head
  bool row_sum = false;         ///< a sum with one element per (b, h, q)
  bool key_sum = false;         ///< a sum with one element per key, over all b and h
  bool table = false;           ///< a sum with a computed index that leaves its tensor: [9, H] at (kv - q + 4, h)
  bool wide_gradients = false;  ///< outputs of the accumulation type whatever the inputs are
  std::string text() const;
};

struct BackwardCase {
  BackwardOptions options;
  BackwardSpec spec;
  DimBindings dims;
  std::vector<TestTensor> tensors;  ///< by spec tensor; outputs poisoned
};

/// Softmax gradients of the forward case of these options. Inputs are N(0, 1), the LSE such that weights are of the
/// order of 1; it and rowsum(dO∘O) are numbers of their own, which a spec does not mind.
BackwardCase make_backward_case(const BackwardOptions& options, std::mt19937_64& random);

/// Generates, verifies and links (once per spec, schedule and target), then runs: phases in order, items claimed one by
/// one by `workers` threads, or by one thread when it is 1; scratch and workspace guarded and poisoned. Failures are
/// gtest failures. Returns IR instructions.
int64_t run_backward_case(const BackwardCase& test, const CpuSchedule& schedule, const CpuTarget& target,
                          int workers = 1);

/// What the spec's interpreter gives; the same for every run of a case with the same options and seed.
std::vector<OracleTensor> expected_gradients(const BackwardCase& test);
/// Compares all outputs with it and checks that nothing else was written: the first thing wrong, or nothing.
std::string wrong_gradient(const BackwardCase& test, const std::vector<OracleTensor>& want, double weights = 0);
void check_backward_case(const BackwardCase& test, const std::vector<OracleTensor>& want, double weights = 0);
/// `weights` above where they are rounded to bf16 before they are multiplied, as a part of the largest sum.
inline constexpr double kNarrowWeights = 0x1p-8;

}  // namespace tilewright::testing
