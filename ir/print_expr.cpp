#include <algorithm>

#include "ir/expr_text.h"
#include "ir/text.h"

namespace tilewright {
namespace {

/// Prints nested calls; what is used twice or nests too deeply gets a name first.
class ExprPrinter {
 public:
  ExprPrinter(const Expr& expr, std::span<const SpecTensor> tensors, const ExprContext& context)
      : expr_(expr), tensors_(tensors), context_(context) {}

  std::string run() {
    if (expr_.empty()) return "";
    const TypedRoot root{
        expr_.root(),
        context_.root.value_or(own_dtype(printed_kind(expr_.root_node().literal, expr_.root_node().dtype)))};
    count_uses(std::span(&root, 1));
    std::string text;
    for (const std::string& let : name_parts(static_cast<size_t>(raw(root.id)))) text += let + " ";
    return text + print_root(root);
  }

  PrintedLets run(std::span<const TypedRoot> roots) {
    count_uses(roots);
    for (const TypedRoot& root : roots)
      if (!expr_[root.id].args.empty()) uses_[at(root.id)] = kNamed;
    PrintedLets out;
    out.lets = name_parts(expr_.nodes().size());
    for (const TypedRoot& root : roots) out.roots.push_back(print_root(root));
    return out;
  }

 private:
  static constexpr int kDeepest = 12;
  static constexpr int kNamed = 2;  ///< what is used as often gets a name
  static size_t at(ExprId id) { return static_cast<size_t>(raw(id)); }

  void count_uses(std::span<const TypedRoot> roots) {
    uses_.assign(expr_.nodes().size(), 0);
    for (const TypedRoot& root : roots) uses_[at(root.id)] = 1;
    for (size_t i = expr_.nodes().size(); i-- > 0;)
      if (uses_[i])
        for (const ExprId arg : expr_.nodes()[i].args) ++uses_[at(arg)];
  }

  /// The lets of the parts among the first `count` nodes that need a name.
  std::vector<std::string> name_parts(size_t count) {
    std::vector<std::string> lets;
    std::vector<int> depth(expr_.nodes().size(), 0);
    names_.resize(expr_.nodes().size());
    for (size_t i = 0; i < count; ++i) {
      const ExprNode& node = expr_.nodes()[i];
      if (uses_[i] == 0 || node.args.empty()) continue;
      for (const ExprId arg : node.args) depth[i] = std::max(depth[i], depth[at(arg)] + 1);
      if (uses_[i] < kNamed && depth[i] < kDeepest) continue;
      const std::string body = print_node(node);
      names_[i] = fmt::format("x{}", lets.size());
      depth[i] = 0;
      lets.push_back(fmt::format("let {} = {};", names_[i], body));
    }
    return lets;
  }

  std::string print_root(const TypedRoot& root) const {
    const ExprNode& node = expr_[root.id];
    if (node.kind == ExprKind::constant) return literal(node, root.literal);
    return names_[at(root.id)].empty() ? print_node(node) : names_[at(root.id)];
  }

  static std::string literal(const ExprNode& node, DType read_back) {
    const std::string text = print_scalar(node.literal, node.dtype);
    return read_back == node.dtype ? text : fmt::format("{}({})", to_string(node.dtype), text);
  }

  /// Args as they stand in a call or an index list; `op` decides the dtypes of bare literals.
  std::vector<std::string> print_args(const ExprNode& node, Op op, size_t shift) const {
    std::vector<std::optional<DType>> neighbours(shift, std::nullopt);
    for (const ExprId arg : node.args) {
      const ExprNode& n = expr_[arg];
      neighbours.push_back(n.kind == ExprKind::constant ? std::nullopt : std::optional(n.dtype));
    }
    std::vector<std::string> texts;
    for (size_t i = 0; i < node.args.size(); ++i) {
      const ExprNode& arg = expr_[node.args[i]];
      const std::string& name = names_[at(node.args[i])];
      if (arg.kind == ExprKind::constant) {
        const LiteralKind kind = printed_kind(arg.literal, arg.dtype);
        texts.push_back(literal(arg, literal_dtype(op, i + shift, kind, neighbours, own_dtype(kind))));
      } else {
        texts.push_back(name.empty() ? print_node(arg) : name);
      }
    }
    return texts;
  }

  std::string print_node(const ExprNode& node) const {
    switch (node.kind) {
      case ExprKind::constant: return literal(node, node.dtype);
      case ExprKind::score: {
        const std::string name = node.product == 0 ? "s" : "t";
        const bool follows = context_.score.value_or(node.dtype) == node.dtype;
        return follows ? name : fmt::format("{}({})", name, to_string(node.dtype));
      }
      case ExprKind::index:
        if (node.dtype == DType::i64) return std::string(to_string(node.axis));
        return fmt::format("index({}, {})", to_string(node.axis), to_string(node.dtype));
      case ExprKind::dim: return fmt::format("dim({})", to_string(node.dim));
      case ExprKind::op: return print_op(node);
      default: return print_load(node);
    }
  }

  std::string print_op(const ExprNode& node) const {
    std::vector<std::string> args = print_args(node, node.op, 0);
    std::vector<DType> dtypes;
    for (const ExprId arg : node.args) dtypes.push_back(expr_[arg].dtype);
    if (node.op == Op::cast || op_result_dtype(node.op, dtypes) != node.dtype) args.emplace_back(to_string(node.dtype));
    return fmt::format("{}({})", info(node.op).name, fmt::join(args, ", "));
  }

  std::string print_load(const ExprNode& node) const {
    const bool known = node.tensor >= 0 && static_cast<size_t>(node.tensor) < tensors_.size();
    const std::string name = known ? tensors_[static_cast<size_t>(node.tensor)].name : "?";
    std::vector<std::string> indices = print_args(node, Op::load, 1);
    if (node.kind == ExprKind::load)
      return fmt::format("{}%{}[{}]", node.in_bounds ? "" : "clamped ", name, fmt::join(indices, ", "));
    const size_t rank = indices.size() / 2;
    for (size_t i = 0; i < rank; ++i) indices[i] += ":" + indices[rank + i];
    indices.resize(rank);
    return fmt::format("{} %{}[{}]", node.kind == ExprKind::load_min ? "load_min" : "load_max", name,
                       fmt::join(indices, ", "));
  }

  const Expr& expr_;
  std::span<const SpecTensor> tensors_;
  ExprContext context_;
  std::vector<int> uses_;
  std::vector<std::string> names_;  ///< of nodes that have been given one
};

}  // namespace

DType op_result_dtype(Op op, std::span<const DType> args) {
  if (op >= Op::eq && op <= Op::ge) return DType::boolean;
  const size_t first = op == Op::select ? 1 : 0;
  return first < args.size() ? args[first] : DType::f32;
}

std::string print_expr(const Expr& expr, std::span<const SpecTensor> tensors, const ExprContext& context) {
  return ExprPrinter(expr, tensors, context).run();
}

PrintedLets print_lets(const Expr& expr, std::span<const TypedRoot> roots, std::span<const SpecTensor> tensors,
                       const ExprContext& context) {
  return ExprPrinter(expr, tensors, context).run(roots);
}

std::string print_access(const Access& access, std::span<const SpecTensor> tensors) {
  std::vector<std::string> axes;
  for (const Expr& axis : access.axes) axes.push_back(print_expr(axis, tensors, {DType::i64, {}}));
  const bool known = access.tensor >= 0 && static_cast<size_t>(access.tensor) < tensors.size();
  return fmt::format("%{}[{}]", known ? tensors[static_cast<size_t>(access.tensor)].name : "?", fmt::join(axes, ", "));
}

std::string print(const Expr& expr, const std::vector<SpecTensor>& tensors) { return print_expr(expr, tensors, {}); }

}  // namespace tilewright
