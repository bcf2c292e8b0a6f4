#include "ir/space_text.h"
#include "ir/text.h"

namespace tilewright {
namespace {

class BackwardParser : SpaceParser {
 public:
  explicit BackwardParser(std::string_view text) : SpaceParser(text, spec_) {}

  Result<BackwardSpec> run() {
    parse_signature("backward");
    while (!in_.failed() && !in_.at_mark("}")) parse_section();
    expect_sections("backward", {"batch", "heads", "q_len", "kv_len", "dot", "keep", "weights"});
    if (!in_.errors().empty()) return in_.errors();
    spec_.weights = scope_.expr.pruned(roots(spec_));
    return std::move(spec_);
  }

 private:
  void parse_section() {
    const std::string key = parse_key({"dot", "row", "column", "captured"});
    if (in_.failed() || parse_space_section(key)) return;
    if (key == "output_gradient") {
      spec_.output_gradient = parse_dot();
    } else if (key == "weights") {
      parse_header();
      scope_ = parse_lets(in_, spec_.tensors, {std::nullopt, spec_.accumulate});
      in_.expect_mark("}", "at the end of the weights");
    } else if (key == "row") {
      spec_.rows.push_back(parse_product());
    } else if (key == "column") {
      spec_.columns.push_back(parse_product());
    } else if (key == "captured") {
      spec_.captured.push_back(parse_captured());
    } else {
      fail_unknown(key);
    }
  }

  ExprId parse_weight() {
    if (!seen_.count("weights")) in_.fail("'weights' must stand before what uses them");
    in_.expect_word("weight", "of the sum");
    return parse_term(in_, scope_, spec_.tensors, context(spec_.accumulate));
  }

  BackwardProduct parse_product() {
    BackwardProduct product;
    product.width = in_.parse_int("the number of columns");
    if (in_.peek().kind == TokenKind::word) product.rounding = in_.parse_dtype_word();
    in_.expect_mark("{", "after the number of columns");
    product.weight = parse_weight();
    in_.expect_word("operand", "after the weight");
    product.operand = parse_access(in_, spec_.tensors);
    in_.expect_word("output", "after the operand");
    product.output = parse_access(in_, spec_.tensors);
    in_.expect_mark("}", "at the end of the sum");
    return product;
  }

  CapturedSum parse_captured() {
    CapturedSum sum;
    in_.expect_mark("{", "after captured");
    sum.weight = parse_weight();
    in_.expect_word("output", "after the weight");
    sum.in_bounds = !in_.accept_word("clamped");
    const Token token = in_.peek();
    const std::string name = in_.expect(TokenKind::value, "a tensor, such as %dbias[h, q, kv]");
    for (size_t i = 0; i < spec_.tensors.size(); ++i)
      if (spec_.tensors[i].name == name) sum.tensor = static_cast<int>(i);
    if (sum.tensor < 0) in_.fail(fmt::format("%{} is no tensor of the signature", name), token.line);
    in_.expect_mark("[", "before the indices");
    if (!in_.accept_mark("]")) {
      do sum.index.push_back(parse_term(in_, scope_, spec_.tensors, context(DType::i64)));
      while (in_.accept_mark(","));
      in_.expect_mark("]", "or ',' after an index");
    }
    in_.expect_mark("}", "at the end of the sum");
    return sum;
  }

  BackwardSpec spec_;
  NamedExpr scope_;
};

}  // namespace

Result<BackwardSpec> parse_backward(std::string_view text) { return BackwardParser(text).run(); }

}  // namespace tilewright
