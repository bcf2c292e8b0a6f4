#include "tests/support/attention_rows.h"

#include <algorithm>
#include <cmath>

namespace tilewright::testing {
namespace {

constexpr double kEpsilon = 1e-5;

class RowMaker {
 public:
  RowMaker(const AttentionSpec& spec, const Access& stored, Axis position, int64_t columns, const RowTables& tables)
      : spec_(spec), stored_(stored), position_(position), columns_(columns), tables_(tables), type_(spec.accumulate) {}

  RowProgram run(Rows rows) {
    const int64_t half = columns_ / 2;
    const auto at = [&](int64_t factor, int64_t offset) { return column(factor, offset); };
    switch (rows) {
      case Rows::stored: break;
      case Rows::rope_interleaved:
        if (half > 0) rotate(at(2, 0), at(2, 1), {0, 2, half}, {1, 2, half});
        if (columns_ % 2) piece({columns_ - 1, 1, 1}, element(at(1, columns_ - 1)));
        break;
      case Rows::norm_rope: sum(square(element(at(1, 0)))); [[fallthrough]];
      case Rows::rope_half:
        normalised_ = rows == Rows::norm_rope;
        if (half > 0) rotate(at(1, 0), at(1, half), {0, 1, half}, {half, 1, half});
        if (columns_ % 2) piece({columns_ - 1, 1, 1}, element(at(1, columns_ - 1)));
        break;
      case Rows::rms_norm:
        sum(square(element(at(1, 0))));
        normalised_ = true;
        piece({0, 1, columns_}, element(at(1, 0)));
        break;
      case Rows::layer_norm: {
        sum(element(at(1, 0)));
        centred_ = true;
        sum(square(element(at(1, 0))));
        normalised_ = true;
        piece({0, 1, columns_}, element(at(1, 0)));
        break;
      }
    }
    row_.values = e_.pruned(roots(row_));
    return std::move(row_);
  }

 private:
  ExprId i64(int64_t value) { return e_.constant_int(value, DType::i64); }
  ExprId f(Op op, ExprId a, ExprId b) { return e_.op(op, type_, {a, b}); }
  ExprId real(double value) { return e_.constant(value, type_); }
  ExprId cast(ExprId value) { return e_[value].dtype == type_ ? value : e_.op(Op::cast, type_, {value}); }
  ExprId square(ExprId x) { return f(Op::mul, x, x); }

  ExprId column(int64_t factor, int64_t offset) {
    const ExprId d = e_.index(Axis::d);
    const ExprId scaled = factor == 1 ? d : e_.op(Op::mul, DType::i64, {d, i64(factor)});
    return offset == 0 ? scaled : e_.op(Op::add, DType::i64, {scaled, i64(offset)});
  }

  /// An index of the stored operand with `column` in the place of d.
  ExprId with_column(const Expr& index, ExprId id, ExprId column) {
    ExprNode node = index[id];
    if (node.kind == ExprKind::index && node.axis == Axis::d) return column;
    for (ExprId& arg : node.args) arg = with_column(index, arg, column);
    return e_.add(std::move(node));
  }

  ExprId element(ExprId column) {
    std::vector<ExprId> at;
    for (const Expr& axis : stored_.axes) at.push_back(with_column(axis, axis.root(), column));
    const DType dtype = spec_.tensors[static_cast<size_t>(stored_.tensor)].type.dtype;
    ExprId x = cast(e_.load(stored_.tensor, dtype, std::move(at), true));
    if (centred_) x = f(Op::sub, x, f(Op::div, e_.score(type_, 0), real(static_cast<double>(columns_))));
    if (!normalised_) return x;
    const ExprId mean = f(Op::div, e_.score(type_, centred_ ? 1 : 0), real(static_cast<double>(columns_)));
    x = f(Op::mul, x, e_.op(Op::rsqrt, type_, {f(Op::add, mean, real(kEpsilon))}));
    return f(Op::mul, x, cast(e_.load(tables_.weight, DType::f32, {column}, true)));
  }

  ExprId table(int tensor) {
    const ExprId at = e_.op(Op::add, DType::i64, {e_.index(position_), i64(kRowShift)});
    return cast(e_.load(tensor, DType::f32, {at, e_.index(Axis::d)}, false));
  }

  void rotate(ExprId first, ExprId second, RowPiece to_first, RowPiece to_second) {
    const ExprId a = element(first), b = element(second), c = table(tables_.cos), s = table(tables_.sin);
    piece(to_first, f(Op::sub, f(Op::mul, a, c), f(Op::mul, b, s)));
    piece(to_second, f(Op::add, f(Op::mul, b, c), f(Op::mul, a, s)));
  }
  void sum(ExprId value) { row_.sums.push_back({columns_, value}); }
  void piece(RowPiece where, ExprId value) {
    where.value = value;
    row_.pieces.push_back(where);
  }

  const AttentionSpec& spec_;
  const Access& stored_;
  Axis position_;
  int64_t columns_;
  RowTables tables_;
  DType type_;
  Expr e_;
  RowProgram row_;
  bool centred_ = false, normalised_ = false;
};

void normalise(std::vector<double>& row, const TestTensor& weight, bool centre) {
  const auto count = static_cast<double>(row.size());
  double mean = 0, square = 0;
  for (double x : row) mean += x / count;
  for (double& x : row) {
    if (centre) x -= mean;
    square += x * x / count;
  }
  for (size_t i = 0; i < row.size(); ++i) row[i] *= weight.get(static_cast<int64_t>(i)) / std::sqrt(square + kEpsilon);
}

}  // namespace

RowProgram make_row(Rows rows, const AttentionSpec& spec, const Access& stored, Axis position, int64_t columns,
                    const RowTables& tables) {
  return RowMaker(spec, stored, position, columns, tables).run(rows);
}

void compute_row(Rows rows, std::vector<double>& row, int64_t position, const AttentionCase& test) {
  const auto tensor = [&](const std::string& name) -> const TestTensor& {
    size_t i = 0;
    while (test.spec.tensors[i].name != name) ++i;
    return test.tensors[i];
  };
  if (rows == Rows::rms_norm || rows == Rows::layer_norm || rows == Rows::norm_rope)
    normalise(row, tensor("weight"), rows == Rows::layer_norm);
  if (rows != Rows::rope_half && rows != Rows::rope_interleaved && rows != Rows::norm_rope) return;
  const TestTensor &cos = tensor("cos"), &sin = tensor("sin");
  const int64_t at = std::min(position + kRowShift, cos.shape()[0] - 1);
  const auto half = static_cast<int64_t>(row.size() / 2);
  for (int64_t i = 0; i < half; ++i) {
    const bool interleaved = rows == Rows::rope_interleaved;
    double &a = row[static_cast<size_t>(interleaved ? 2 * i : i)],
           &b = row[static_cast<size_t>(interleaved ? 2 * i + 1 : i + half)];
    const double c = cos.get(at * half + i), s = sin.get(at * half + i), before = a;
    a = a * c - b * s;
    b = b * c + before * s;
  }
}

}  // namespace tilewright::testing
