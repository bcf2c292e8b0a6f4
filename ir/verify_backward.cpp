#include "ir/verify_space.h"

namespace tilewright {
namespace {

class BackwardVerifier : SpaceVerifier {
 public:
  explicit BackwardVerifier(const BackwardSpec& spec)
      : SpaceVerifier(spec), spec_(spec), writers_(spec.tensors.size(), 0) {}

  Diagnostics run() {
    check_space();
    if (spec_.output_gradient) check_columns("value dim", spec_.output_gradient->head_dim);
    for (const BackwardProduct& row : spec_.rows) check_columns("row width", row.width);
    for (const BackwardProduct& column : spec_.columns) check_columns("column width", column.width);
    if (!errors_.empty()) return std::move(errors_);
    for (const DotTerm& dot : spec_.dots) {
      if (dot.query_row || dot.key_row) fail("a backward pass reads stored rows, but a dot computes its own");
      check_product("query", "key", dot);
    }
    if (spec_.output_gradient) check_product("output gradient", "value", *spec_.output_gradient);
    check_masks();
    if (!check_nodes("weights", spec_.weights)) return std::move(errors_);
    for (const BackwardProduct& row : spec_.rows) check_sum("row", row, kBHKV, kBHQ);
    for (const BackwardProduct& column : spec_.columns) check_sum("column", column, kBHQ, kBHKV);
    for (const CapturedSum& sum : spec_.captured) check_captured(sum);
    check_writers();
    return std::move(errors_);
  }

 private:
  static constexpr uint32_t kWeight = kBHQKV | kDependsOnScore | kDependsOnT;

  void check_weight(std::string_view what, ExprId weight) {
    const std::string where = fmt::format("{} weight", what);
    if (!check_root(where, spec_.weights, weight, spec_.accumulate, kWeight)) return;
    const bool reads_t = dependencies(spec_.weights)[static_cast<size_t>(raw(weight))] & kDependsOnT;
    if (reads_t && !spec_.output_gradient) fail("{} reads t, but there is no output_gradient", where);
    reads_t_ |= reads_t;
  }

  /// A product that sums over the operand's axes and writes over the output's.
  void check_sum(std::string_view what, const BackwardProduct& product, uint32_t operand_axes, uint32_t output_axes) {
    check_rounding(fmt::format("the weights of a {} product", what), product.rounding);
    check_weight(what, product.weight);
    const std::string operand = fmt::format("{} operand", what), output = fmt::format("{} output", what);
    if (check_access(operand, product.operand, operand_axes | bit(Axis::d), product.width)) {
      check_input(operand, product.operand);
      if (operand_axes == kBHKV) check_grouping(operand, product.operand);
    }
    if (!check_access(output, product.output, output_axes | bit(Axis::d), product.width)) return;
    check_output(output, product.output);
    if (output_axes == kBHKV) check_grouping(output, product.output);
    ++writers_[static_cast<size_t>(product.output.tensor)];
  }

  void check_captured(const CapturedSum& sum) {
    check_weight("captured", sum.weight);
    if (!known(sum.tensor)) return fail("a captured sum names no tensor");
    const SpecTensor& out = spec_.tensors[static_cast<size_t>(sum.tensor)];
    if (static_cast<int64_t>(sum.index.size()) != out.type.rank())
      return fail("a captured sum gives {} indices, but %{} is {}", sum.index.size(), out.name, to_string(out.type));
    check_output("captured sum", {sum.tensor, {}});
    for (size_t i = 0; i < sum.index.size(); ++i) {
      const std::string where = fmt::format("captured sum %{} axis {}", out.name, i);
      const ExprId index = sum.index[i];
      const bool exists = raw(index) >= 0 && static_cast<size_t>(raw(index)) < spec_.weights.nodes().size();
      if (exists && !is_integer(spec_.weights[index].dtype))
        fail("{} is {}, but must be an integer", where, to_string(spec_.weights[index].dtype));
      else
        check_root(where, spec_.weights, index, exists ? spec_.weights[index].dtype : DType::i64, kBHQKV);
    }
    ++writers_[static_cast<size_t>(sum.tensor)];
  }

  void check_writers() {
    if (spec_.output_gradient && !reads_t_) fail("there is an output_gradient, but no weight reads t");
    if (spec_.rows.empty() && spec_.columns.empty() && spec_.captured.empty()) fail("nothing is summed");
    for (size_t i = 0; i < spec_.tensors.size(); ++i) {
      if (!spec_.tensors[i].output) continue;
      if (writers_[i] == 0) fail("the output %{} is never written", spec_.tensors[i].name);
      if (writers_[i] > 1) fail("the output %{} is written {} times", spec_.tensors[i].name, writers_[i]);
    }
  }

  const BackwardSpec& spec_;
  std::vector<int> writers_;  ///< per tensor: how many sums write it
  bool reads_t_ = false;
};

}  // namespace

Diagnostics verify(const BackwardSpec& spec) { return BackwardVerifier(spec).run(); }

}  // namespace tilewright
