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

/// Replaces nodes, args first; `replace` may change its node or give another.
template <class Replace>
void rewrite(Expr& pool, std::span<ExprId> roots, Replace replace) {
  int32_t nodes = 0;
  for (ExprId root : roots) nodes = std::max(nodes, raw(root) + 1);
  std::vector<ExprId> moved;
  for (int32_t i = 0; i < nodes; ++i) {
    ExprNode node = pool[ExprId{i}];
    for (ExprId& arg : node.args) arg = moved[static_cast<size_t>(raw(arg))];
    const std::optional<ExprId> other = replace(node);
    moved.push_back(other ? *other : pool.add(std::move(node)));
  }
  for (ExprId& root : roots) root = moved[static_cast<size_t>(raw(root))];
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

std::optional<std::vector<int64_t>> merge_dots(Expr& pool, std::span<ExprId> roots, size_t count) {
  if (count > 1)
    rewrite(pool, roots, [&](const ExprNode& node) {
      const bool sum = node.kind == ExprKind::op && node.op == Op::add && is_float(node.dtype);
      return sum ? merge_sum(pool, node.args[0], node.args[1]) : std::nullopt;
    });
  Expr alone;
  for (ExprId root : roots) alone.import(pool, root);
  std::vector<int64_t> products;
  for (const ExprNode& node : alone.nodes())
    if (node.kind == ExprKind::score &&
        std::find(products.begin(), products.end(), node.literal.integer) == products.end())
      products.push_back(node.literal.integer);
  int64_t seen = 0;
  for (int64_t terms : products) {
    if (seen & terms) return std::nullopt;
    seen |= terms;
  }
  const auto first = [](int64_t terms) { return terms & -terms; };
  std::sort(products.begin(), products.end(), [&](int64_t a, int64_t b) { return first(a) < first(b); });
  return products;
}

void number_products(Expr& pool, std::span<ExprId> roots, std::span<const int64_t> products) {
  rewrite(pool, roots, [&](ExprNode& node) -> std::optional<ExprId> {
    if (node.kind != ExprKind::score) return std::nullopt;
    const auto found = std::find(products.begin(), products.end(), node.literal.integer);
    if (found == products.end()) return std::nullopt;  // summed up since, no root reaches it
    node.product = static_cast<int>(found - products.begin());
    node.literal = {};
    return std::nullopt;
  });
}

}  // namespace tilewright::fusion
