#include "ir/expr_text.h"

namespace tilewright {
namespace {

std::optional<Axis> parse_axis(std::string_view text) {
  for (int i = 0; i <= static_cast<int>(Axis::kv_hi); ++i)
    if (to_string(static_cast<Axis>(i)) == text) return static_cast<Axis>(i);
  return std::nullopt;
}

/// Which product of the score space a variable stands for.
std::optional<int> parse_product(std::string_view text) {
  if (text == "s") return 0;
  if (text == "t") return 1;
  return std::nullopt;
}

class ExprParser {
 public:
  ExprParser(TextCursor& in, NamedExpr& scope, std::span<const SpecTensor> tensors, const ExprContext& context)
      : in_(in), tensors_(tensors), context_(context), expr_(scope.expr), named_(scope.names) {}

  void parse_lets() {
    while (in_.accept_word("let")) {
      const std::string name = in_.expect(TokenKind::word, "a name after let");
      if (parse_axis(name) || parse_dtype(name) || parse_op(name) || parse_product(name) || named_.count(name))
        in_.fail(fmt::format("the name '{}' after let is taken", name));
      in_.expect_mark("=", "after the name of a let");
      const ExprId value = term(std::nullopt);
      in_.expect_mark(";", "after a let");
      named_[name] = value;
    }
  }

  ExprId term() { return term(context_.root); }

 private:
  static constexpr int kDeepest = 64;

  /// An argument as written: a node, or a literal whose dtype the other arguments decide.
  struct Argument {
    ExprId id{-1};
    std::optional<Literal> literal;
  };

  ExprId term(std::optional<DType> dtype_of_literal) {
    const Argument argument = parse_argument();
    if (in_.failed()) return wrong();
    if (!argument.literal) return argument.id;
    return constant(*argument.literal, dtype_of_literal.value_or(own_dtype(argument.literal->kind)));
  }

  /// Any node; the result of a failed parse is dropped as a whole.
  ExprId wrong() { return expr_.constant_int(0, DType::i64); }

  ExprId constant(const Literal& literal, DType dtype) {
    const DType chosen = literal.explicit_dtype.value_or(dtype);
    const auto value = to_scalar(literal, chosen);
    if (!value) {
      in_.fail(value.error().list[0].message);
      return wrong();
    }
    ExprNode node;
    node.dtype = chosen;
    node.literal = *value;
    return expr_.add(std::move(node));
  }

  Argument parse_argument() {
    if (in_.at_literal()) return {ExprId{-1}, in_.parse_literal()};
    if (++depth_ > kDeepest)
      in_.fail(fmt::format("this nests more than {} levels; name parts of it with let", kDeepest));
    const ExprId id = in_.failed() ? wrong() : parse_node();
    --depth_;
    return {id, std::nullopt};
  }

  ExprId parse_node() {
    const Token token = in_.peek();
    if (token.kind == TokenKind::value) return parse_load(ExprKind::load, true);
    if (token.kind != TokenKind::word) {
      in_.fail_expected("an expression, such as mul(s, 0.125)");
      return wrong();
    }
    in_.next();
    if (in_.at_mark("(")) return parse_call(token);
    if (token.text == "clamped") return parse_load(ExprKind::load, false);
    if (token.text == "load_min") return parse_load(ExprKind::load_min, false);
    if (token.text == "load_max") return parse_load(ExprKind::load_max, false);
    if (const auto product = parse_product(token.text))
      return expr_.score(context_.score.value_or(DType::f32), *product);
    if (const auto axis = parse_axis(token.text)) return expr_.index(*axis);
    if (const auto named = named_.find(token.text); named != named_.end()) return named->second;
    in_.fail(fmt::format("'{}' is neither an axis nor a name given by let", token.text.substr(0, 60)), token.line);
    return wrong();
  }

  ExprId parse_call(const Token& callee) {
    in_.expect_mark("(", "of a call");
    ExprId result = wrong();
    if (callee.text == "dim") {
      result = expr_.dim(in_.parse_dim());
    } else if (const auto product = parse_product(callee.text)) {
      result = expr_.score(in_.parse_dtype_word(), *product);
    } else if (callee.text == "index") {
      const auto axis = parse_axis(in_.expect(TokenKind::word, "an axis"));
      if (!axis) in_.fail("index needs an axis, such as q or kv");
      in_.expect_mark(",", "after the axis");
      result = expr_.index(axis.value_or(Axis::b), in_.parse_dtype_word());
    } else {
      return parse_op_call(callee);
    }
    in_.expect_mark(")", "of a call");
    return result;
  }

  ExprId parse_op_call(const Token& callee) {
    const auto op = parse_op(callee.text);
    if (!op || info(*op).group != OpGroup::pointwise || *op == Op::load) {
      in_.fail(fmt::format("'{}' is no pointwise op", callee.text.substr(0, 60)), callee.line);
      return wrong();
    }
    std::vector<Argument> arguments;
    std::optional<DType> dtype;
    do {
      if (in_.peek().kind == TokenKind::word && parse_dtype(in_.peek().text) && !in_.at_mark("(", 1)) {
        dtype = in_.parse_dtype_word();
        break;
      }
      arguments.push_back(parse_argument());
    } while (in_.accept_mark(","));
    in_.expect_mark(")", fmt::format("or ',' after an operand of {}", callee.text));
    if (in_.failed()) return wrong();
    if (static_cast<int>(arguments.size()) != info(*op).min_operands) {
      in_.fail(fmt::format("{} takes {} operand{}, found {}", callee.text, info(*op).min_operands,
                           info(*op).min_operands == 1 ? "" : "s", arguments.size()),
               callee.line);
      return wrong();
    }
    if (*op == Op::cast && !dtype)
      in_.fail("cast needs a dtype as its last operand, such as cast(q, f32)", callee.line);
    std::vector<ExprId> args = resolve(*op, 0, arguments);
    std::vector<DType> dtypes;
    for (const ExprId arg : args) dtypes.push_back(expr_[arg].dtype);
    return expr_.op(*op, dtype.value_or(op_result_dtype(*op, dtypes)), std::move(args));
  }

  std::vector<ExprId> resolve(Op op, size_t shift, const std::vector<Argument>& arguments) {
    std::vector<std::optional<DType>> neighbours(shift, std::nullopt);
    for (const Argument& argument : arguments)
      neighbours.push_back(argument.literal ? std::nullopt : std::optional(expr_[argument.id].dtype));
    std::vector<ExprId> ids;
    for (size_t i = 0; i < arguments.size(); ++i) {
      const auto& literal = arguments[i].literal;
      ids.push_back(literal ? constant(*literal, literal_dtype(op, i + shift, literal->kind, neighbours,
                                                               own_dtype(literal->kind)))
                            : arguments[i].id);
    }
    return ids;
  }

  ExprId parse_load(ExprKind kind, bool in_bounds) {
    const Token token = in_.peek();
    const std::string name = in_.expect(TokenKind::value, "a tensor to load from");
    size_t tensor = 0;
    while (tensor < tensors_.size() && tensors_[tensor].name != name) ++tensor;
    if (tensor == tensors_.size()) in_.fail(fmt::format("%{} is no tensor of the signature", name), token.line);
    std::vector<Argument> low, high;
    in_.expect_mark("[", "before the indices");
    if (!in_.accept_mark("]")) {
      do {
        low.push_back(parse_argument());
        if (kind == ExprKind::load) continue;
        in_.expect_mark(":", "between the bounds of an index");
        high.push_back(parse_argument());
      } while (in_.accept_mark(","));
      in_.expect_mark("]", "or ',' after an index");
    }
    if (in_.failed()) return wrong();
    low.insert(low.end(), high.begin(), high.end());
    ExprNode node;
    node.kind = kind;
    node.tensor = static_cast<int>(tensor);
    node.dtype = tensors_[tensor].type.dtype;
    node.in_bounds = in_bounds;
    node.args = resolve(Op::load, 1, low);
    return expr_.add(std::move(node));
  }

  TextCursor& in_;
  std::span<const SpecTensor> tensors_;
  ExprContext context_;
  Expr& expr_;
  std::map<std::string, ExprId, std::less<>>& named_;
  int depth_ = 0;
};

}  // namespace

Expr parse_expr(TextCursor& in, std::span<const SpecTensor> tensors, const ExprContext& context) {
  NamedExpr scope;
  ExprParser parser(in, scope, tensors, context);
  parser.parse_lets();
  scope.expr.set_root(parser.term());
  return in.failed() ? Expr() : scope.expr.pruned();
}

NamedExpr parse_lets(TextCursor& in, std::span<const SpecTensor> tensors, const ExprContext& context) {
  NamedExpr scope;
  ExprParser(in, scope, tensors, context).parse_lets();
  return scope;
}

ExprId parse_term(TextCursor& in, NamedExpr& scope, std::span<const SpecTensor> tensors, const ExprContext& context) {
  return ExprParser(in, scope, tensors, context).term();
}

Access parse_access(TextCursor& in, std::span<const SpecTensor> tensors) {
  Access access;
  const Token token = in.peek();
  const std::string name = in.expect(TokenKind::value, "a tensor, such as %q[b, h, q, d]");
  for (size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].name == name) access.tensor = static_cast<int>(i);
  if (access.tensor < 0) in.fail(fmt::format("%{} is no tensor of the signature", name), token.line);
  in.expect_mark("[", "before the indices");
  if (in.accept_mark("]")) return access;
  do access.axes.push_back(parse_expr(in, tensors, {DType::i64, {}}));
  while (in.accept_mark(","));
  in.expect_mark("]", "or ',' after an index");
  return access;
}

}  // namespace tilewright
