#include "compiler/fuse/dot_operand.h"

#include <numeric>

namespace tilewright::fusion {
namespace {

/// Only index arithmetic over b, h and dims: no loads.
bool is_index_arithmetic(const Expr& pool, ExprId id) {
  const ExprNode& node = pool[id];
  if (node.dtype != DType::i64) return false;
  switch (node.kind) {
    case ExprKind::constant:
    case ExprKind::dim:
    case ExprKind::index: return true;
    case ExprKind::op: break;
    default: return false;
  }
  if (node.op != Op::add && node.op != Op::sub && node.op != Op::mul && node.op != Op::div && node.op != Op::mod)
    return false;
  for (ExprId arg : node.args)
    if (!is_index_arithmetic(pool, arg)) return false;
  return true;
}

/// Casts that lose nothing attention needs: f64 is never silently narrowed (semantics 2).
bool is_transparent_cast(const Graph& graph, const Node& node) {
  return !(graph.type(node.operands[0]).dtype == DType::f64 && node.type.dtype != DType::f64);
}

void gather_head_groups(const Expr& pool, ExprId id, int64_t* group) {
  const ExprNode& node = pool[id];
  if (node.kind == ExprKind::index && node.axis == Axis::h) {
    *group = std::gcd(*group, int64_t{1});
    return;
  }
  if (node.kind == ExprKind::op && node.op == Op::div) {
    const ExprNode &of = pool[node.args[0]], &by = pool[node.args[1]];
    if (of.kind == ExprKind::index && of.axis == Axis::h && by.kind == ExprKind::constant && by.literal.integer > 0) {
      *group = std::gcd(*group, by.literal.integer);
      return;
    }
  }
  for (ExprId arg : node.args) gather_head_groups(pool, arg, group);
}

}  // namespace

bool is_strided_access(const IndexMath& math, const Expr& pool, const Indices& at, Axis sequence) {
  const uint32_t strided = bit(sequence) | bit(Axis::d);
  const uint32_t outer = bit(Axis::b) | bit(Axis::h);
  for (ExprId axis : at) {
    for (const auto& [atom, coefficient] : math.linear(axis).terms) {
      const ExprNode& node = pool[ExprId{atom}];
      const uint32_t on = depends(pool, ExprId{atom});
      if (node.kind == ExprKind::index && (on & strided)) {
        if (!coefficient.is_constant()) return false;
        continue;
      }
      if ((on & ~outer) || !is_index_arithmetic(pool, ExprId{atom})) return false;
    }
  }
  return true;
}

std::optional<DotOperand> trace_dot_operand(const GraphFacts& facts, Tracer& t, ValueId operand, const Indices& at,
                                            Axis sequence, LookThrough through) {
  const Graph& graph = facts.graph;
  DotOperand out{operand, at, {}, {}};
  for (;;) {
    const Node& node = graph[out.root];
    out.path.push_back(out.root);
    if (facts.stored[GraphFacts::at(out.root)]) break;
    if (is_simple_view(node.op)) {
      out.at = view_operand_indices(t.math, graph, node, out.at);
      out.root = node.operands[0];
      continue;
    }
    if (through.casts && is_float_cast(graph, node) && is_transparent_cast(graph, node)) {
      out.root = node.operands[0];
      continue;
    }
    if (!through.factors || (node.op != Op::mul && node.op != Op::div)) break;
    bool pulled = false;
    for (size_t i : {1u, 0u}) {
      if (node.op == Op::div && i == 0) break;
      // Scalars only: constants, dims and rank-0 params, however they were broadcast.
      ValueId scalar = node.operands[i];
      while (is_simple_view(graph[scalar].op) || is_float_cast(graph, graph[scalar]))
        scalar = graph[scalar].operands[0];
      if (graph.type(scalar).rank() != 0 || !facts.cheap[GraphFacts::at(scalar)]) continue;
      const ValueId rest = node.operands[1 - i];
      if (graph.type(rest).rank() == 0) continue;
      out.factors.insert(out.factors.begin(), {t.read_operand(node, i, out.at), node.op == Op::div});
      out.at = t.operand_indices(rest, out.at);
      out.root = rest;
      pulled = true;
      break;
    }
    if (!pulled) break;
  }
  if (is_strided_access(t.math, t.pool, out.at, sequence)) return out;
  out = {operand, at, {}, {operand}};
  if (is_strided_access(t.math, t.pool, out.at, sequence)) return out;
  return std::nullopt;
}

ExprId with_factors(Tracer& t, ExprId value, const std::vector<Factor>& factors, DType dtype) {
  for (const Factor& factor : factors)
    value = t.pool.op(factor.divides ? Op::div : Op::mul, dtype, {value, t.cast(factor.value, dtype)});
  return value;
}

ValueId follow_views(const GraphFacts& facts, Tracer& t, ValueId value, Indices& at, Axis sequence, bool has_d) {
  const Graph& graph = facts.graph;
  for (;;) {
    const auto& users = facts.users[GraphFacts::at(value)];
    if (facts.result_uses[GraphFacts::at(value)] > 0 || users.size() != 1) return value;
    const Node& user = graph[users[0]];
    if (is_float_cast(graph, user)) {
      value = users[0];
      continue;
    }
    auto moved = is_simple_view(user.op) ? view_result_indices(t.math, graph, user, at) : std::nullopt;
    if (!moved || !is_strided_access(t.math, t.pool, *moved, sequence)) return value;
    for (ExprId axis : *moved)
      if (!has_d && (depends(t.pool, axis) & bit(Axis::d))) return value;
    at = std::move(*moved);
    value = users[0];
  }
}

int64_t common_head_group(const Expr& pool, const std::vector<const Indices*>& accesses) {
  int64_t group = 0;
  for (const Indices* at : accesses) group = std::gcd(group, head_group(pool, *at));
  return group;
}

int64_t head_group(const Expr& expr, const std::vector<ExprId>& roots) {
  int64_t group = 0;
  for (ExprId root : roots) gather_head_groups(expr, root, &group);
  return group;
}

}  // namespace tilewright::fusion
