// The accuracy rule (semantics 19) as a library: real outputs against the oracle on the input graph. The CLI's
// `run --verify` and every test judge by this one.
#pragma once

#include <functional>
#include <string>

#include "ir/interp.h"

namespace tilewright {

struct AccuracyOptions {
  uint64_t seed = 1;                       ///< of the sampled rows
  int64_t full_up_to = int64_t{1} << 24;   ///< scores; above it rows are sampled
  int64_t sampled_rows = 256;              ///< besides the first, the last and those at block borders
  std::vector<int64_t> block_rows = {64};  ///< query block sizes whose borders are looked at
  /// Elements (index into the result) that semantics 4 leaves unspecified.
  std::function<bool(size_t result, std::span<const int64_t> index)> exempt;
};

/// Judgement of one result. Errors are absolute.
struct AccuracyReport {
  std::string result;  ///< name of the graph value
  bool pass = true;
  bool sampled = false;
  bool flushed_inputs = false;     ///< judged against the oracle on inputs with subnormals read as zero
  int64_t rows = 0, elements = 0;  ///< compared
  double max_error = 0, mean_error = 0;
  double naive_max_error = 0;  ///< of the naive computation, the yardstick
  double bound = 0;            ///< of the (b, h) that came nearest to its bound, or went farthest over it
  double worst_ratio = 0;      ///< error / bound there
  std::vector<int64_t> worst;  ///< index of the largest error relative to its bound
  double worst_found = 0, worst_expected = 0;
  std::string failure;  ///< one sentence, empty when it passed
};

/// "max error 1.1e-07 of 4.2e-07 allowed, mean 1.3e-08, 301 of 65536 rows"
std::string to_string(const AccuracyReport& report);

/// Judges outputs (in return order) of a kernel that ran on `inputs` (in signature order). Per (b, h):
///   max|out - ref| <= f · max|naive - ref| + 4·eps(out)·max|V|, f = 3 where tanh enters, else 2
///   mean|out - ref| <= 1.25 · mean|naive - ref| + eps(out)·max|V| / 4, from 4096 elements on
/// V is the right operand of the matmul behind the result, or the result where there is none (at least 1 for logsumexp:
/// an absolute error of a logarithm is a relative error of its argument). Of a sum of sums, as gradients are, eps of
/// the accumulation · the largest sum of |terms| (interp/magnitudes.h) stands for 4·eps(out)·max|V| where it is more.
/// Under a precision policy that rounds f32 operands by u (2^-16 for f32_x3, 2^-8 for bf16), u · max|V| is added to the
/// first. NaN and inf stand where the oracle has them. Integer results are exact.
Result<std::vector<AccuracyReport>> verify_outputs(const Graph& graph, const DimBindings& dims,
                                                   std::span<const TensorView> inputs,
                                                   std::span<const TensorView> outputs,
                                                   const AccuracyOptions& options = {});

/// The same for outputs of several kernels on the same inputs: the reference is computed once and kept. For tests;
/// verify_outputs holds one (b, h) at a time.
class OutputJudge {
 public:
  static Result<OutputJudge> create(const Graph& graph, const DimBindings& dims, std::span<const TensorView> inputs,
                                    const AccuracyOptions& options = {});
  Result<std::vector<AccuracyReport>> judge(std::span<const TensorView> outputs);

 private:
  friend Result<std::vector<AccuracyReport>> verify_outputs(const Graph&, const DimBindings&,
                                                            std::span<const TensorView>, std::span<const TensorView>,
                                                            const AccuracyOptions&);
  struct State;
  explicit OutputJudge(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace tilewright
