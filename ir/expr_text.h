// Text of Exprs: the grammar that regions, accesses and ranges share.
//
//   expr   = { "let" name "=" term ";" } term
//   term   = literal | dtype "(" literal ")" | axis | "s" | "t" | name
//          | "dim" "(" dim ")" | "index" "(" axis "," dtype ")" | ("s" | "t") "(" dtype ")"
//          | op "(" term, … [ "," dtype ] ")"           dtype is the result's where it does not follow
//          | %tensor "[" term, … "]"                     indices known to lie inside
//          | "clamped" %tensor "[" term, … "]"           indices clamped to the tensor
//          | ("load_min" | "load_max") %tensor "[" term ":" term, … "]"    over an inclusive box
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ir/score_space.h"
#include "ir/text_cursor.h"

namespace tilewright {

/// What is known where an Expr stands.
struct ExprContext {
  std::optional<DType> root;   ///< of a literal that is the whole Expr
  std::optional<DType> score;  ///< of `s` and `t`
};

std::string print_expr(const Expr& expr, std::span<const SpecTensor> tensors, const ExprContext& context);
/// "%k[b, div(h, 4), kv, d]"
std::string print_access(const Access& access, std::span<const SpecTensor> tensors);

/// Errors go to the cursor; the result is then meaningless.
Expr parse_expr(TextCursor& in, std::span<const SpecTensor> tensors, const ExprContext& context);
Access parse_access(TextCursor& in, std::span<const SpecTensor> tensors);

/// A DAG of several roots: lets to which later sections refer.
struct NamedExpr {
  Expr expr;
  std::map<std::string, ExprId, std::less<>> names;
};
/// "let name = term;" as often as there are any.
NamedExpr parse_lets(TextCursor& in, std::span<const SpecTensor> tensors, const ExprContext& context);
/// One more term over these names, added to the Expr: mostly a name alone.
ExprId parse_term(TextCursor& in, NamedExpr& scope, std::span<const SpecTensor> tensors, const ExprContext& context);

/// The inverse: one let for each root with operands and for each shared part, and how the roots are then written,
/// as literals of the dtype that `root_types` names.
struct PrintedLets {
  std::vector<std::string> lets;   ///< "let x0 = mul(s, 0.125);"
  std::vector<std::string> roots;  ///< "x0", "h", "0"
};
struct TypedRoot {
  ExprId id;
  DType literal;  ///< of a root that is a bare literal
};
PrintedLets print_lets(const Expr& expr, std::span<const TypedRoot> roots, std::span<const SpecTensor> tensors,
                       const ExprContext& context);

/// dtype of an op on args of these dtypes; cast has none of its own.
DType op_result_dtype(Op op, std::span<const DType> args);

}  // namespace tilewright
