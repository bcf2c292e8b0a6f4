#include <algorithm>
#include <map>
#include <numeric>

#include "ir/op_attributes.h"
#include "ir/text.h"
#include "ir/text_cursor.h"

namespace tilewright {
namespace {

/// Fewest single-character edits from a to b.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

std::string unknown_op(std::string_view name) {
  std::string_view best;
  size_t distance = 3;
  for (int i = 0; i < op_count() && name.size() < 40; ++i) {
    const std::string_view candidate = info(static_cast<Op>(i)).name;
    if (const size_t d = edit_distance(name, candidate); d < distance && d < candidate.size()) {
      best = candidate;
      distance = d;
    }
  }
  const std::string hint = best.empty() ? "" : fmt::format("; did you mean '{}'?", best);
  return fmt::format("there is no op '{}'{}", name.substr(0, 60), hint);
}

/// An operand as written: a value that exists, or a literal whose dtype its neighbours decide.
struct Operand {
  ValueId value = kNoValue;
  std::optional<Literal> literal;
  bool given() const { return literal || value != kNoValue; }
};

class GraphParser {
 public:
  explicit GraphParser(std::string_view text) : in_(text) {}

  Result<Graph> run() {
    parse_signature();
    if (in_.failed()) return in_.errors();
    while (!in_.at_limit() && !in_.at_mark("}") && in_.peek().kind != TokenKind::end) parse_statement();
    if (!in_.at_limit()) {
      in_.begin_statement({});
      if (!returned_) in_.fail(fmt::format("graph @{} has no return statement", graph_.name));
      in_.expect_mark("}", "at the end of the graph");
      if (!in_.failed()) in_.begin_statement({});
      if (!in_.failed() && in_.peek().kind != TokenKind::end && !in_.at_word("graph") && !in_.at_word("attention"))
        in_.fail_expected("nothing but another graph after the graph's '}'");
    }
    if (!in_.errors().empty()) return in_.errors();
    return std::move(graph_);
  }

 private:
  void parse_signature() {
    in_.expect_word("graph", "at the start");
    graph_.name = in_.expect(TokenKind::symbol, "the graph's name, such as @attention");
    in_.expect_mark("(", "before the params");
    if (!in_.accept_mark(")")) {
      do parse_param();
      while (in_.accept_mark(","));
      in_.expect_mark(")", "or ',' after a param");
    }
    if (!in_.failed()) in_.begin_statement({});
    in_.expect_mark("->", "and the result types");
    if (in_.accept_mark("(")) {
      do result_types_.push_back(in_.parse_type());
      while (in_.accept_mark(","));
      in_.expect_mark(")", "or ',' after a result type");
    } else {
      result_types_.push_back(in_.parse_type());
    }
    if (in_.accept_word("precision")) {
      in_.expect_mark("=", "after precision");
      graph_.precision = in_.parse_precision();
    }
    in_.expect_mark("{", "before the statements");
  }

  void parse_param() {
    Node node;
    node.op = Op::param;
    node.inout = in_.accept_word("inout");
    node.line = in_.peek().line;
    if (in_.peek().kind == TokenKind::value) in_.begin_statement(std::string(in_.peek().text));
    node.name = in_.expect(TokenKind::value, "a param, such as %q: f32[B,8,Sq,64]");
    in_.expect_mark(":", "and the type of the param");
    node.type = in_.parse_type();
    if (!in_.failed()) graph_.params.push_back(define(std::move(node)));
  }

  void parse_statement() {
    const bool is_return = in_.at_word("return");
    const bool is_value = in_.peek().kind == TokenKind::value;
    const Token start = in_.peek();
    in_.begin_statement(is_value ? std::string(start.text) : std::string());
    uses_wrong_value_ = false;
    if (!is_return && !is_value) {
      in_.fail_expected("a statement, such as %s = exp %x : f32[B,S], or return");
    } else if (returned_) {
      in_.fail("this statement stands after return, which must be the last one");
    } else if (is_return) {
      parse_return();
    } else {
      parse_definition(start);
    }
    if (!in_.failed() && !in_.at_mark("}") && !in_.peek().first_on_line)
      in_.fail_expected("the end of the line after a statement");
    if (is_value) defined_.emplace(std::string(start.text), Definition{kNoValue, start.line});
    if (in_.failed()) in_.recover();
  }

  void parse_return() {
    returned_ = true;
    const Token start = in_.next();
    do {
      const Operand operand = parse_operand();
      if (operand.literal)
        in_.fail(fmt::format("return needs a named value, found the literal {}", operand.literal->text), start.line);
      graph_.results.push_back(operand.value);
    } while (in_.accept_mark(","));
    if (in_.failed() || uses_wrong_value_) return;
    if (graph_.results.size() != result_types_.size())
      return in_.fail(fmt::format("{} value{} returned, but the signature has {} result type{}", graph_.results.size(),
                                  graph_.results.size() == 1 ? " is" : "s are", result_types_.size(),
                                  result_types_.size() == 1 ? "" : "s"),
                      start.line);
    for (size_t i = 0; i < result_types_.size(); ++i)
      if (graph_.type(graph_.results[i]) != result_types_[i])
        return in_.fail(fmt::format("result {} is declared {}, but %{} is {}", i, to_string(result_types_[i]),
                                    graph_[graph_.results[i]].name, to_string(graph_.type(graph_.results[i]))),
                        start.line);
  }

  void parse_definition(const Token& start) {
    Node node;
    node.name = in_.next().text;
    node.line = start.line;
    in_.expect_mark("=", "after the name of a value");
    const Token op = in_.peek();
    in_.expect(TokenKind::word, "the name of an op");
    if (in_.failed()) return;
    const auto found = parse_op(op.text);
    if (!found) return in_.fail(unknown_op(op.text), op.line);
    if (*found == Op::param) return in_.fail("a param stands in the signature, not in a statement", op.line);
    node.op = *found;

    std::vector<Operand> operands;
    std::optional<Literal> constant;
    if (node.op == Op::dim)
      node.attributes.dim = in_.parse_dim();
    else if (node.op == Op::constant)
      constant = in_.parse_literal();
    else if (node.op == Op::load)
      parse_load(operands);
    else
      parse_arguments(node, operands);
    in_.expect_mark(":", fmt::format("and the type of %{}", node.name));
    node.type = in_.parse_type();
    if (in_.failed() || uses_wrong_value_) return;
    if (constant) store_scalar(to_scalar(*constant, constant->explicit_dtype.value_or(node.type.dtype)), node);
    add_operands(node, operands);
    if (!in_.failed()) define(std::move(node));
  }

  void parse_load(std::vector<Operand>& operands) {
    operands.push_back(parse_operand());
    in_.expect_mark("[", "before the indices of load");
    if (in_.accept_mark("]")) return;
    do operands.push_back(parse_operand());
    while (in_.accept_mark(","));
    in_.expect_mark("]", "or ',' after an index");
  }

  /// Operands, then attributes, all separated by commas.
  void parse_arguments(Node& node, std::vector<Operand>& operands) {
    if (in_.at_mark(":")) return check_required(node.op, 0);
    const auto rules = attributes_of(node.op);
    const bool named_operands = std::any_of(rules.begin(), rules.end(), [&](const AttributeRule& rule) {
      return operand_position(node.op, rule.kind) > 0;
    });
    uint32_t seen = 0;
    do {
      if (in_.peek().kind == TokenKind::word && in_.at_mark("=", 1)) {
        if (operands.empty() && info(node.op).min_operands > 0)
          return in_.fail_expected("an operand before the attributes");
        parse_attribute(node, operands, seen);
      } else if (seen) {
        in_.fail_expected("another attribute, as operands come before attributes");
      } else if (named_operands && operands.size() == 1) {
        in_.fail_expected("an attribute, such as sink= or q_offset=, after the one operand");
      } else {
        operands.push_back(parse_operand());
      }
    } while (in_.accept_mark(","));
    check_required(node.op, seen);
  }

  void parse_attribute(Node& node, std::vector<Operand>& operands, uint32_t& seen) {
    const Token key = in_.next();
    in_.next();
    const auto kind = parse_attribute_kind(key.text);
    const auto rules = attributes_of(node.op);
    const auto same_kind = [&](const AttributeRule& rule) { return rule.kind == kind; };
    if (!kind || std::none_of(rules.begin(), rules.end(), same_kind)) {
      std::string names;
      for (const AttributeRule& rule : rules)
        names += fmt::format("{}{}", names.empty() ? "" : ", ", to_string(rule.kind));
      return in_.fail(fmt::format("{} has no attribute '{}'; it has {}", info(node.op).name, key.text.substr(0, 60),
                                  names.empty() ? "none" : names),
                      key.line);
    }
    const uint32_t flag = 1u << static_cast<uint32_t>(*kind);
    if (seen & flag) return in_.fail(fmt::format("the attribute '{}' is given twice", key.text), key.line);
    seen |= flag;
    parse_attribute_value(node.attributes, *kind, operands, operand_position(node.op, *kind));
  }

  void parse_attribute_value(Attributes& at, AttributeKind kind, std::vector<Operand>& operands, size_t position) {
    const std::string what = fmt::format("an integer for {}", to_string(kind));
    switch (kind) {
      case AttributeKind::axis: at.axis = in_.parse_int(what); break;
      case AttributeKind::times: at.times = in_.parse_int(what); break;
      case AttributeKind::left: at.left = in_.parse_int(what); break;
      case AttributeKind::right: at.right = in_.parse_int(what); break;
      case AttributeKind::keepdims: at.keepdims = in_.parse_bool("keepdims"); break;
      case AttributeKind::begin: at.begin = in_.parse_dim(); break;
      case AttributeKind::end: at.end = in_.parse_dim(); break;
      case AttributeKind::perm: parse_perm(at.perm); break;
      case AttributeKind::cap: at.cap = parse_real(); break;
      case AttributeKind::rate: at.rate = parse_real(); break;
      case AttributeKind::align:
        if (in_.accept_word("top_left"))
          at.align = CausalAlign::top_left;
        else if (in_.accept_word("bottom_right"))
          at.align = CausalAlign::bottom_right;
        else
          in_.fail_expected("top_left or bottom_right for align");
        break;
      case AttributeKind::sink:
      case AttributeKind::slopes:
      case AttributeKind::q_offset:
      case AttributeKind::seed:
      case AttributeKind::offset:
        if (operands.size() <= position) operands.resize(position + 1);
        operands[position] = parse_operand();
        break;
    }
  }

  double parse_real() {
    const auto value = to_scalar(in_.parse_literal(), DType::f64);
    if (in_.failed()) return 0;
    if (!value) in_.fail(value.error().list[0].message);
    return value ? value->real : 0;
  }

  void parse_perm(std::vector<int64_t>& perm) {
    in_.expect_mark("[", "of the permutation");
    if (in_.accept_mark("]")) return;
    do perm.push_back(in_.parse_int("an axis number in perm"));
    while (in_.accept_mark(","));
    in_.expect_mark("]", "or ',' in the permutation");
  }

  void check_required(Op op, uint32_t seen) {
    bool either = false;
    for (const AttributeRule& rule : attributes_of(op)) {
      const bool given = seen & (1u << static_cast<uint32_t>(rule.kind));
      if (rule.required && !given)
        return in_.fail(fmt::format("{} needs the attribute {}=", info(op).name, to_string(rule.kind)));
      if (rule.kind == AttributeKind::align) either = true;
    }
    const bool align = seen & (1u << static_cast<uint32_t>(AttributeKind::align));
    const bool offset = seen & (1u << static_cast<uint32_t>(AttributeKind::q_offset));
    if (either && align == offset)
      in_.fail(fmt::format("{} needs {} of align= and q_offset=", info(op).name, align ? "only one" : "one"));
  }

  Operand parse_operand() {
    Operand operand;
    if (in_.at_literal()) {
      operand.literal = in_.parse_literal();
    } else {
      const Token token = in_.peek();
      const std::string name = in_.expect(TokenKind::value, "a value, such as %x, or a literal");
      if (in_.failed()) return operand;
      const auto found = defined_.find(name);
      if (found == defined_.end())
        in_.fail(fmt::format("%{} is not defined", name), token.line);
      else if (found->second.value == kNoValue)
        uses_wrong_value_ = true;
      else
        operand.value = found->second.value;
    }
    return operand;
  }

  void add_operands(Node& node, const std::vector<Operand>& operands) {
    std::vector<std::optional<DType>> dtypes;
    for (const Operand& operand : operands)
      dtypes.push_back(operand.value == kNoValue ? std::nullopt : std::optional(graph_.type(operand.value).dtype));
    for (size_t i = 0; i < operands.size(); ++i) {
      ValueId id = operands[i].value;
      if (const auto& literal = operands[i].literal) {
        Node constant;
        constant.op = Op::constant;
        constant.line = node.line;
        const DType dtype = literal_dtype(node.op, i, literal->kind, dtypes, node.type.dtype);
        constant.type = {literal->explicit_dtype.value_or(dtype), {}};
        store_scalar(to_scalar(*literal, constant.type.dtype), constant);
        if (in_.failed()) return;
        id = append(std::move(constant));
      }
      node.operands.push_back(id);
    }
  }

  void store_scalar(const Result<Scalar>& value, Node& node) {
    if (value)
      node.attributes.literal = *value;
    else
      in_.fail(value.error().list[0].message, node.line);
  }

  ValueId append(Node node) {
    graph_.nodes.push_back(std::move(node));
    return ValueId{static_cast<int32_t>(graph_.nodes.size() - 1)};
  }

  ValueId define(Node node) {
    const auto [place, fresh] = defined_.emplace(node.name, Definition{kNoValue, node.line});
    if (!fresh) {
      in_.fail(fmt::format("the name is taken: %{} is defined on line {}", node.name, place->second.line), node.line);
      return kNoValue;
    }
    return place->second.value = append(std::move(node));
  }

  struct Definition {
    ValueId value = kNoValue;  ///< kNoValue: its statement is wrong
    int line = 0;
  };

  TextCursor in_;
  Graph graph_;
  std::vector<TensorType> result_types_;
  std::map<std::string, Definition, std::less<>> defined_;
  bool returned_ = false;
  bool uses_wrong_value_ = false;  ///< then the statement is skipped without a complaint of its own
};

}  // namespace

Result<Graph> parse_graph(std::string_view text) { return GraphParser(text).run(); }

}  // namespace tilewright
