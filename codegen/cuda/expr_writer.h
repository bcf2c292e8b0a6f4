// An Expr as CUDA text: the lines of one function body. Values that are used once are written where they are used; what
// is shared, loaded or costly gets a name of its own, so that nothing of it sits in an arm that may not run.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "codegen/cuda/device_names.h"
#include "compiler/simplify_range.h"
#include "ir/expr.h"

namespace tilewright::cuda {

/// What a function calls its axes; empty for those that it does not have. Each is an i32 within [0, 2^30).
class AxisNames {
 public:
  AxisNames() = default;
  AxisNames(std::initializer_list<std::pair<Axis, std::string>> names) {
    for (const auto& [axis, name] : names) set(axis, name);
  }
  void set(Axis axis, std::string name) { names_[static_cast<size_t>(axis)] = std::move(name); }
  const std::string& operator[](Axis axis) const { return names_[static_cast<size_t>(axis)]; }
  /// "i32 b, i32 h, …" and "b, h, …" in the order of the axes.
  std::string parameters() const;

 private:
  std::array<std::string, 16> names_;
};

/// The text of a value, how tightly it binds (C++ precedence, 1 = a name), and what it is held in.
struct Term {
  enum Kind : uint8_t { boolean, i32, i64, f32, f64 };
  std::string text;
  int precedence = 1;
  Kind kind = i32;
};

struct WrittenRoots {
  std::string lines;        ///< definitions, indented by two blanks
  std::vector<Term> roots;  ///< in the order asked for
};

/// Products are called "s" and "t". Integers of declared type i64 whose range provably fits are held in i32: named dims
/// and axes lie below 2^30 (docs/gpu.md).
WrittenRoots write_roots(DeviceNames& names, const AxisNames& axes, const Expr& expr, const std::vector<ExprId>& roots);
/// Definitions and "return …;" of the root of `expr`, converted to the value type of `result`.
std::string write_body(DeviceNames& names, const AxisNames& axes, const Expr& expr, DType result);
/// i32 where it provably fits, else i64.
Term write_dim(const DeviceNames& names, const Dim& dim);

/// `term` as an operand of something that binds with `precedence`.
std::string within(const Term& term, int precedence);
Term converted(Term term, Term::Kind to);
/// Lines two blanks further in.
std::string indented(std::string_view lines);
/// A literal that reads back to the bit: "0.125f", "neg_inf()".
Term real_literal(double value, Term::Kind kind);

/// Inclusive ranges of all integer and bool nodes as device code sees them.
std::vector<IntRange> device_ranges(const Expr& expr);

}  // namespace tilewright::cuda
