// Text of what AttentionSpec and BackwardSpec share, ScoreSpace: the parts that their printers and parsers are made of.
#pragma once

#include <set>
#include <string>

#include "ir/expr_text.h"

namespace tilewright {

class SpacePrinter {
 protected:
  explicit SpacePrinter(const ScoreSpace& space) : space_(space) {}

  /// "attention @name(tensors) {", extents and dot terms.
  void print_space(std::string_view keyword);
  /// keep, keep_kv, kv_range and block, those that are there.
  void print_masks();
  void line(std::string_view key, const std::string& value) { text_ += fmt::format("  {:<10} {}\n", key, value); }
  /// "  KEYWORD 64 { query … key … }"
  void dot(std::string_view keyword, const DotTerm& term);
  void region(std::string_view header, const Expr& value, DType root);
  std::string access(const Access& which) const { return print_access(which, space_.tensors); }

  std::string text_;

 private:
  void signature(std::string_view keyword);
  /// "query %q[…]", or the program of its rows, which stand at `position`.
  void operand(std::string_view keyword, std::string_view position, const Access& stored,
               const std::optional<RowProgram>& row);
  /// The Expr, one let a line when it does not fit on one.
  std::string expr(const Expr& value, DType root, size_t indent) const;
  void entry(std::string_view key, const Expr& value, DType root);

  const ScoreSpace& space_;
};

/// Sections come in any order, each once (dot as often as there are terms). `accumulate` must stand before what is of
/// its dtype.
class SpaceParser {
 protected:
  SpaceParser(std::string_view text, ScoreSpace& space) : in_(text), space_(space) {}

  void parse_signature(std::string_view keyword);
  /// The section's name, read over and checked to be new unless it is one of `repeated`.
  std::string parse_key(std::set<std::string, std::less<>> repeated);
  /// False when `key` is no section of a score space.
  bool parse_space_section(const std::string& key);
  void fail_unknown(const std::string& key);
  void expect_sections(std::string_view what, std::initializer_list<const char*> needed);

  DotTerm parse_dot();
  /// "(s; b, h, q, kv) {": the variables are for the reader, always the same, and read over here.
  void parse_header();
  Expr parse_region(DType root);
  ExprContext context(DType root) const { return {root, space_.accumulate}; }

  TextCursor in_;
  std::set<std::string> seen_;

 private:
  void parse_tensor();
  /// An access, or "row(…) { … }".
  void parse_operand(Access& stored, std::optional<RowProgram>& row);
  RowProgram parse_row();
  std::vector<Dim> parse_dims();
  void parse_pair(std::string_view first, Expr& a, std::string_view second, Expr& b, DType root);

  ScoreSpace& space_;
  int key_line_ = 0;
};

}  // namespace tilewright
