// JointGraph: the forward of a graph in canonical form and, behind it, everything that its backward pass computes. One
// table, so that equal nodes are one: tanh' finds the forward's tanh. `split` cuts it in two afterwards.
#pragma once

#include <string>
#include <vector>

#include "compiler/canonicalize_rewriter.h"

namespace tilewright::grad {

class JointGraph {
 public:
  /// `given` verifies.
  explicit JointGraph(const Graph& given);

  // The forward.
  const Graph& graph() const { return nodes_.graph(); }
  const Node& operator[](ValueId id) const { return graph()[id]; }
  const TensorType& type(ValueId id) const { return graph().type(id); }
  const Shape& shape(ValueId id) const { return type(id).shape; }
  /// Nodes [0, forward_size) are the forward's.
  size_t forward_size() const { return forward_size_; }
  /// Where values of the given graph went.
  ValueId moved(ValueId given) const { return moved_[at(given)]; }
  const std::vector<ValueId>& results() const { return graph().results; }
  /// Forward values that a result needs.
  bool live(ValueId id) const { return at(id) < forward_size_ && live_[at(id)]; }
  /// Live users of a forward value, one entry per use; results are not in here.
  const std::vector<ValueId>& users(ValueId id) const { return users_[at(id)]; }
  bool is_result(ValueId id) const { return at(id) < forward_size_ && is_result_[at(id)]; }
  bool is_literal(ValueId id, double value) const { return nodes_.is_constant(id, value); }

  // The backward. New nodes are called `stem` while the name lives; split makes the names unique.
  class Name {
   public:
    Name(JointGraph& joint, std::string stem) : joint_(joint), before_(std::move(joint.stem_)) {
      joint_.stem_ = std::move(stem);
    }
    Name(const Name&) = delete;
    Name& operator=(const Name&) = delete;
    ~Name() { joint_.stem_ = std::move(before_); }

   private:
    JointGraph& joint_;
    std::string before_;
  };
  const std::string& stem(ValueId id) const { return stems_[at(id)]; }

  ValueId param(TensorType type, std::string name);
  ValueId emit(Op op, std::vector<ValueId> operands, Attributes attributes = {}, TensorType declared = {});
  ValueId constant(double value, DType dtype) { return recorded(nodes_.constant(value, dtype)); }
  ValueId zeros(TensorType type) { return broadcast(constant(0, type.dtype), type.shape); }
  ValueId cast(ValueId a, DType dtype);
  /// In the type that arithmetic on it is done in.
  ValueId wide(ValueId a) { return cast(a, compute_type(type(a).dtype)); }
  ValueId add(ValueId a, ValueId b) { return emit(Op::add, {a, b}); }
  ValueId sub(ValueId a, ValueId b) { return emit(Op::sub, {a, b}); }
  ValueId mul(ValueId a, ValueId b);
  ValueId scale(ValueId a, double factor) { return mul(a, constant(factor, type(a).dtype)); }
  ValueId neg(ValueId a);
  ValueId select(ValueId condition, ValueId a, ValueId b) { return emit(Op::select, {condition, a, b}); }
  ValueId reshape(ValueId a, Shape shape);
  ValueId broadcast(ValueId a, Shape shape);
  ValueId slice(ValueId a, int64_t axis, const Dim& begin, const Dim& end);
  ValueId concat(std::vector<ValueId> parts, int64_t axis);
  ValueId transpose_matrix(ValueId a);  ///< the last two axes
  ValueId reduce(Op op, ValueId a, int64_t axis, bool keepdims = true);
  /// The sum over the axes along which a value of `shape` was broadcast to that of `a`, one reduce_sum per axis.
  ValueId sum_to(ValueId a, Shape shape);

 private:
  static size_t at(ValueId id) { return static_cast<size_t>(raw(id)); }
  ValueId recorded(ValueId id);

  canonical::Rewriter nodes_;
  std::vector<ValueId> moved_;
  size_t forward_size_ = 0;
  std::vector<bool> live_, is_result_;
  std::vector<std::vector<ValueId>> users_;
  std::string stem_;
  std::vector<std::string> stems_;  ///< by node
};

/// Moves or repeats elements of its one operand, or changes their float dtype.
bool is_view_or_cast(const Graph& graph, const Node& node);
/// Pointwise ops and views: what fusion reads through. `load` is none.
bool is_transparent(const Node& node);

}  // namespace tilewright::grad
