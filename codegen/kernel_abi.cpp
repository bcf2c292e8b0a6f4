#include "codegen/kernel_abi.h"

#include <set>

namespace tilewright {
namespace {

void collect(const Dim& dim, std::set<std::string>& names) {
  for (const auto& [name, coefficient] : dim.terms()) names.insert(name);
}
void collect(const Expr& expr, std::set<std::string>& names) {
  for (const ExprNode& node : expr.nodes()) collect(node.dim, names);
}
void collect(const Access& access, std::set<std::string>& names) {
  for (const Expr& axis : access.axes) collect(axis, names);
}

ArgsLayout lay_out(const std::vector<SpecTensor>& tensors, std::set<std::string> names) {
  for (const SpecTensor& tensor : tensors)
    for (const Dim& dim : tensor.type.shape) collect(dim, names);
  ArgsLayout layout;
  layout.dims.assign(names.begin(), names.end());
  layout.size = static_cast<int64_t>(layout.dims.size());
  for (const SpecTensor& tensor : tensors) {
    layout.shape_offset.push_back(layout.size);
    layout.stride_offset.push_back(layout.size + tensor.type.rank());
    layout.size += 2 * tensor.type.rank();
  }
  return layout;
}

void collect(const DotTerm& dot, std::set<std::string>& names) {
  collect(dot.query, names);
  collect(dot.key, names);
  for (const auto* row : {&dot.query_row, &dot.key_row})
    if (*row) collect((*row)->values, names);
}
void collect(const ScoreSpace& space, std::set<std::string>& names) {
  for (const Dim& dim : space.batch) collect(dim, names);
  for (const Dim& dim : space.heads) collect(dim, names);
  collect(space.q_len, names);
  collect(space.kv_len, names);
  for (const DotTerm& dot : space.dots) collect(dot, names);
  for (const Expr* expr : {&space.keep, &space.keep_kv, &space.kv_range.begin, &space.kv_range.end,
                           &space.kv_range.skip, &space.kv_range.full})
    collect(*expr, names);
}

ExprId product_expr(Expr& expr, ExprId so_far, const std::vector<Dim>& dims) {
  for (const Dim& dim : dims) so_far = expr.op(Op::mul, DType::i64, {so_far, expr.dim(dim)});
  return so_far;
}

}  // namespace

ArgsLayout args_layout(const AttentionSpec& spec) {
  std::set<std::string> names;
  collect(static_cast<const ScoreSpace&>(spec), names);
  collect(spec.value, names);
  collect(spec.output, names);
  if (spec.logsumexp) collect(*spec.logsumexp, names);
  collect(spec.score, names);
  if (spec.sink) collect(*spec.sink, names);
  if (spec.weight_factor) collect(*spec.weight_factor, names);
  return lay_out(spec.tensors, std::move(names));
}

ArgsLayout args_layout(const BackwardSpec& spec) {
  std::set<std::string> names;
  collect(static_cast<const ScoreSpace&>(spec), names);
  if (spec.output_gradient) collect(*spec.output_gradient, names);
  collect(spec.weights, names);
  for (const auto* products : {&spec.rows, &spec.columns})
    for (const BackwardProduct& product : *products) {
      collect(product.operand, names);
      collect(product.output, names);
    }
  return lay_out(spec.tensors, std::move(names));
}

ArgsLayout args_layout(const LoopStep& step) {
  std::set<std::string> names;
  for (const Dim& dim : step.extents) collect(dim, names);
  collect(step.value, names);
  collect(step.value2, names);
  if (step.sink) collect(*step.sink, names);
  collect(step.epilogue, names);
  collect(step.output, names);
  return lay_out(step.tensors, std::move(names));
}

Expr item_count(const ScoreSpace& spec, int64_t block_q, int64_t head_step) {
  Expr expr;
  const auto constant = [&](int64_t value) { return expr.constant_int(value, DType::i64); };
  ExprId heads = product_expr(expr, constant(1), spec.heads);
  if (head_step > 1) heads = expr.op(Op::div, DType::i64, {heads, constant(head_step)});
  const ExprId rows = expr.op(Op::add, DType::i64, {expr.dim(spec.q_len), constant(block_q - 1)});
  const ExprId blocks = expr.op(Op::div, DType::i64, {rows, constant(block_q)});
  const ExprId per_batch = expr.op(Op::mul, DType::i64, {heads, blocks});
  expr.set_root(product_expr(expr, per_batch, spec.batch));
  return expr;
}

Expr packed_blocks(const ScoreSpace& spec, int64_t block_kv, int64_t factor) {
  Expr expr;
  const auto constant = [&](int64_t value) { return expr.constant_int(value, DType::i64); };
  ExprId product = product_expr(expr, product_expr(expr, constant(1), spec.batch), spec.heads);
  product = expr.op(Op::div, DType::i64, {product, constant(spec.head_group)});
  const ExprId keys = expr.op(Op::add, DType::i64, {expr.dim(spec.kv_len), constant(block_kv - 1)});
  product = expr.op(Op::mul, DType::i64, {product, expr.op(Op::div, DType::i64, {keys, constant(block_kv)})});
  expr.set_root(expr.op(Op::mul, DType::i64, {product, constant(factor)}));
  return expr;
}

}  // namespace tilewright
