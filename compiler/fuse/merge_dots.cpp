#include "compiler/fuse/merge_dots.h"

#include <algorithm>

#include "ir/result.h"

namespace tilewright::fusion {
namespace {

/// What stands between a partial score and its sum: multiplications, divisions and casts, outermost first.
struct Wrapped {
  std::vector<ExprNode> wrappers;  ///< the argument that holds the score is ExprId{-1}
  ExprNode score;
};

std::optional<Wrapped> unwrap(const Expr& pool, ExprId id) {
  const std::vector<uint32_t> on = dependencies(pool);
  const auto scored = [&](ExprId arg) { return (on[static_cast<size_t>(raw(arg))] & kDependsOnScore) != 0; };
  Wrapped out;
  for (;;) {
    ExprNode node = pool[id];
    if (node.kind == ExprKind::score) {
      out.score = std::move(node);
      return out;
    }
    const bool linear = node.kind == ExprKind::op && (node.op == Op::mul || node.op == Op::div || node.op == Op::cast);
    if (!linear || std::count_if(node.args.begin(), node.args.end(), scored) != 1) return std::nullopt;
    if (node.op == Op::div && !scored(node.args[0])) return std::nullopt;
    const auto inner = std::find_if(node.args.begin(), node.args.end(), scored);
    id = *inner;
    *inner = ExprId{-1};
    out.wrappers.push_back(std::move(node));
  }
}

ExprId wrap(Expr& pool, Wrapped value) {
  ExprId id = pool.add(std::move(value.score));
  for (size_t i = value.wrappers.size(); i-- > 0;) {
    ExprNode node = std::move(value.wrappers[i]);
    std::replace(node.args.begin(), node.args.end(), ExprId{-1}, id);
    id = pool.add(std::move(node));
  }
  return id;
}

/// a + b as one wrapped partial score that stands for the dot terms of both.
std::optional<ExprId> merge_sum(Expr& pool, ExprId a, ExprId b) {
  auto left = unwrap(pool, a), right = unwrap(pool, b);
  if (!left || !right || left->wrappers != right->wrappers || left->score.dtype != right->score.dtype)
    return std::nullopt;
  int64_t& terms = left->score.literal.integer;
  if (terms & right->score.literal.integer) return std::nullopt;
  terms |= right->score.literal.integer;
  return wrap(pool, std::move(*left));
}

}  // namespace

ExprId partial_score(Expr& pool, size_t i, DType dtype) {
  TW_CHECK(i < 62);
  ExprNode node;
  node.kind = ExprKind::score;
  node.dtype = dtype;
  node.literal.integer = int64_t{1} << i;  // the set of dot terms it stands for
  return pool.add(std::move(node));
}

std::optional<ExprId> merge_dots(Expr& pool, ExprId root, size_t count) {
  const int64_t all = (int64_t{1} << count) - 1;
  std::vector<ExprId> moved;
  const auto visit = [&](bool finish) {
    moved.clear();
    const size_t nodes = static_cast<size_t>(raw(root)) + 1;
    for (size_t i = 0; i < nodes; ++i) {
      ExprNode node = pool[ExprId{static_cast<int32_t>(i)}];
      for (ExprId& arg : node.args) arg = moved[static_cast<size_t>(raw(arg))];
      std::optional<ExprId> merged;
      if (finish && node.kind == ExprKind::score && node.literal.integer == all) node.literal.integer = 0;
      if (!finish && node.kind == ExprKind::op && node.op == Op::add)
        merged = merge_sum(pool, node.args[0], node.args[1]);
      moved.push_back(merged ? *merged : pool.add(std::move(node)));
    }
    root = moved[static_cast<size_t>(raw(root))];
  };
  if (count > 1) visit(false);
  visit(true);
  Expr alone;
  alone.import(pool, root);
  for (const ExprNode& node : alone.nodes())
    if (node.kind == ExprKind::score && node.literal.integer != 0) return std::nullopt;
  return root;
}

}  // namespace tilewright::fusion
