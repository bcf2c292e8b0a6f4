// What the verifiers of AttentionSpec and BackwardSpec share: checks of a ScoreSpace, its accesses and expressions.
#pragma once

#include <set>
#include <string>

#include "ir/verify.h"

namespace tilewright {

class SpaceVerifier {
 protected:
  static constexpr uint32_t kBHQ = bit(Axis::b) | bit(Axis::h) | bit(Axis::q);
  static constexpr uint32_t kBHKV = bit(Axis::b) | bit(Axis::h) | bit(Axis::kv);
  static constexpr uint32_t kBHQKV = kBHQ | kBHKV;

  explicit SpaceVerifier(const ScoreSpace& space) : space_(space) {}

  template <class... Args>
  void fail(fmt::format_string<Args...> text, Args&&... args) {
    errors_.add({ErrorKind::invalid, fmt::format(text, std::forward<Args>(args)...), space_.name, 0});
  }
  const SpecTensor& tensor(const Access& access) const { return space_.tensors[static_cast<size_t>(access.tensor)]; }
  bool known(int index) const { return index >= 0 && static_cast<size_t>(index) < space_.tensors.size(); }

  /// Tensors and extents; nothing else can be looked at when they are wrong.
  void check_space();
  void check_masks();
  void check_columns(std::string_view what, int64_t columns);
  /// A term of s or t, under the names of its operands.
  void check_product(std::string_view query_name, std::string_view key_name, const DotTerm& term);
  /// False when the access is too broken to look further.
  bool check_access(std::string_view what, const Access& access, uint32_t axes, int64_t columns);
  /// An operand: floats that are not written.
  void check_input(std::string_view what, const Access& access);
  void check_output(std::string_view what, const Access& access);
  /// Stored rows or computed ones over `axes` and d; false when they are too broken to look further.
  bool check_operand(std::string_view what, const Access& stored, const std::optional<RowProgram>& row, uint32_t axes,
                     int64_t columns);
  /// h enters only divided by a multiple of the group.
  void check_grouping(std::string_view what, const Access& access);
  bool check_grouping(std::string_view what, std::string_view name, const Expr& expr);
  /// f16 or bf16, or f32 for no rounding.
  void check_rounding(std::string_view what, DType dtype);

  /// `axes`: what the root may depend on, bits of dependencies().
  bool check_expr(std::string_view where, const Expr& expr, DType dtype, uint32_t axes);
  bool check_nodes(std::string_view where, const Expr& expr);
  /// One root of an Expr whose nodes were checked.
  bool check_root(std::string_view where, const Expr& expr, ExprId root, DType dtype, uint32_t axes);

  Diagnostics errors_;

 private:
  static constexpr uint32_t kRows = bit(Axis::b) | bit(Axis::h) | bit(Axis::q_lo) | bit(Axis::q_hi);
  static constexpr uint32_t kBlock = kRows | bit(Axis::kv_lo) | bit(Axis::kv_hi);

  void check_tensors();
  void check_extents();
  void check_dim(const Dim& dim, std::string_view where);
  /// The coefficient of `axis` is a constant at every node the root reaches.
  static bool is_affine(const Expr& expr, Axis axis);
  bool divides_by_group(const Expr& expr, const ExprNode& node, size_t k) const;
  void fail_grouping(std::string_view what, std::string_view name);
  void check_row(std::string_view what, const RowProgram& row, uint32_t axes, int64_t columns);
  void check_pieces(std::string_view what, const std::vector<RowPiece>& pieces, int64_t columns);
  void check_node(std::string_view where, const Expr& expr, size_t i);
  void check_op(std::string_view where, const Expr& expr, const ExprNode& node);
  void check_load(std::string_view where, const Expr& expr, const ExprNode& node);

  const ScoreSpace& space_;
  std::set<std::string> dims_;
};

}  // namespace tilewright
