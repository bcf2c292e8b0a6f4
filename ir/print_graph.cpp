#include <algorithm>

#include "ir/literal.h"
#include "ir/op_attributes.h"
#include "ir/text.h"

namespace tilewright {
namespace {

class GraphPrinter {
 public:
  explicit GraphPrinter(const Graph& graph) : graph_(graph) {}

  std::string run() {
    collect();
    std::string text = signature();
    for (const Line& line : lines_) {
      text += fmt::format("  {:<{}} = {:<{}} : {}\n", line.name, name_width_, line.body, body_width_, line.type);
    }
    std::string results;
    for (const ValueId id : graph_.results) results += (results.empty() ? "" : ", ") + reference(id);
    return text + "  return " + results + "\n}\n";
  }

 private:
  struct Line {
    std::string name, body, type;
  };
  static constexpr size_t kWidestName = 12, kWidestBody = 60, kSignatureWidth = 110;

  void collect() {
    for (const Node& node : graph_.nodes) {
      const bool is_inline = node.op == Op::constant && node.name.empty();
      if (node.op == Op::param || is_inline) continue;
      lines_.push_back({"%" + node.name, body(node), to_string(node.type)});
      const Line& line = lines_.back();
      if (line.name.size() <= kWidestName) name_width_ = std::max(name_width_, line.name.size());
      if (line.body.size() <= kWidestBody) body_width_ = std::max(body_width_, line.body.size());
    }
  }

  std::string signature() const {
    std::vector<std::string> params;
    size_t width = graph_.name.size() + 16;
    for (const ValueId id : graph_.params) {
      const Node& node = graph_[id];
      params.push_back(fmt::format("{}%{}: {}", node.inout ? "inout " : "", node.name, to_string(node.type)));
      width += params.back().size() + 2;
    }
    std::vector<std::string> results;
    for (const ValueId id : graph_.results) {
      results.push_back(to_string(graph_.type(id)));
      width += results.back().size() + 2;
    }
    std::string returned = results.size() == 1 ? results[0] : fmt::format("({})", fmt::join(results, ", "));
    if (graph_.precision) returned += fmt::format(" precision={}", to_string(*graph_.precision));
    if (width <= kSignatureWidth)
      return fmt::format("graph @{}({}) -> {} {{\n", graph_.name, fmt::join(params, ", "), returned);
    return fmt::format("graph @{}(\n    {}) -> {} {{\n", graph_.name, fmt::join(params, ",\n    "), returned);
  }

  bool exists(ValueId id) const { return raw(id) >= 0 && static_cast<size_t>(raw(id)) < graph_.nodes.size(); }

  std::string reference(ValueId id) const { return exists(id) ? "%" + graph_[id].name : "%?"; }

  std::string operand(const Node& node, size_t i) const {
    const ValueId id = node.operands[i];
    if (!exists(id) || graph_[id].op != Op::constant || !graph_[id].name.empty()) return reference(id);
    const Node& constant = graph_[id];
    const DType dtype = constant.type.dtype;
    std::vector<std::optional<DType>> neighbours;
    for (const ValueId other : node.operands) {
      const bool is_literal = !exists(other) || (graph_[other].op == Op::constant && graph_[other].name.empty());
      neighbours.push_back(is_literal ? std::nullopt : std::optional(graph_.type(other).dtype));
    }
    const Scalar& value = constant.attributes.literal;
    const DType read_back = literal_dtype(node.op, i, printed_kind(value, dtype), neighbours, node.type.dtype);
    const std::string text = print_scalar(value, dtype);
    return read_back == dtype ? text : fmt::format("{}({})", to_string(dtype), text);
  }

  std::string body(const Node& node) const {
    std::string text(info(node.op).name);
    if (node.op == Op::dim) return text + " " + to_string(node.attributes.dim);
    if (node.op == Op::constant) return text + " " + print_scalar(node.attributes.literal, node.type.dtype);
    if (node.op == Op::load && !node.operands.empty()) return text + " " + load(node);
    std::vector<std::string> parts;
    const size_t by_name = info(node.op).min_operands;
    const bool has_named = operand_names(node.op);
    for (size_t i = 0; i < node.operands.size() && (!has_named || i < by_name); ++i) parts.push_back(operand(node, i));
    for (const AttributeRule& rule : attributes_of(node.op)) {
      const std::string value = attribute(node, rule.kind);
      if (!value.empty()) parts.push_back(fmt::format("{}={}", to_string(rule.kind), value));
    }
    return parts.empty() ? text : fmt::format("{} {}", text, fmt::join(parts, ", "));
  }

  static bool operand_names(Op op) {
    const auto rules = attributes_of(op);
    return std::any_of(rules.begin(), rules.end(),
                       [&](const AttributeRule& rule) { return operand_position(op, rule.kind) > 0; });
  }

  std::string load(const Node& node) const {
    std::vector<std::string> indices;
    for (size_t i = 1; i < node.operands.size(); ++i) indices.push_back(operand(node, i));
    return fmt::format("{}[{}]", operand(node, 0), fmt::join(indices, ", "));
  }

  /// Empty when the attribute has its default and is left out.
  std::string attribute(const Node& node, AttributeKind kind) const {
    const Attributes& at = node.attributes;
    switch (kind) {
      case AttributeKind::axis: return std::to_string(at.axis);
      case AttributeKind::keepdims: return at.keepdims ? "" : "false";
      case AttributeKind::perm: return fmt::format("[{}]", fmt::join(at.perm, ","));
      case AttributeKind::begin: return to_string(at.begin);
      case AttributeKind::end: return to_string(at.end);
      case AttributeKind::times: return std::to_string(at.times);
      case AttributeKind::left: return std::to_string(at.left);
      case AttributeKind::right: return std::to_string(at.right);
      case AttributeKind::cap: return print_scalar({at.cap, 0}, DType::f64);
      case AttributeKind::rate: return print_scalar({at.rate, 0}, DType::f64);
      case AttributeKind::align:
        if (Graph::operand(node, operand_position(node.op, AttributeKind::q_offset)) != kNoValue) return "";
        return at.align == CausalAlign::top_left ? "top_left" : "bottom_right";
      default: break;
    }
    const size_t position = operand_position(node.op, kind);
    return Graph::operand(node, position) == kNoValue ? "" : operand(node, position);
  }

  const Graph& graph_;
  std::vector<Line> lines_;
  size_t name_width_ = 0, body_width_ = 0;
};

}  // namespace

std::string print(const Graph& graph) { return GraphPrinter(graph).run(); }

}  // namespace tilewright
