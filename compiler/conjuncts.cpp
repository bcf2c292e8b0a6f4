#include "compiler/conjuncts.h"

namespace tilewright {
namespace {

void collect_conjuncts(const SimplifyingBuilder& in, ExprId id, bool wanted,
                       std::vector<std::pair<ExprId, bool>>& out) {
  const ExprNode& node = in[id];
  if (node.kind == ExprKind::op && node.op == Op::logical_not) return collect_conjuncts(in, node.args[0], !wanted, out);
  if (node.kind == ExprKind::op && node.op == (wanted ? Op::logical_and : Op::logical_or) &&
      node.dtype == DType::boolean) {
    for (ExprId arg : node.args) collect_conjuncts(in, arg, wanted, out);
    return;
  }
  out.emplace_back(id, wanted);
}

}  // namespace

std::vector<std::pair<ExprId, bool>> conjuncts(const SimplifyingBuilder& in, ExprId id) {
  std::vector<std::pair<ExprId, bool>> out;
  collect_conjuncts(in, id, true, out);
  return out;
}

}  // namespace tilewright
