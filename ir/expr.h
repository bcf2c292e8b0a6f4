// Expr: a scalar expression region, evaluated once per point of an index space. Score, keep, access and pointwise
// steps are all Exprs, so that every backend needs one walker and no backend knows a variant by name.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace tilewright {

/// Index variables. In attention regions axes 0…3 are b, h, q, kv and axis 4 is d (head dim, in accesses only);
/// in pointwise steps axis i is the i-th axis of the step's iteration space.
/// The block variables stand for inclusive bounds of a block in block tests and kv ranges.
enum class Axis : uint8_t {
  b = 0,
  h = 1,
  q = 2,
  kv = 3,
  d = 4,
  axis5 = 5,
  axis6 = 6,
  axis7 = 7,
  q_lo = 8,
  q_hi = 9,
  kv_lo = 10,
  kv_hi = 11
};
std::string_view to_string(Axis axis);

enum class ExprId : int32_t {};
constexpr int32_t raw(ExprId id) { return static_cast<int32_t>(id); }

/// What an ExprNode is. `op` nodes are pointwise rows of ops.def.
enum class ExprKind : uint8_t {
  op,        ///< pointwise op on args (never Op::load)
  score,     ///< a raw dot product, in the accumulation type: s, or t in backward passes; in a RowProgram a row sum
  constant,  ///< literal of `dtype`
  index,     ///< value of `axis`, dtype i64 or i32
  dim,       ///< run-time value of `dim`, i64
  load,      ///< tensor[args…]; clamped to the tensor unless `in_bounds`
  load_min,  ///< block tests: min over the box [args 0…r-1, args r…2r-1], inclusive, clamped
  load_max   ///< likewise the max
};

struct ExprNode {
  ExprKind kind = ExprKind::constant;
  Op op = Op::constant;      ///< kind op
  DType dtype = DType::f32;  ///< declared type; f16 and bf16 are computed in f32, integers wrap at their width
  std::vector<ExprId> args;
  Scalar literal;          ///< kind constant
  Axis axis = Axis::b;     ///< kind index
  Dim dim;                 ///< kind dim
  int tensor = -1;         ///< kind load*: index into the owner's tensor table
  int product = 0;         ///< kind score: which product (or row sum) of its owner, 0 = s, 1 = t
  bool in_bounds = false;  ///< kind load: the indices are known to lie inside (tensor operands by their own shape)
  friend bool operator==(const ExprNode&, const ExprNode&) = default;
};

/// A DAG in evaluation order (args before users), hash-consed by `add`, with one root.
class Expr {
 public:
  /// Returns the existing node when an equal one is there.
  ExprId add(ExprNode node);

  ExprId constant(double value, DType dtype);
  ExprId constant_int(int64_t value, DType dtype);  ///< integers and bools
  ExprId index(Axis axis, DType dtype = DType::i64);
  ExprId dim(Dim value);
  ExprId score(DType dtype, int product = 0);
  ExprId load(int tensor, DType dtype, std::vector<ExprId> indices, bool in_bounds);
  /// Pointwise op. dtype is the result's (bool for comparisons, the target for cast).
  ExprId op(Op op, DType dtype, std::vector<ExprId> args);
  /// Copies another Expr's DAG in and returns its root here.
  ExprId import(const Expr& other);
  ExprId import(const Expr& other, ExprId root);

  const ExprNode& operator[](ExprId id) const { return nodes_[static_cast<size_t>(raw(id))]; }
  const std::vector<ExprNode>& nodes() const { return nodes_; }
  ExprId root() const { return root_; }
  void set_root(ExprId root) { root_ = root; }
  const ExprNode& root_node() const { return (*this)[root_]; }
  bool empty() const { return nodes_.empty(); }
  /// Drops nodes the root does not reach, keeping order.
  Expr pruned() const;
  /// The same for a DAG of several roots, which are renumbered in place; -1 stays -1. The result has no root.
  Expr pruned(std::span<ExprId* const> roots) const;
  bool is_constant_true() const;

  friend bool operator==(const Expr&, const Expr&) = default;

 private:
  std::vector<ExprNode> nodes_;
  ExprId root_{-1};
};

/// Bit i set: the node depends on Axis(i); bit 16: it depends on a product of the score space, s or t; bit 17: on t.
/// One entry per node of `expr`.
std::vector<uint32_t> dependencies(const Expr& expr);
constexpr uint32_t kDependsOnScore = 1u << 16;
constexpr uint32_t kDependsOnT = 1u << 17;
constexpr uint32_t bit(Axis axis) { return 1u << static_cast<uint32_t>(axis); }

}  // namespace tilewright
