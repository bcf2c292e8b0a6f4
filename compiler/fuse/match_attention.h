// Recognises attention around one product with V and writes down its AttentionSpec.
#pragma once

#include <variant>

#include "compiler/fuse/tracer.h"
#include "compiler/program.h"

namespace tilewright::fusion {

struct AttentionMatch {
  AttentionSpec spec;            ///< tensors named by the values below; kv_range not analysed yet
  std::vector<ValueId> tensors;  ///< spec tensor i is this value; outputs come last
  ValueId output = kNoValue;     ///< value the step writes, views and casts after the product included
  ValueId logsumexp = kNoValue;
  ValueId logsumexp_node = kNoValue;  ///< the op itself, before its views
  std::vector<ValueId> products;      ///< the products of queries and keys
  std::vector<FusionNote> kept_rows;  ///< as Program::kept_rows
  ValueId weights = kNoValue;         ///< the softmax, or the operand of the product when nothing normalises
};

/// What the product `pv` multiplies with V.
struct WeightsOperand {
  size_t operand = 0;          ///< 0, or 1 when the product is transposed (Vᵀ · Pᵀ)
  ValueId softmax = kNoValue;  ///< behind views, casts and factors; kNoValue when nothing normalises
  /// Nothing normalises, and neither K nor V has the leading axes of the result: unless something is masked that is
  /// two layers of an MLP and no attention (docs/decisions.md).
  bool shared = false;
};

/// For every value of the graph, what it is as weights.
struct WeightChain {
  ValueId softmax = kNoValue;  ///< the softmax behind views, float casts and factors
  /// The operand passed on times a factor, by mul, div or a select with a literal 0 as the other arm; -1 where the node
  /// is no such thing. A factor is computed from no product: products belong to scores.
  int scaled = -1;
};
std::vector<WeightChain> weight_chains(const GraphFacts& facts);

/// The operand of a product that is a softmax, or else one that is a nonlinear function of another product.
std::optional<WeightsOperand> find_weights(const GraphFacts& facts, ValueId pv);

/// The spec, or the value that stopped it and why.
std::variant<AttentionMatch, FusionNote> match_attention(const GraphFacts& facts, ValueId pv,
                                                         const WeightsOperand& weights);

}  // namespace tilewright::fusion
