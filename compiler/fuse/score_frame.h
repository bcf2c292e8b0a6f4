// The index space of a fused region, b, h, q and kv, and the products in it that are traced back to their operands.
#pragma once

#include "compiler/fuse/dot_operand.h"
#include "compiler/passes.h"

namespace tilewright::fusion {

constexpr int64_t kMaxHeadDim = 512;

/// Leading axes of the graph's values, flattened into b and h.
struct ScoreFrame {
  std::vector<Dim> batch, heads;
  Dim q_len, kv_len;
  Indices lead;  ///< one index per leading axis
  ExprId q{-1}, kv{-1};

  ScoreFrame() = default;
  /// The last `head_axes` of `lead` are head axes.
  ScoreFrame(Tracer& tracer, const Shape& lead, size_t head_axes, Dim q_len, Dim kv_len);
  AxisExtents extents() const;
};

/// Index into operand i of a product for its result's (lead, row, column), `k` along the contracted axis.
Indices contract_operand(Tracer& tracer, const Graph& graph, const Node& product, size_t i, const Indices& lead,
                         ExprId row, ExprId column, ExprId k);

/// A product of rows over q and rows over kv, met while tracing.
struct ScoreDot {
  ValueId product = kNoValue;
  Indices at;
  DotOperand query, key;
  bool straight = true;  ///< the query is the product's operand 0
  int64_t head_dim = 0;
  ExprId score{-1};  ///< partial_score(term) with its factors, as the reader saw it
};

/// Puts partial scores in the place of products (Tracer::on_contract).
class DotReader {
 public:
  DotReader(const GraphFacts& facts, Tracer& tracer, const ScoreFrame& frame);

  std::vector<ScoreDot> dots;
  DType accumulate = DType::f32;  ///< f64 once anything traced is
  ValueId stopped_by = kNoValue;  ///< the first product that cannot be read, or its operand
  std::string reason;

 private:
  std::optional<ExprId> read(ValueId product, const Indices& at);
  ExprId scaled_score(const Node& product, const ScoreDot& dot);
  void stop(ValueId value, std::string reason);

  const GraphFacts& facts_;
  const Graph& graph_;
  Tracer& t_;
  const ScoreFrame& frame_;
};

}  // namespace tilewright::fusion
