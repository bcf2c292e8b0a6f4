// One try to read a product as attention, with a given split of its leading axes into batch and heads.
#pragma once

#include "compiler/fuse/dot_operand.h"
#include "compiler/fuse/match_attention.h"
#include "compiler/fuse/score_reader.h"

namespace tilewright::fusion {

constexpr int64_t kMaxHeadDim = 512;

class Attempt {
 public:
  Attempt(const GraphFacts& facts, ValueId pv, const WeightsOperand& weights, size_t head_axes);
  std::variant<AttentionMatch, FusionNote> run();
  bool keys_depend_on_heads() const { return keys_depend_on_heads_; }

 private:
  struct Dot {
    ValueId product;
    Indices at;
    DotOperand query, key;
    int64_t head_dim = 0;
    ExprId score{-1};  ///< with its factors, as the score's reader saw it
  };

  void set_axes(size_t head_axes);
  Indices unflatten(Axis axis, const std::vector<Dim>& dims);
  Indices contract_operand(const Node& product, size_t i, const Indices& lead, ExprId row, ExprId column, ExprId k);
  void stop(ValueId value, std::string reason);
  bool stopped() const { return note_.has_value(); }

  bool find_scores();  ///< walks from the product to the softmax
  bool read_scores();  ///< fills value_, keep_ and dot_
  std::optional<ExprId> read_dot(ValueId product, const Indices& at);
  ExprId scaled_score(const Node& product, const Dot& dot, size_t term);
  bool read_value();  ///< V
  void set_head_group();
  void read_sink();
  void find_output();
  void find_logsumexp();
  bool depends_on(ValueId value, ValueId target) const;
  Access access(ValueId tensor, const Indices& at);
  /// Follows single-use casts, transposes and reshapes; `at` becomes the index into the value returned.
  ValueId follow(ValueId value, Indices& at, bool has_d);
  AttentionMatch finish();

  const GraphFacts& facts_;
  const Graph& graph_;
  const ValueId pv_;
  const Node& product_;
  const WeightsOperand weights_;
  Tracer t_;
  ScoreReader reader_;
  AttentionSpec spec_;
  std::optional<FusionNote> note_;

  Indices lead_;
  ExprId q_{-1}, kv_{-1}, d_{-1};
  ValueId scores_ = kNoValue;  ///< the softmax's operand, or the weights when nothing normalises
  Indices scores_at_;
  bool one_to_one_ = true;  ///< each row of the softmax is exactly one (b, h, q)
  std::vector<Dot> dots_;
  DotOperand value_;
  bool keys_depend_on_heads_ = false;
  AttentionMatch match_;
};

}  // namespace tilewright::fusion
