// Subject: one graph compiled, with data, ready to be timed.
#pragma once

#include "runtime/host_tensor.h"
#include "runtime/limits.h"
#include "runtime/work.h"

namespace tilewright::bench {

class Subject {
 public:
  static Result<Subject> create(const Engine& engine, Graph graph, DimBindings dims,
                                const CompileOptions& options = {});

  /// Seconds of one run. Errors of a run are our own bugs here: CHECKed.
  double run(const std::shared_ptr<Executor>& executor, TimeOf clock = TimeOf::wall,
             int64_t workspace_limit = -1) const;
  const Kernel& kernel() const { return kernel_; }
  const DimBindings& dims() const { return dims_; }
  const std::vector<TensorView>& inputs() const { return in_; }
  const std::vector<TensorView>& outputs() const { return out_; }  ///< of the last run
  const Work& work() const { return work_; }
  const AttentionSpec& spec() const;  ///< of the first attention
  /// Scores in the tiles that the first attention's schedule visits.
  double visited() const;
  const CpuSchedule& schedule() const;
  int64_t input_bytes() const;

 private:
  Subject(Kernel kernel, DimBindings dims) : kernel_(std::move(kernel)), dims_(std::move(dims)) {}
  size_t fused_step() const;

  Kernel kernel_;
  DimBindings dims_;
  std::vector<HostTensor> inputs_, outputs_;
  std::vector<TensorView> in_, out_;
  Work work_;
  mutable std::vector<std::byte> workspace_;  ///< of `run`; grows to what the most workers need
};

/// Multi-head attention with a modification of the scores and a mask, as the rows of the benchmark want it.
enum class Scores : uint8_t { plain, causal, alibi, window, documents, softcap, gather, dropout, bias };
struct AttentionShape {
  DType dtype = DType::f32;
  int64_t heads = 8, kv_heads = 8, head_dim = 64;
};
/// Dims B, Sq, Sk.
Graph attention_graph(const AttentionShape& shape, Scores scores);
/// The modification alone over [R, C] values: softcap, gather or dropout.
Graph modification_graph(Scores scores);

}  // namespace tilewright::bench
