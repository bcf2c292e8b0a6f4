#include "compiler/fuse/index_math.h"

#include <algorithm>

#include "compiler/simplify_builder.h"

namespace tilewright::fusion {
namespace {

Linear operator+(const Linear& a, const Linear& b) {
  Linear sum = a;
  sum.constant = a.constant + b.constant;
  for (const auto& [atom, coefficient] : b.terms) {
    Dim& mine = sum.terms[atom];
    mine = mine + coefficient;
    if (mine.is_constant(0)) sum.terms.erase(atom);
  }
  return sum;
}

std::optional<Linear> scaled(const Linear& a, const Dim& factor) {
  Linear out;
  auto constant = product({a.constant, factor});
  if (!constant) return std::nullopt;
  out.constant = *constant;
  for (const auto& [atom, coefficient] : a.terms) {
    auto c = product({coefficient, factor});
    if (!c) return std::nullopt;
    if (!c->is_constant(0)) out.terms[atom] = *c;
  }
  return out;
}

/// The dim that a node stands for, when it is one.
std::optional<Dim> as_dim(const ExprNode& node) {
  if (node.dtype != DType::i64) return std::nullopt;
  if (node.kind == ExprKind::constant) return Dim(node.literal.integer);
  if (node.kind == ExprKind::dim) return node.dim;
  return std::nullopt;
}

}  // namespace

std::optional<Dim> divide(const Dim& a, const Dim& b) {
  if (b.is_constant(0)) return std::nullopt;
  if (b.is_constant()) {
    const int64_t by = b.constant();
    if (a.constant() % by != 0) return std::nullopt;
    Dim out = a.constant() / by;
    for (const auto& [name, coefficient] : a.terms()) {
      if (coefficient % by != 0) return std::nullopt;
      out = out + Dim::named(name, coefficient / by);
    }
    return out;
  }
  // a = k·b with an integer k, taken from b's first name.
  const auto& [name, coefficient] = *b.terms().begin();
  auto mine = a.terms().find(name);
  if (mine == a.terms().end()) return a.is_constant(0) ? std::optional<Dim>(0) : std::nullopt;
  if (mine->second % coefficient != 0) return std::nullopt;
  const int64_t k = mine->second / coefficient;
  return b * k == a ? std::optional<Dim>(k) : std::nullopt;
}

bool provably_nonnegative(const Dim& dim) {
  if (dim.constant() < 0) return false;
  for (const auto& [name, coefficient] : dim.terms())
    if (coefficient < 0) return false;
  return true;
}

uint32_t depends(const Expr& pool, ExprId id) { return dependencies(pool)[static_cast<size_t>(raw(id))]; }

Expr extract(const Expr& pool, ExprId id) {
  Expr out;
  out.set_root(out.import(pool, id));
  return out;
}

namespace {

/// `roots` are renumbered in place.
Expr rename_tensors(const Expr& expr, const std::vector<int>& moved, const std::vector<ExprId*>& roots) {
  Expr out;
  std::vector<ExprId> ids;
  for (ExprNode node : expr.nodes()) {
    for (ExprId& arg : node.args) arg = ids[static_cast<size_t>(raw(arg))];
    if (node.tensor >= 0) node.tensor = moved[static_cast<size_t>(node.tensor)];
    ids.push_back(out.add(std::move(node)));
  }
  for (ExprId* root : roots) *root = ids[static_cast<size_t>(raw(*root))];
  return out;
}

}  // namespace

Expr with_tensors(const Expr& expr, const std::vector<int>& moved) {
  ExprId root = expr.root();
  Expr out = rename_tensors(expr, moved, {&root});
  out.set_root(root);
  return out;
}

RowProgram with_tensors(const RowProgram& row, const std::vector<int>& moved) {
  RowProgram out = row;
  out.values = rename_tensors(row.values, moved, roots(out));
  return out;
}

ExprId IndexMath::axis(Axis axis, const Dim& extent) {
  // A size-1 axis has one position: no variable, so that accesses do not mention it.
  if (extent.is_constant(1)) return constant(0);
  const ExprId id = pool_.index(axis);
  set_extent(id, extent);
  return id;
}

Linear IndexMath::linear(ExprId id) const {
  const ExprNode& node = pool_[id];
  Linear self;
  if (auto dim = as_dim(node)) {
    self.constant = *dim;
    return self;
  }
  if (node.dtype == DType::i64) {
    if (is_op(node, Op::add)) return linear(node.args[0]) + linear(node.args[1]);
    if (is_op(node, Op::sub)) return linear(node.args[0]) + *scaled(linear(node.args[1]), -1);
    if (is_op(node, Op::mul))
      for (size_t i : {0u, 1u})
        if (auto factor = as_dim(pool_[node.args[i]]))
          if (auto product = scaled(linear(node.args[1 - i]), *factor)) return *product;
  }
  self.terms[raw(id)] = 1;
  return self;
}

void IndexMath::fold_div_mod(Linear& value) const {
  // k·c·div(x, c) + k·mod(x, c) = k·x
  for (bool again = true; again;) {
    again = false;
    for (const auto& [atom, coefficient] : value.terms) {
      const ExprNode& quotient = pool_[ExprId{atom}];
      if (!is_op(quotient, Op::div)) continue;
      const auto by = as_dim(pool_[quotient.args[1]]);
      if (!by) continue;
      for (const auto& [other, k] : value.terms) {
        const ExprNode& rest = pool_[ExprId{other}];
        if (!is_op(rest, Op::mod) || rest.args != quotient.args || product({k, *by}) != coefficient) continue;
        auto whole = scaled(linear(quotient.args[0]), k);
        if (!whole) continue;
        const int32_t first = atom, second = other;
        value.terms.erase(first);
        value.terms.erase(second);
        value = value + *whole;
        again = true;
        break;
      }
      if (again) break;
    }
  }
}

ExprId IndexMath::emit(Linear value) {
  fold_div_mod(value);
  // Coarse steps first: h*64 + d.
  std::vector<std::pair<int32_t, Dim>> terms(value.terms.begin(), value.terms.end());
  std::stable_sort(terms.begin(), terms.end(), [](const auto& a, const auto& b) {
    if (a.second.is_constant() != b.second.is_constant()) return b.second.is_constant();
    return a.second.is_constant() && a.second.constant() > b.second.constant();
  });
  std::optional<ExprId> sum;
  for (const auto& [atom, coefficient] : terms) {
    ExprId term{atom};
    if (!coefficient.is_constant(1)) term = pool_.op(Op::mul, DType::i64, {term, pool_.dim(coefficient)});
    sum = sum ? pool_.op(Op::add, DType::i64, {*sum, term}) : term;
  }
  if (!sum) return pool_.dim(value.constant);
  if (value.constant.is_constant(0)) return *sum;
  return pool_.op(Op::add, DType::i64, {*sum, pool_.dim(value.constant)});
}

ExprId IndexMath::add(ExprId a, ExprId b) { return emit(linear(a) + linear(b)); }

ExprId IndexMath::scale(ExprId a, const Dim& factor) {
  if (auto product = scaled(linear(a), factor)) return emit(*product);
  return pool_.op(Op::mul, DType::i64, {a, pool_.dim(factor)});
}

std::optional<Dim> IndexMath::bound(const Linear& value) const {
  if (!provably_nonnegative(value.constant)) return std::nullopt;
  Dim most = value.constant;
  for (const auto& [atom, coefficient] : value.terms) {
    auto extent = extents_.find(atom);
    if (extent == extents_.end() || !provably_nonnegative(coefficient)) return std::nullopt;
    auto top = product({coefficient, extent->second - 1});
    if (!top) return std::nullopt;
    most = most + *top;
  }
  return most + 1;
}

bool IndexMath::fits(const Linear& value, const Dim& extent) const {
  auto top = bound(value);
  return top && provably_nonnegative(extent - *top);
}

IndexMath::Split IndexMath::split(const Linear& value, const Dim& by) const {
  Split out;
  for (const auto& [atom, coefficient] : value.terms) {
    if (auto ratio = divide(coefficient, by))
      out.quotient.terms[atom] = *ratio;
    else
      out.rest.terms[atom] = coefficient;
  }
  if (auto ratio = divide(value.constant, by)) {
    out.quotient.constant = *ratio;
  } else if (by.is_constant() && value.constant.is_constant()) {
    const int64_t c = value.constant.constant(), d = by.constant();
    const int64_t rest = ((c % d) + d) % d;
    out.quotient.constant = (c - rest) / d;
    out.rest.constant = rest;
  } else {
    out.rest.constant = value.constant;
  }
  return out;
}

ExprId IndexMath::binary(Op op, ExprId a, const Dim& by) {
  const Linear value = linear(a);
  const ExprId out = pool_.op(op, DType::i64, {a, pool_.dim(by)});
  if (op == Op::mod) {
    set_extent(out, by);
  } else if (auto top = bound(value)) {
    if (auto extent = divide(*top, by)) set_extent(out, *extent);
  }
  return out;
}

ExprId IndexMath::div(ExprId a, const Dim& by) {
  if (by.is_constant(1)) return a;
  const Split parts = split(linear(a), by);
  if (fits(parts.rest, by)) return emit(parts.quotient);
  // floor((g·x + r) / (g·m)) = floor(x / m) for 0 <= r < g
  for (const auto& [atom, g] : parts.rest.terms) {
    if (g.is_constant(1)) continue;
    const auto m = divide(by, g);
    if (!m) continue;
    const Split inner = split(parts.rest, g);
    if (fits(inner.rest, g)) return emit(linear(div(emit(inner.quotient), *m)) + parts.quotient);
  }
  const ExprId rest = emit(parts.rest);
  const ExprNode node = pool_[rest];
  if (is_op(node, Op::div))
    if (const auto inner = as_dim(pool_[node.args[1]]))
      if (auto both = product({*inner, by})) return emit(linear(binary(Op::div, node.args[0], *both)) + parts.quotient);
  return emit(linear(binary(Op::div, rest, by)) + parts.quotient);
}

ExprId IndexMath::mod(ExprId a, const Dim& by) {
  if (by.is_constant(1)) return constant(0);
  const Split parts = split(linear(a), by);
  if (fits(parts.rest, by)) return emit(parts.rest);
  for (const auto& [atom, g] : parts.rest.terms) {
    if (g.is_constant(1)) continue;
    const auto m = divide(by, g);
    if (!m) continue;
    const Split inner = split(parts.rest, g);
    if (!fits(inner.rest, g)) continue;
    return emit(linear(scale(mod(emit(inner.quotient), *m), g)) + inner.rest);
  }
  const ExprId rest = emit(parts.rest);
  const ExprNode node = pool_[rest];
  if (is_op(node, Op::mod))
    if (const auto inner = as_dim(pool_[node.args[1]]); inner && divide(*inner, by))
      return binary(Op::mod, node.args[0], by);
  return binary(Op::mod, rest, by);
}

}  // namespace tilewright::fusion
