// SimplifyingBuilder: grows an Expr whose nodes are simplified as they are made, with the numeric range of each.
#pragma once

#include <vector>

#include "compiler/passes.h"
#include "compiler/simplify_range.h"

namespace tilewright {

inline bool is_op(const ExprNode& node, Op op) { return node.kind == ExprKind::op && node.op == op; }

/// Σ coefficient · term + dims + constant, in the wrapping arithmetic of `dtype`.
struct AffineForm {
  struct Term {
    ExprId atom;
    int64_t coefficient;
  };
  DType dtype = DType::i64;
  std::vector<Term> terms;  ///< ascending atoms, non-zero coefficients
  Dim dims;                 ///< named dims, no constant; i64 only
  int64_t constant = 0;

  bool is_constant() const { return terms.empty() && dims.is_constant(); }
  void add(const AffineForm& other, int64_t factor);
  void negate();
};

class SimplifyingBuilder {
 public:
  explicit SimplifyingBuilder(AxisExtents extents = {}) : extents_(std::move(extents)) {}

  ExprId add(ExprNode node);
  ExprId op(Op op, DType dtype, std::vector<ExprId> args);
  /// Same dtype as the first operand; bool for comparisons.
  ExprId op(Op op, std::vector<ExprId> args);
  ExprId integer(int64_t value, DType dtype = DType::i64);
  ExprId boolean(bool value) { return integer(value, DType::boolean); }
  ExprId index(Axis axis);
  ExprId dim(const Dim& value);
  ExprId import(const Expr& other, ExprId root);

  const ExprNode& operator[](ExprId id) const { return expr_[id]; }
  IntRange range(ExprId id) const { return facts_[slot(id)].range; }
  uint32_t depends(ExprId id) const { return facts_[slot(id)].depends; }
  bool is_constant(ExprId id) const { return expr_[id].kind == ExprKind::constant; }
  /// Value of an integer or bool constant.
  int64_t constant(ExprId id) const { return expr_[id].literal.integer; }
  bool is_constant(ExprId id, int64_t value) const {
    return is_constant(id) && is_integer_or_bool(expr_[id].dtype) && constant(id) == value;
  }

  AffineForm affine(ExprId id) const;
  ExprId emit(const AffineForm& form);
  /// Exact range of the form's true value; everything when that may not fit 64 bits.
  IntRange range(const AffineForm& form) const;

  /// The Expr with this root, unused nodes dropped.
  Expr take(ExprId root);

 private:
  struct Facts {
    IntRange range;
    uint32_t depends = 0;
  };
  static size_t slot(ExprId id) { return static_cast<size_t>(tilewright::raw(id)); }
  ExprId raw_add(ExprNode node);
  ExprId raw_op(Op op, DType dtype, std::vector<ExprId> args);
  Facts facts_of(const ExprNode& node) const;
  int cost(const AffineForm& form) const;
  int affine_ops(ExprId id, bool only_kv) const;
  bool float_constant(ExprId id, double value) const;

  ExprId simplify_op(Op op, DType dtype, const std::vector<ExprId>& args);
  ExprId simplify_float(Op op, DType dtype, const std::vector<ExprId>& args);
  ExprId simplify_integer(Op op, DType dtype, const std::vector<ExprId>& args);
  ExprId simplify_affine(Op op, DType dtype, const std::vector<ExprId>& args);
  ExprId simplify_div_mod(Op op, DType dtype, ExprId value, int64_t divisor);
  ExprId op_of_rest(Op op, DType dtype, ExprId rest, int64_t divisor);
  ExprId simplify_compare(Op op, const std::vector<ExprId>& args);
  ExprId simplify_logic(Op op, const std::vector<ExprId>& args);
  ExprId simplify_select(DType dtype, const std::vector<ExprId>& args);
  ExprId simplify_cast(DType dtype, ExprId value);

  AxisExtents extents_;
  Expr expr_;
  std::vector<Facts> facts_;
};

}  // namespace tilewright
