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

}  // namespace

void analyze_mask(ScoreSpace& spec) {
  AxisExtents extents{{{Axis::q, spec.q_len}, {Axis::kv, spec.kv_len}}};
  if (const auto b = product(spec.batch)) extents.known.emplace_back(Axis::b, *b);
  if (const auto h = product(spec.heads)) extents.known.emplace_back(Axis::h, *h);
  SimplifyingBuilder in(extents);
  const ExprId keep = in.import(spec.keep, spec.keep.root());

  ExprId keep_kv = in.boolean(true);
  for (const auto& [id, wanted] : conjuncts(in, keep)) {
    if (in.depends(id) & bit(Axis::q)) continue;
    keep_kv = in.op(Op::logical_and, {keep_kv, wanted ? id : in.op(Op::logical_not, {id})});
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
}

}  // namespace tilewright
