// Interval analysis of mask expressions over a block: what an expression over (b, h, q, kv) can be while q runs over
// [q_lo, q_hi] and kv over [kv_lo, kv_hi], as expressions over (b, h, q_lo, q_hi, kv_lo, kv_hi).
#pragma once

#include <map>
#include <optional>

#include "compiler/simplify_builder.h"

namespace tilewright {

/// Every value lies in [lo, hi] (i64) where `ok` holds; where it does not, integer arithmetic may have wrapped and
/// nothing is known.
struct Interval {
  ExprId lo, hi, ok;
};

/// `must`: true at every point of the block. `may`: true at some point. Neither is ever wrongly true / false.
struct Truth {
  ExprId must, may;
};

class BlockAnalyzer {
 public:
  /// `in` holds the mask; results are built in `out`.
  BlockAnalyzer(SimplifyingBuilder& in, SimplifyingBuilder& out) : in_(in), out_(out) {}

  Truth truth(ExprId id);
  std::optional<Interval> interval(ExprId id);
  bool depends_on(ExprId id, Axis axis) const { return in_.depends(id) & bit(axis); }

 private:
  bool uniform(ExprId id) const { return !(in_.depends(id) & (bit(Axis::q) | bit(Axis::kv) | kDependsOnScore)); }
  ExprId copied(ExprId id);
  ExprId both(ExprId a, ExprId b) { return out_.op(Op::logical_and, {a, b}); }
  ExprId in_dtype(ExprId value, DType dtype);
  Interval guarded_to(Interval v, DType dtype);

  Truth compute_truth(ExprId id);
  Truth compare(Op op, ExprId a, ExprId b);
  Truth negated(Truth t);
  Truth same(Truth a, Truth b);
  std::optional<Interval> compute_interval(ExprId id);
  std::optional<Interval> affine(ExprId id, const AffineForm& form);
  std::optional<Interval> div_mod(const ExprNode& node);
  std::optional<Interval> product(const ExprNode& node);
  std::optional<Interval> select(const ExprNode& node);
  std::optional<Interval> cast(const ExprNode& node);
  std::optional<Interval> load(ExprId id);
  std::optional<double> index_width(ExprId id) const;

  SimplifyingBuilder& in_;
  SimplifyingBuilder& out_;
  std::map<ExprId, ExprId> copies_;
  std::map<ExprId, Truth> truths_;
  std::map<ExprId, std::optional<Interval>> intervals_;
};

}  // namespace tilewright
