// Graph: what a user asks for. A DAG of single-result nodes in definition order, held in one table.
// Any Graph can be built, also a wrong one; `verify` (ir/verify.h) says what is wrong with it.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "ir/op.h"
#include "ir/precision.h"
#include "ir/result.h"
#include "ir/shape.h"

namespace tilewright {

/// Index into Graph::nodes.
enum class ValueId : int32_t {};
constexpr ValueId kNoValue{-1};
constexpr int32_t raw(ValueId id) { return static_cast<int32_t>(id); }

/// A literal. Integers and bools are held exactly in `integer`, floats in `real`; the node's dtype says which.
struct Scalar {
  double real = 0;
  int64_t integer = 0;
  friend bool operator==(const Scalar&, const Scalar&) = default;
};

enum class CausalAlign : uint8_t { top_left, bottom_right };

/// Attributes of all ops; each op reads only the ones its row in docs/ir.md names.
struct Attributes {
  int64_t axis = 0;                           ///< index, slice, concat, reduce_*, softmax, logsumexp; never negative
  bool keepdims = true;                       ///< reduce_*, logsumexp
  std::vector<int64_t> perm;                  ///< transpose
  Dim begin, end;                             ///< slice
  int64_t times = 1;                          ///< repeat_heads
  int64_t left = -1, right = -1;              ///< mask_window, inclusive distances, -1 = unbounded
  double cap = 0;                             ///< softcap
  double rate = 0;                            ///< dropout
  CausalAlign align = CausalAlign::top_left;  ///< mask_causal, mask_window, alibi when no q_offset operand is given
  Dim dim;                                    ///< dim
  Scalar literal;                             ///< constant
  friend bool operator==(const Attributes&, const Attributes&) = default;
};

struct Node {
  Op op = Op::param;
  std::vector<ValueId> operands;  ///< trailing optional operands are left out or kNoValue
  Attributes attributes;
  TensorType type;
  std::string name;    ///< without '%'; constants that print inline have none
  int line = 0;        ///< source line, 0 when built in memory
  bool inout = false;  ///< param only: written in place
};

struct Graph {
  std::string name;
  std::vector<Node> nodes;                   ///< operands come before their users
  std::vector<ValueId> params;               ///< in signature order
  std::vector<ValueId> results;              ///< in return order
  std::optional<PrecisionPolicy> precision;  ///< of its products; nullopt = what the engine is set to

  const Node& operator[](ValueId id) const { return nodes[static_cast<size_t>(raw(id))]; }
  Node& operator[](ValueId id) { return nodes[static_cast<size_t>(raw(id))]; }
  const TensorType& type(ValueId id) const { return (*this)[id].type; }
  /// Operand i, kNoValue when it is left out.
  static ValueId operand(const Node& node, size_t i) { return i < node.operands.size() ? node.operands[i] : kNoValue; }
};

/// An `update` whose first operand is an inout param, or such an update of one: it writes the caller's memory.
bool updates_in_place(const Graph& graph, ValueId id);

/// Builds graphs in C++. Result types are inferred as the verifier infers them; where an operand combination is
/// wrong the node gets its first operand's type and `verify` reports it, so building never fails half-way.
/// Names are made unique ("%s", "%s_1"); an empty name becomes a number.
class GraphBuilder {
 public:
  explicit GraphBuilder(std::string name) { graph_.name = std::move(name); }

  ValueId param(std::string name, TensorType type, bool inout = false);
  /// Scalar literal of the given dtype.
  ValueId constant(double value, DType dtype);
  ValueId constant_int(int64_t value, DType dtype);
  /// Position along `axis` of `shape`; shape is usually 1 elsewhere: index(2, {1,1,Sq,1}).
  ValueId index(int64_t axis, Shape shape, DType dtype = DType::i64);
  ValueId dim(Dim value);

  ValueId unary(Op op, ValueId a);
  ValueId binary(Op op, ValueId a, ValueId b);
  ValueId select(ValueId condition, ValueId a, ValueId b);
  ValueId cast(ValueId a, DType dtype);
  ValueId load(ValueId table, std::vector<ValueId> indices);

  ValueId transpose(ValueId a, std::vector<int64_t> perm);
  ValueId reshape(ValueId a, Shape shape);
  ValueId slice(ValueId a, int64_t axis, Dim begin, Dim end);
  ValueId concat(std::vector<ValueId> parts, int64_t axis);
  /// `cache` with rows [at, at + n) of `axis` taken from `rows`; at: i32 or i64, a scalar or one per batch [B].
  ValueId update(ValueId cache, ValueId rows, ValueId at, int64_t axis);
  ValueId broadcast(ValueId a, Shape shape);
  ValueId repeat_heads(ValueId a, int64_t times);

  /// Result shape is `table`.
  ValueId scatter_add(ValueId updates, std::vector<ValueId> indices, Shape table);
  ValueId reduce(Op op, ValueId a, int64_t axis, bool keepdims = true);
  /// A sink has the dtype of the scores and is a scalar, [H] (one per head, the axis rank-3 of the scores) or anything
  /// that broadcasts right-aligned to the scores with `axis` set to 1, such as [H,1,1].
  ValueId softmax(ValueId a, int64_t axis, ValueId sink = kNoValue);
  ValueId logsumexp(ValueId a, int64_t axis, bool keepdims = true, ValueId sink = kNoValue);
  /// Result dtype defaults to the accumulation type (f32, or f64 for f64).
  ValueId matmul(ValueId a, ValueId b);
  ValueId matmul_nt(ValueId a, ValueId b);

  ValueId mask_causal(ValueId a, CausalAlign align, ValueId q_offset = kNoValue);
  ValueId mask_window(ValueId a, int64_t left, int64_t right, CausalAlign align, ValueId q_offset = kNoValue);
  ValueId alibi(ValueId a, ValueId slopes = kNoValue, CausalAlign align = CausalAlign::top_left,
                ValueId q_offset = kNoValue);
  ValueId softcap(ValueId a, double cap);
  ValueId random_bits(ValueId seed, ValueId offset, ValueId bh, ValueId q, ValueId kv);
  ValueId dropout(ValueId p, ValueId seed, ValueId offset, double rate);

  /// Names the last step of a chain for readers and diagnostics.
  ValueId named(ValueId value, std::string name);
  void result(ValueId value) { graph_.results.push_back(value); }
  void precision(std::optional<PrecisionPolicy> policy) { graph_.precision = policy; }
  const Graph& graph() const { return graph_; }
  Graph take() { return std::move(graph_); }

 private:
  ValueId add(Node node);
  Graph graph_;
};

/// Result type of a node from its operands; the one place that holds the type rules (the verifier and the
/// builder both call it). For ops whose type is annotated (param, constant, index, reshape, broadcast, cast,
/// scatter_add, matmul's dtype) `declared` supplies what cannot be inferred.
/// Errors: a diagnostic that names both sides of the mismatch.
Result<TensorType> infer_type(const Graph& graph, const Node& node, const TensorType& declared);

}  // namespace tilewright
