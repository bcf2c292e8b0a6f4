// ScoreSpace: what a fused forward pass and a fused backward pass of attention have in common: tensors, the index space
// (b, h, q, kv), the raw scores of its points, and which points are kept.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ir/precision.h"
#include "ir/row_program.h"

namespace tilewright {

/// A tensor the spec reads or writes. Score and keep loads and accesses name it by position.
struct SpecTensor {
  std::string name;
  TensorType type;
  bool output = false;
  friend bool operator==(const SpecTensor&, const SpecTensor&) = default;
};

/// How (b, h, s, d) reaches an element: one i64 Expr per tensor axis, over axes b, h, d and — for the sequence
/// position — q (queries, outputs) or kv (keys, values). q/kv and d enter affinely (constant coefficient), so that
/// a stride for each exists; b and h may enter through div and mod by constants or dims.
/// Later: cu_seqlens and block tables join here; what nothing lowers is a diagnostic.
struct Access {
  int tensor = -1;
  std::vector<Expr> axes;
  friend bool operator==(const Access&, const Access&) = default;
};

/// One term of the score's dot product; MLA has two (the generic template takes several).
/// Each operand is stored rows, or rows that are computed where they are packed: then the access is empty (forward
/// passes only).
struct DotTerm {
  Access query;
  Access key;
  int64_t head_dim = 0;
  std::optional<RowProgram> query_row = {}, key_row = {};  ///< over b, h, d and q or kv
  friend bool operator==(const DotTerm&, const DotTerm&) = default;
};

/// Where work is, derived from `keep` by analyze_mask. `begin`/`end` over (b, h, q_lo, q_hi): every kept kv of the
/// block's rows lies in [begin, end), to be clamped to [0, kv_len). `skip`/`full` over (b, h, q_lo, q_hi, kv_lo,
/// kv_hi): nothing / everything of the block is kept; both may be false when undecided, never wrongly true.
struct KvRange {
  Expr begin, end;  ///< i64
  Expr skip, full;  ///< bool
  friend bool operator==(const KvRange&, const KvRange&) = default;
};

/// What values that a graph declares as `declared` may be rounded to: f16 or bf16, or f32, which stands for no
/// rounding.
inline DType rounding_of(DType declared) { return compute_type(declared) == declared ? DType::f32 : declared; }

struct ScoreSpace {
  std::string name;
  std::vector<SpecTensor> tensors;
  std::vector<Dim> batch;         ///< extent of b is the product (b is their row-major flattening)
  std::vector<Dim> heads;         ///< extent of h likewise: query heads
  Dim q_len, kv_len;              ///< extents of q and kv
  int64_t head_group = 1;         ///< K, V and their gradients depend on h only through floor(h / head_group)
  DType accumulate = DType::f32;  ///< f32 or f64 (semantics 2)
  /// Of the products whose operands are f32; f32 where there are none (semantics 22).
  PrecisionPolicy precision = PrecisionPolicy::f32;
  std::vector<DotTerm> dots;  ///< s = Σ over the terms of Σ_d query · key
  Expr keep;                  ///< bool over b, h, q, kv; constant true when nothing is masked
  /// The conjuncts of `keep` that do not depend on q (semantics 4: they hide stale K and V memory, NaN included);
  /// constant true when there are none. Always implied by `keep`.
  Expr keep_kv;
  KvRange kv_range;
  friend bool operator==(const ScoreSpace&, const ScoreSpace&) = default;
};

/// Of an operand's elements where they are packed: that of its tensor, or `accumulate` for computed rows.
inline DType operand_dtype(const ScoreSpace& space, const Access& stored, const std::optional<RowProgram>& row = {}) {
  return row ? space.accumulate : space.tensors[static_cast<size_t>(stored.tensor)].type.dtype;
}

}  // namespace tilewright
