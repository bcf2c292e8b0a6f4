// TuneData: data for a graph at certain dims on which candidates are judged, on whatever device they run.
//
// Judged before timed: the outputs are filled with NaN, the candidate runs, and what it wrote must pass the accuracy
// rule against the oracle on sampled rows and agree everywhere with what the rules' kernel writes, whose own outputs
// passed. Parameters must be as they were. So a candidate that leaves out work, writes another's results or into
// another's operands does not pass because somebody else was right before it.
#pragma once

#include <string>
#include <vector>

#include "ir/accuracy.h"
#include "runtime/host_tensor.h"

namespace tilewright {

class TuneData {
 public:
  struct Setup {
    const Graph& graph;
    DimBindings dims;
    std::shared_ptr<Executor> executor;
    std::vector<int64_t> block_rows;  ///< query blocks whose borders the oracle looks at
    int64_t oracle_rows = 0;          ///< rows that the oracle computes; 0 = none, agreement alone
  };
  /// Makes N(0,1) data. Errors: missing dims, no memory.
  static Result<TuneData> create(Setup setup);

  /// Fills the outputs with NaN. The first call makes them, of these shapes.
  Result<Done> poison(const std::vector<std::vector<int64_t>>& shapes);
  /// What is wrong with what a candidate left in inputs and outputs; empty when nothing is. The first one judged must
  /// be the rules' kernel: others are compared with its outputs. Inputs are as they were afterwards.
  std::string verdict();

  const Graph& graph() const { return setup_.graph; }
  const DimBindings& dims() const { return setup_.dims; }
  Executor& executor() const { return *setup_.executor; }
  const std::vector<TensorView>& inputs() const { return in_; }
  const std::vector<TensorView>& outputs() const { return out_; }

 private:
  explicit TuneData(Setup setup) : setup_(std::move(setup)) {}
  std::string disagreement() const;
  std::string restore_inputs();

  Setup setup_;
  std::vector<HostTensor> inputs_, outputs_, expected_;  ///< expected: of the rules' kernel, f32 or f64
  std::vector<TensorView> in_, out_;
  std::vector<uint64_t> input_hashes_;
  std::optional<OutputJudge> oracle_;
};

/// Rows that the oracle computes of a program within `seconds`, at most as many as the accuracy rule takes; fewer than
/// kFewestOracleRows say too little.
int64_t affordable_oracle_rows(const Program& program, const DimBindings& dims, double seconds);
inline constexpr int64_t kMostOracleRows = 256, kFewestOracleRows = 16;

}  // namespace tilewright
