// Turns a graph and the attention found in it into ordered steps, on demand from the results backwards.
#pragma once

#include <map>

#include "compiler/fuse/epilogue.h"
#include "compiler/fuse/tracer.h"
#include "compiler/program.h"

namespace tilewright::fusion {

/// A step that fusion found, with the values of its spec's tensors.
struct FusedStep {
  decltype(Step::what) what;
  std::vector<ValueId> tensors;
  const std::vector<SpecTensor>& spec_tensors() const;
};

class ProgramBuilder {
 public:
  /// What epilogues write is `stored` in the facts.
  ProgramBuilder(const GraphFacts& facts, const std::vector<FusedStep>& fused, const std::vector<Epilogue>& epilogues);
  Result<Program> build();

 private:
  struct LoopParts {
    LoopStep step;
    Tracer tracer;
    Indices at;  ///< one index per loop axis
    LoopParts(const GraphFacts& facts, Region region, const Node& node, const Shape& extents);
  };

  int tensor_of(ValueId value);  ///< makes sure that some step writes it
  int declare(ValueId value);    ///< a result or a temporary
  void emit(ValueId value);
  void emit_fused(const FusedStep& fused);
  void emit_pointwise(ValueId value);
  void emit_concat(ValueId value);
  void emit_update(ValueId value);
  void emit_reduce(ValueId value);
  void emit_scatter(ValueId value);
  void emit_contract(ValueId value, const Epilogue* epilogue);
  void emit_copy(ValueId value, int target);
  /// Completes the step: `output` indexes `target`, tensors that no expression mentions are dropped.
  void finish(LoopParts& parts, int target, const Indices& output);
  Expr simplified(const LoopParts& parts, ExprId id) const;
  std::string unique_name(const std::string& stem) const;
  void set_lifetimes();

  const GraphFacts& facts_;
  const Graph& graph_;
  const std::vector<FusedStep>& fused_;
  std::map<ValueId, size_t> written_by_;            ///< value → fused step
  std::map<ValueId, const Epilogue*> epilogue_of_;  ///< by what it writes
  std::map<ValueId, int> tensor_;
  Program program_;
  Diagnostics errors_;
};

}  // namespace tilewright::fusion
