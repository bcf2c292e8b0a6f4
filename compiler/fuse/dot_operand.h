// Operands of the two products of an attention: traced back to memory as strided accesses, scales pulled out.
#pragma once

#include "compiler/fuse/tracer.h"

namespace tilewright::fusion {

/// A factor on an operand that does not depend on the contracted axis: s · value, or s / value.
struct Factor {
  ExprId value;
  bool divides = false;
};

struct DotOperand {
  ValueId root = kNoValue;  ///< the value in memory
  Indices at;
  std::vector<Factor> factors;  ///< in the graph's order
  std::vector<ValueId> path;    ///< from the product's operand to the root, both included
};

/// What an access may mention: `sequence` is q or kv. d and the sequence position enter with constant coefficients,
/// b and h through affine, div and mod forms (ir/attention_spec.h).
bool is_strided_access(const IndexMath& math, const Expr& pool, const Indices& at, Axis sequence);

struct LookThrough {
  bool casts = true;    ///< between floats, f64 never narrowed
  bool factors = true;  ///< multiplications and divisions by scalars
};

/// Looks through views and what `through` allows; the operand itself becomes the root when what lies behind it is no
/// strided access. nullopt when even that is none.
std::optional<DotOperand> trace_dot_operand(const GraphFacts& facts, Tracer& tracer, ValueId operand, const Indices& at,
                                            Axis sequence, LookThrough through);

/// value · or / each factor.
ExprId with_factors(Tracer& tracer, ExprId value, const std::vector<Factor>& factors, DType dtype);

/// Where a computed value goes in the end: through single-use casts, transposes and reshapes for as long as it is a
/// strided access, without d unless `has_d`. `at` becomes the index into the value returned.
ValueId follow_views(const GraphFacts& facts, Tracer& tracer, ValueId value, Indices& at, Axis sequence, bool has_d);

/// The largest g such that all of `accesses` depend on h only through floor(h / g); 0 when none depends on h.
int64_t common_head_group(const Expr& pool, const std::vector<const Indices*>& accesses);
/// The same for expressions.
int64_t head_group(const Expr& expr, const std::vector<ExprId>& roots);

}  // namespace tilewright::fusion
