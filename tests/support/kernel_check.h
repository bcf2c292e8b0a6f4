// KernelCheck: a graph compiled and run on guarded tensors by every template and ISA of this machine, judged by the
// accuracy rule.
#pragma once

#include <string>

#include "ir/accuracy.h"
#include "runtime/engine.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {

struct KernelVariant {
  CpuIsa isa = CpuIsa::avx2;
  bool force_generic = false;
  bool ahead_of_time = false;
  std::string text() const;
  CompileOptions options() const;
};
/// Those that this machine runs: generated code, and with the tier that was compiled ahead of time.
const std::vector<KernelVariant>& kernel_variants();
const std::vector<KernelVariant>& variants_of_both_tiers();
/// One engine per ISA, two threads each, shared by all tests of the process.
const Engine& engine_for(CpuIsa isa);

class KernelCheck {
 public:
  /// Inputs are N(0,1), integers and bools 0 or 1, in guarded memory of the given layout.
  KernelCheck(Graph graph, DimBindings dims, Layout layout = Layout::gapped, uint64_t seed = 1);

  TestTensor& input(const std::string& name);
  /// Gives the kernel and the oracle this memory instead.
  void replace(const std::string& name, const TensorView& view);

  /// Compiles and runs every variant; outputs poisoned before, gaps intact after, values within the accuracy rule.
  /// Failures are gtest failures.
  void run();
  /// Runs the kernel of `planted`, a graph with the fault in it, and expects the judge to reject its outputs.
  void expect_caught(const Graph& planted);
  /// The judge's verdict on that kernel; its outputs are left in `outputs`.
  bool accepts_kernel_of(const Graph& planted);

  /// Runs the kernel on a view that misreads the parameter's memory, and expects the judge to reject the outputs.
  void expect_misreading_caught(const std::string& name, const TensorView& misread);
  /// Judges outputs that came from elsewhere against this check's inputs.
  void expect_outputs(std::span<const TensorView> found);
  bool accepts(std::span<const TensorView> found);

  bool materialise = false;  ///< one op a step, nothing fused
  ScheduleOverride tiles;    ///< of fused steps
  AccuracyOptions accuracy;
  RunOptions run_options;
  Layout output_layout = Layout::gapped;
  std::vector<KernelVariant> variants = variants_of_both_tiers();
  std::vector<TensorView> own_outputs;  ///< written instead of guarded tensors when not empty
  std::vector<TestTensor> outputs;      ///< of the variant that ran last

 private:
  size_t position(const std::string& name) const;
  bool run_variant(const Graph& graph, const KernelVariant& variant);
  std::vector<TensorView> output_views() const;
  Result<std::vector<AccuracyReport>> judge(std::span<const TensorView> found);

  Graph graph_;
  DimBindings dims_;
  std::mt19937_64 random_;
  std::vector<TestTensor> inputs_;
  std::vector<TensorView> views_;
  std::optional<OutputJudge> judge_;  ///< of the inputs as they were at the last run()
};

/// The usual graph: params q [B,H,Sq,Dqk], k [B,Hkv,Sk,Dqk], v [B,Hkv,Sk,Dv]; results o and, when asked for, the LSE.
struct AttentionGraph {
  DType dtype = DType::f32;
  int64_t heads = 2, kv_heads = 2, dqk = 16, dv = 16;
  bool lse = false;
  /// Score modifications and masks on s [B,H,Sq,Sk]; further parameters may be declared here.
  std::function<ValueId(GraphBuilder& g, ValueId s)> modify;
  Graph build() const;
};

}  // namespace tilewright::testing
