#include "compiler/workspace_rows.h"

#include <optional>

#include "compiler/schedule.h"

namespace tilewright {
namespace {

constexpr int64_t kRowAlignment = 16;

/// `heads` by KV heads; nothing where that is no list of dims.
std::optional<std::vector<Dim>> key_heads(std::vector<Dim> heads, int64_t group) {
  if (group == 1) return heads;
  if (heads.empty()) return std::nullopt;
  Dim& last = heads.back();
  bool whole = last.constant() % group == 0;
  Dim divided(last.constant() / group);
  for (const auto& [name, coefficient] : last.terms()) {
    whole = whole && coefficient % group == 0;
    divided = divided + Dim::named(name, coefficient / group);
  }
  if (!whole) return std::nullopt;
  last = divided;
  return heads;
}

/// floor(axis / divisor) is the row-major flattening of `dims`: its component `i`.
Expr component(Axis axis, int64_t divisor, const std::vector<Dim>& dims, size_t i) {
  Expr expr;
  const auto apply = [&](Op op, ExprId a, ExprId b) { return expr.op(op, DType::i64, {a, b}); };
  ExprId value = expr.index(axis);
  if (divisor > 1) value = apply(Op::div, value, expr.constant_int(divisor, DType::i64));
  if (i + 1 < dims.size()) {
    ExprId inner = expr.dim(dims[i + 1]);
    for (size_t j = i + 2; j < dims.size(); ++j) inner = apply(Op::mul, inner, expr.dim(dims[j]));
    value = apply(Op::div, value, inner);
  }
  if (i > 0) value = apply(Op::mod, value, expr.dim(dims[i]));
  expr.set_root(value);
  return expr;
}

class RowStorer {
 public:
  explicit RowStorer(const TileProgram& program) : rows_{program.spec, program, {}, {}}, end_(constant(0)) {}

  WorkspaceRows run() {
    if (rows_.step.dots.size() == 1) {
      DotTerm& dot = rows_.program.spec.dots[0];
      const AttentionSpec& step = rows_.step;
      if (dot.query_row) store("computed_q", dot.query, dot.query_row, step.heads, 1, Axis::q, step.q_len);
      if (const auto heads = key_heads(step.heads, step.head_group); dot.key_row && heads)
        store("computed_k", dot.key, dot.key_row, *heads, step.head_group, Axis::kv, step.kv_len);
    }
    rows_.bytes.set_root(end_);
    for (WorkspaceTensor& tensor : rows_.tensors) tensor.offset_bytes = tensor.offset_bytes.pruned();
    return std::move(rows_);
  }

 private:
  ExprId constant(int64_t value) { return rows_.bytes.constant_int(value, DType::i64); }

  void store(const char* name, Access& access, std::optional<RowProgram>& row, const std::vector<Dim>& heads,
             int64_t group, Axis position, const Dim& length) {
    const std::vector<Dim>& batch = rows_.step.batch;
    const DType dtype = row->dtype == DType::f32 ? rows_.step.accumulate : row->dtype;
    WorkspaceTensor& tensor = rows_.tensors.emplace_back();
    tensor.name = name;
    tensor.type = {dtype, batch};
    Shape& shape = tensor.type.shape;
    shape.insert(shape.end(), heads.begin(), heads.end());
    shape.push_back(length);
    shape.emplace_back(round_up(rows_.step.dots[0].head_dim, kRowAlignment / size_of(dtype)));

    access = {static_cast<int>(rows_.program.spec.tensors.size()), {}};
    for (size_t i = 0; i < batch.size(); ++i) access.axes.push_back(component(Axis::b, 1, batch, i));
    for (size_t i = 0; i < heads.size(); ++i) access.axes.push_back(component(Axis::h, group, heads, i));
    for (const Axis axis : {position, Axis::d}) access.axes.push_back(component(axis, 1, {length}, 0));
    row.reset();

    tensor.offset_bytes = rows_.bytes;
    tensor.offset_bytes.set_root(end_);
    ExprId bytes = constant(size_of(dtype));
    for (const Dim& dim : shape) bytes = rows_.bytes.op(Op::mul, DType::i64, {bytes, rows_.bytes.dim(dim)});
    end_ = rows_.bytes.op(Op::add, DType::i64, {end_, bytes});
    rows_.program.spec.tensors.push_back({name, tensor.type});
  }

  WorkspaceRows rows_;
  ExprId end_;  ///< in rows_.bytes
};

}  // namespace

WorkspaceRows with_stored_rows(const TileProgram& program) { return RowStorer(program).run(); }

}  // namespace tilewright
