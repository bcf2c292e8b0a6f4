// Arithmetic over dims for LaunchInfo: item counts and bytes as i64 Exprs.
#pragma once

#include <vector>

#include "ir/expr.h"

namespace tilewright::cpu {

class LaunchSizes {
 public:
  ExprId i(int64_t value) { return e_.constant_int(value, DType::i64); }
  ExprId dim(const Dim& value) { return e_.dim(value); }
  ExprId add(ExprId a, ExprId b) { return e_.op(Op::add, DType::i64, {a, b}); }
  ExprId mul(ExprId a, ExprId b) { return e_.op(Op::mul, DType::i64, {a, b}); }
  ExprId div(ExprId a, int64_t by) { return e_.op(Op::div, DType::i64, {a, i(by)}); }
  ExprId import(const Expr& other) { return e_.import(other); }
  /// n / size, rounded up.
  ExprId blocks(ExprId n, int64_t size) { return div(add(n, i(size - 1)), size); }
  ExprId product(const std::vector<Dim>& dims) {
    ExprId all = i(1);
    for (const Dim& each : dims) all = mul(all, dim(each));
    return all;
  }
  /// Bytes rounded up to cache lines.
  ExprId lines(ExprId bytes) { return mul(blocks(bytes, 64), i(64)); }
  Expr done(ExprId root) const {
    Expr out = e_;
    out.set_root(root);
    return out.pruned();
  }

 private:
  Expr e_;
};

}  // namespace tilewright::cpu
