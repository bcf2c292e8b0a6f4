#include "ir/space_text.h"
#include "ir/text.h"

namespace tilewright {
namespace {

class BackwardPrinter : SpacePrinter {
 public:
  explicit BackwardPrinter(const BackwardSpec& spec) : SpacePrinter(spec), spec_(spec) {}

  std::string run() {
    print_space("backward");
    if (spec_.output_gradient) dot("output_gradient", *spec_.output_gradient);
    print_masks();
    print_weights();
    for (const BackwardProduct& row : spec_.rows) print_product("row", row);
    for (const BackwardProduct& column : spec_.columns) print_product("column", column);
    for (const CapturedSum& sum : spec_.captured) print_captured(sum);
    return text_ + "}\n";
  }

 private:
  void print_weights() {
    std::vector<TypedRoot> roots;
    for (const auto* products : {&spec_.rows, &spec_.columns})
      for (const BackwardProduct& product : *products) roots.push_back({product.weight, spec_.accumulate});
    for (const CapturedSum& sum : spec_.captured) {
      roots.push_back({sum.weight, spec_.accumulate});
      for (const ExprId index : sum.index) roots.push_back({index, DType::i64});
    }
    PrintedLets printed = print_lets(spec_.weights, roots, spec_.tensors, {std::nullopt, spec_.accumulate});
    text_ += "  weights(s, t; b, h, q, kv) {\n";
    for (const std::string& let : printed.lets) text_ += fmt::format("    {}\n", let);
    text_ += "  }\n";
    roots_ = std::move(printed.roots);
  }

  /// Roots are written in the order in which they were collected.
  std::string next_root() { return roots_[next_++]; }

  void print_product(std::string_view keyword, const BackwardProduct& product) {
    const std::string narrow = product.rounding == DType::f32 ? "" : fmt::format("{} ", to_string(product.rounding));
    text_ += fmt::format("  {} {} {}{{\n    weight  {}\n", keyword, product.width, narrow, next_root());
    text_ += fmt::format("    operand {}\n    output  {}\n  }}\n", access(product.operand), access(product.output));
  }

  void print_captured(const CapturedSum& sum) {
    const std::string weight = next_root();
    std::vector<std::string> index;
    for (size_t i = 0; i < sum.index.size(); ++i) index.push_back(next_root());
    const bool known = sum.tensor >= 0 && static_cast<size_t>(sum.tensor) < spec_.tensors.size();
    text_ += fmt::format("  captured {{\n    weight  {}\n    output  {}%{}[{}]\n  }}\n", weight,
                         sum.in_bounds ? "" : "clamped ",
                         known ? spec_.tensors[static_cast<size_t>(sum.tensor)].name : "?", fmt::join(index, ", "));
  }

  const BackwardSpec& spec_;
  std::vector<std::string> roots_;
  size_t next_ = 0;
};

}  // namespace

std::string print(const BackwardSpec& spec) { return BackwardPrinter(spec).run(); }

}  // namespace tilewright
