// One try to read a product as attention, with a given split of its leading axes into batch and heads.
#pragma once

#include "compiler/fuse/match_attention.h"
#include "compiler/fuse/row_reader.h"
#include "compiler/fuse/score_frame.h"
#include "compiler/fuse/score_reader.h"

namespace tilewright::fusion {

class Attempt {
 public:
  Attempt(const GraphFacts& facts, ValueId pv, const WeightsOperand& weights, size_t head_axes);
  std::variant<AttentionMatch, FusionNote> run();
  bool keys_depend_on_heads() const { return keys_depend_on_heads_; }

 private:
  ScoreFrame frame(size_t head_axes);
  void stop(ValueId value, std::string reason);
  bool stopped();

  bool find_scores();  ///< walks from the product to the softmax
  /// Notes what `node`, read at `at`, multiplies the weights of operand `i` with.
  void note_factor(const Node& node, size_t i, const Indices& at);
  void set_weight_factor();
  bool read_scores();  ///< the score, keep and the dots
  bool read_value();   ///< V
  void read_rows();    ///< those of Q and K that are computed where they are packed
  void set_head_group();
  void read_sink();
  void find_output();
  void find_logsumexp();
  bool depends_on(ValueId value, ValueId target) const;
  Access access(ValueId tensor, const Indices& at);
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

  const ScoreFrame frame_;
  DotReader dots_;
  /// By dot: rows whose loads name t_.tensors.
  struct DotPrograms {
    std::optional<RowProgram> query, key;
  };
  std::vector<DotPrograms> rows_;
  ExprId d_{-1};
  ValueId scores_ = kNoValue;  ///< the softmax's operand, or the weights when nothing normalises
  Indices scores_at_;
  bool one_to_one_ = true;  ///< each row of the softmax is exactly one (b, h, q)
  /// f(x) = x · value, x / value or (value ? x : 0), outermost first.
  struct WeightFactor {
    Op op;
    ExprId value;
    bool negated = false;  ///< select: x is the other arm
  };
  std::vector<WeightFactor> factors_;
  DotOperand value_;
  bool keys_depend_on_heads_ = false;
  AttentionMatch match_;
};

}  // namespace tilewright::fusion
