// keep → which keys are hidden from all queries, and where each block of queries has work.
#include "compiler/analyze_mask_bounds.h"
#include "compiler/conjuncts.h"
#include "compiler/passes.h"

namespace tilewright {
namespace {

// A test that costs more scalar code than this is left out.
constexpr size_t kMostNodes = 160;

Expr bounded(Expr expr, const Expr& otherwise) { return expr.nodes().size() > kMostNodes ? otherwise : expr; }

Expr constant_bool(bool value) {
  Expr expr;
  expr.set_root(expr.constant_int(value, DType::boolean));
  return expr;
}

Expr constant_dim(const Dim& dim) {
  Expr expr;
  expr.set_root(expr.dim(dim));
  return expr;
}

/// `end` of a block's keys, for all queries together, where data decides it (the filled part of a cache): what lies
/// behind it may be memory that nobody wrote. Empty where only sizes do.
Expr attended_length(const Expr& end, const Dim& q_len) {
  Expr out;
  std::vector<ExprId> moved;
  bool from_data = false;
  for (const ExprNode& node : end.nodes()) {
    ExprNode copy = node;
    for (ExprId& arg : copy.args) arg = moved[static_cast<size_t>(raw(arg))];
    from_data = from_data || node.kind == ExprKind::load;
    if (node.kind == ExprKind::index && node.axis == Axis::q_lo)
      moved.push_back(out.constant_int(0, DType::i64));
    else if (node.kind == ExprKind::index && node.axis == Axis::q_hi)
      moved.push_back(out.dim(q_len - 1));
    else
      moved.push_back(out.add(std::move(copy)));
  }
  if (!from_data) return {};
  out.set_root(moved[static_cast<size_t>(raw(end.root()))]);
  return out;
}

}  // namespace

void analyze_mask(ScoreSpace& spec) {
  AxisExtents extents{{{Axis::q, spec.q_len}, {Axis::kv, spec.kv_len}}};
  if (const auto b = product(spec.batch)) extents.known.emplace_back(Axis::b, *b);
  if (const auto h = product(spec.heads)) extents.known.emplace_back(Axis::h, *h);
  SimplifyingBuilder in(extents);
  const ExprId keep = in.import(spec.keep, spec.keep.root());

  ExprId keep_kv = in.boolean(true), by_query = in.boolean(true);
  for (const auto& [id, wanted] : conjuncts(in, keep)) {
    ExprId& part = in.depends(id) & bit(Axis::q) ? by_query : keep_kv;
    part = in.op(Op::logical_and, {part, wanted ? id : in.op(Op::logical_not, {id})});
  }
  spec.keep_kv = in.take(keep_kv);

  SimplifyingBuilder out;
  BlockAnalyzer blocks(in, out);
  const Truth kept = blocks.truth(keep);
  spec.kv_range.skip = bounded(out.take(out.op(Op::logical_not, {kept.may})), constant_bool(false));
  spec.kv_range.full = bounded(out.take(kept.must), constant_bool(false));
  const Hull hull = BoundsAnalyzer(in, out, blocks, spec.kv_len).hull(keep, true);
  const Expr zero = constant_dim(0), all = constant_dim(spec.kv_len);
  spec.kv_range.begin = hull.begin ? bounded(out.take(*hull.begin), zero) : zero;
  spec.kv_range.end = hull.end ? bounded(out.take(*hull.end), all) : all;

  const Hull moving = BoundsAnalyzer(in, out, blocks, spec.kv_len).hull(by_query, true);
  const Expr length = moving.end ? attended_length(out.take(*moving.end), spec.q_len) : Expr();
  if (length.empty()) return;
  Expr hidden = spec.keep_kv;
  const ExprId inside = hidden.op(Op::lt, DType::boolean, {hidden.index(Axis::kv), hidden.import(length)});
  hidden.set_root(spec.keep_kv.is_constant_true()
                      ? inside
                      : hidden.op(Op::logical_and, DType::boolean, {spec.keep_kv.root(), inside}));
  spec.keep_kv = simplify(hidden.pruned(), extents);
}

bool hides_keys_by_head(const ScoreSpace& spec) {
  const std::vector<uint32_t> depends = dependencies(spec.keep_kv);
  return spec.head_group > 1 && !depends.empty() &&
         (depends[static_cast<size_t>(raw(spec.keep_kv.root()))] & bit(Axis::h)) != 0;
}

}  // namespace tilewright
