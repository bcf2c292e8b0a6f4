// Program: what a graph becomes. Ordered steps over a table of tensors, some of them temporaries with lifetimes.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "ir/attention_spec.h"
#include "ir/backward_spec.h"

namespace tilewright {

enum class TensorRole : uint8_t { param, result, temporary };

struct ProgramTensor {
  std::string name;
  TensorType type;
  TensorRole role = TensorRole::temporary;
  int position = -1;                  ///< param or result number
  int first_step = 0, last_step = 0;  ///< lifetime of a temporary, inclusive
};

enum class LoopKind : uint8_t {
  pointwise,  ///< out[…] = value
  reduce,     ///< folds `axis` of `value` with `op` (reduce_*, logsumexp)
  softmax,    ///< out[…] = softmax of `value` along `axis`
  contract,   ///< out[…] = Σ over the last axis of value · value2
  scatter  ///< out[…] += value, row-major over `extents`; `output` is computed, inside the tensor, nothing where that
           ///< is empty
};

/// An unfused piece: a loop nest over `extents` (axis i is Axis(i)). `output` maps the axes it keeps to the tensor.
struct LoopStep {
  LoopKind kind = LoopKind::pointwise;
  std::string name;                 ///< the graph value it computes
  std::vector<SpecTensor> tensors;  ///< what `value`, `value2`, `sink` and `output` refer to
  Shape extents;
  Op op = Op::reduce_sum;
  int axis = -1;
  Expr value, value2;
  std::optional<Expr> sink;
  /// contract: what the output holds of the sum `s` (the score leaf, of `accumulate`) at the other axes; empty = s.
  Expr epilogue;
  Access output;
  DType accumulate = DType::f32;
  PrecisionPolicy precision = PrecisionPolicy::f32;  ///< contract: of f32 operands; f32 where there are none
};

struct AttentionStep {
  AttentionSpec spec;
};

struct BackwardStep {
  BackwardSpec spec;
};

struct Step {
  std::variant<AttentionStep, BackwardStep, LoopStep> what;
  std::vector<int> tensors;  ///< spec/loop tensor i is Program::tensors[tensors[i]]
};

/// Why something was not fused, for people.
struct FusionNote {
  std::string value;  ///< the graph value that stopped it
  int line = 0;
  std::string reason;  ///< one sentence
};

struct Program {
  std::string name;
  std::vector<ProgramTensor> tensors;
  std::vector<Step> steps;
  std::vector<FusionNote> not_fused;  ///< one per softmax-like pattern or matmul pair that stayed unfused
  /// Rotations and norms of Q or K that stayed steps of their own, though an attention reads them.
  std::vector<FusionNote> kept_rows;
  int graph_ops = 0;  ///< nodes before fusion, params and constants left out
};

std::string print(const Program& program);

}  // namespace tilewright
