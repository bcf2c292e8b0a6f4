// TuneScene: data for a graph at certain dims, on which candidates run: to be judged, and to be timed.
//
// Judged before timed: the outputs are filled with NaN, the candidate runs, and what it wrote must pass the accuracy
// rule against the oracle on sampled rows and agree everywhere with what the rules' kernel writes, whose own outputs
// passed. Parameters must be as they were. So a candidate that leaves out work, writes another's results or into
// another's operands does not pass because somebody else was right before it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ir/accuracy.h"
#include "runtime/host_tensor.h"
#include "runtime/tuner.h"

namespace tilewright {

class TuneScene {
 public:
  struct Setup {
    const Graph& graph;
    DimBindings dims;
    std::shared_ptr<Executor> executor;
    TuneOptions::Run run;             ///< empty = kernel.run
    int64_t flush_bytes = 0;          ///< memory that is read before a cold run
    std::vector<int64_t> block_rows;  ///< query blocks whose borders the oracle looks at
    int64_t oracle_rows = 0;          ///< rows that the oracle computes; 0 = none, agreement alone
    WorkSlice slice;                  ///< what runs compute; of a part of the work there is agreement alone
  };
  /// Makes N(0,1) data. Errors: missing dims, no memory.
  static Result<std::unique_ptr<TuneScene>> create(Setup setup);

  /// What is wrong with the candidate; empty when nothing is. The first one judged must be the rules' kernel: others
  /// are compared with its outputs.
  std::string judge(const Kernel& kernel, const CpuSchedule& schedule);

  /// Seconds of the step in one run, an average of several where one is short; nothing when the run fails. Cold: after
  /// every worker has read memory of its own, more than its caches hold.
  struct Seconds {
    double warm = 0, cold = 0;
  };
  std::optional<Seconds> time(const Kernel& kernel, const CpuSchedule& schedule, size_t step);

  const std::vector<TensorView>& inputs() const { return in_; }
  const DimBindings& dims() const { return setup_.dims; }

 private:
  explicit TuneScene(Setup setup) : setup_(std::move(setup)) {}
  Result<Done> run(const Kernel& kernel, const CpuSchedule& schedule, double* step_seconds);
  void poison();
  std::string disagreement() const;
  std::string restore_inputs();

  Setup setup_;
  std::vector<HostTensor> inputs_, outputs_, expected_;  ///< expected: of the rules' kernel, f32 or f64
  std::vector<TensorView> in_, out_;
  std::vector<uint64_t> input_hashes_;
  std::optional<OutputJudge> oracle_;
  AlignedBuffer workspace_, flush_;
};

}  // namespace tilewright
