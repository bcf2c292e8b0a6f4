// One try to read exits of score space as one backward pass, with a given split of their leading axes into batch and
// heads.
#pragma once

#include <variant>

#include "compiler/fuse/match_backward.h"
#include "compiler/fuse/score_reader.h"

namespace tilewright::fusion {

class BackwardAttempt {
 public:
  /// All exits have the same frame.
  BackwardAttempt(const GraphFacts& facts, const std::vector<const ScoreExit*>& exits, size_t head_axes);
  std::variant<BackwardMatch, FusionNote> run();
  bool keys_depend_on_heads() const { return keys_depend_on_heads_; }

 private:
  /// Where a product goes, with its weight times the factors met on the way.
  struct Target {
    ValueId value = kNoValue;
    Indices at;
    ExprId weight{-1};
  };
  struct Product {
    bool row = false;
    DotOperand operand;
    int64_t width = 0;
    DType rounding = DType::f32;
    std::optional<ExprId> keep;
    Target plain, grouped;  ///< grouped: after the sum over the heads of a group
    int64_t group = 1;
    ExprId weight{-1};  ///< in spec_.weights, once it is there
  };
  struct Sum {
    ValueId value = kNoValue;
    ExprId weight{-1};
    std::optional<ExprId> keep;
    Indices index;
    bool in_bounds = true;
  };

  void stop(ValueId value, std::string reason);
  bool stopped();

  void read(const ScoreExit& exit);
  void read_product(const ScoreExit& exit, const MaskedValue& weight, const Indices& at);
  void follow(Product& product);
  bool follow_group(Product& product, Target& target);
  bool follow_factor(Target& target);
  /// A store of all scores, or sums of them: through reductions, and through what is linear on the way to one.
  void store(ValueId value, const Indices& at, const MaskedValue& weight, bool in_bounds);
  void follow_sums(ValueId value, const Indices& at, const MaskedValue& weight, bool in_bounds);
  void follow_sum(ValueId user, ValueId from, Indices at, MaskedValue weight, bool in_bounds);
  bool leads_to_sum(ValueId value) const;
  bool is_linear_step(ValueId user, ValueId from) const;

  void choose_groups();
  bool number_dots();
  void split_masks();
  BackwardMatch finish();
  Access access(ValueId tensor, const Indices& at);

  const GraphFacts& facts_;
  const Graph& graph_;
  const std::vector<const ScoreExit*>& exits_;
  Tracer t_;
  ScoreReader reader_;
  const ScoreFrame frame_;
  DotReader dots_;
  BackwardSpec spec_;
  std::optional<FusionNote> note_;

  std::vector<Product> products_;
  std::vector<Sum> sums_;
  std::vector<ValueId> users_;
  std::vector<size_t> terms_;  ///< dots that s sums up
  std::optional<size_t> t_term_;
  bool keys_depend_on_heads_ = false, sums_scores_ = false;
};

}  // namespace tilewright::fusion
