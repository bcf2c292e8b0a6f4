// Where in kv the kept positions of a block of rows lie.
#pragma once

#include "compiler/analyze_mask_interval.h"

namespace tilewright {

/// [begin, end) that holds every kept kv for q in [q_lo, q_hi]; an absent end is unlimited.
struct Hull {
  std::optional<ExprId> begin, end;
};

class BoundsAnalyzer {
 public:
  BoundsAnalyzer(SimplifyingBuilder& in, SimplifyingBuilder& out, BlockAnalyzer& blocks, const Dim& kv_len)
      : in_(in), out_(out), blocks_(blocks), kv_len_(kv_len) {}

  /// Where `id` is `wanted`.
  Hull hull(ExprId id, bool wanted);

 private:
  /// A limit on a node's value; holds only where `ok` does.
  struct Limit {
    ExprId value, ok;
  };
  Hull intersection(Hull a, Hull b);
  Hull convex_union(Hull a, Hull b);
  Hull hull_of_compare(Op op, ExprId a, ExprId b);
  /// Where least <= id <= most.
  Hull solve(ExprId id, std::optional<Limit> least, std::optional<Limit> most);
  Hull solve_affine(ExprId id, const AffineForm& form, std::optional<Limit> least, std::optional<Limit> most);
  ExprId clamped(ExprId value);
  ExprId plus(ExprId value, int64_t constant) { return out_.op(Op::add, {value, out_.integer(constant)}); }

  SimplifyingBuilder& in_;
  SimplifyingBuilder& out_;
  BlockAnalyzer& blocks_;
  Dim kv_len_;
};

}  // namespace tilewright
