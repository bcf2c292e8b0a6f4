#include "ir/verify_space.h"

namespace tilewright {
namespace {

class AttentionVerifier : SpaceVerifier {
 public:
  explicit AttentionVerifier(const AttentionSpec& spec) : SpaceVerifier(spec), spec_(spec) {}

  Diagnostics run() {
    check_space();
    check_columns("value dim", spec_.value_dim);
    if (!errors_.empty()) return std::move(errors_);
    check_operands();
    check_rounding("weights", spec_.weights);
    check_expr("score", spec_.score, spec_.accumulate, kBHQKV | kDependsOnScore);
    check_masks();
    if (spec_.sink) check_expr("sink", *spec_.sink, spec_.accumulate, kBHQ);
    if (spec_.weight_factor) check_expr("weight_factor", *spec_.weight_factor, spec_.accumulate, kBHQKV);
    if (spec_.normaliser == Normaliser::none && (spec_.sink || spec_.logsumexp || spec_.weight_factor))
      fail("normaliser none has neither a sink nor a logsumexp nor a weight_factor");
    check_outputs();
    return std::move(errors_);
  }

 private:
  void check_operands() {
    for (const DotTerm& dot : spec_.dots) check_product("query", "key", dot);
    if (!check_access("value", spec_.value, kBHKV | bit(Axis::d), spec_.value_dim)) return;
    check_grouping("value", spec_.value);
    check_input("value", spec_.value);
  }

  void check_outputs() {
    if (check_access("output", spec_.output, kBHQ | bit(Axis::d), spec_.value_dim))
      check_output("output", spec_.output);
    if (spec_.logsumexp && check_access("logsumexp", *spec_.logsumexp, kBHQ, 0))
      check_output("logsumexp", *spec_.logsumexp);
    for (size_t i = 0; i < spec_.tensors.size(); ++i) {
      const auto index = static_cast<int>(i);
      const bool written = spec_.output.tensor == index || (spec_.logsumexp && spec_.logsumexp->tensor == index);
      if (spec_.tensors[i].output && !written) fail("the output %{} is never written", spec_.tensors[i].name);
    }
    if (spec_.logsumexp && spec_.logsumexp->tensor == spec_.output.tensor) fail("output and logsumexp are one tensor");
  }

  const AttentionSpec& spec_;
};

}  // namespace

Diagnostics verify(const AttentionSpec& spec) { return AttentionVerifier(spec).run(); }

}  // namespace tilewright
