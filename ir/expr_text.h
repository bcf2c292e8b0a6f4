// Text of Exprs: the grammar that regions, accesses and ranges share.
//
//   expr   = { "let" name "=" term ";" } term
//   term   = literal | dtype "(" literal ")" | axis | "s" | name
//          | "dim" "(" dim ")" | "index" "(" axis "," dtype ")" | "score" "(" dtype ")"
//          | op "(" term, … [ "," dtype ] ")"           dtype is the result's where it does not follow
//          | %tensor "[" term, … "]"                     indices known to lie inside
//          | "clamped" %tensor "[" term, … "]"           indices clamped to the tensor
//          | ("load_min" | "load_max") %tensor "[" term ":" term, … "]"    over an inclusive box
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ir/attention_spec.h"
#include "ir/text_cursor.h"

namespace tilewright {

/// What is known where an Expr stands.
struct ExprContext {
  std::optional<DType> root;   ///< of a literal that is the whole Expr
  std::optional<DType> score;  ///< of `s`
};

std::string print_expr(const Expr& expr, std::span<const SpecTensor> tensors, const ExprContext& context);
/// "%k[b, div(h, 4), kv, d]"
std::string print_access(const Access& access, std::span<const SpecTensor> tensors);

/// Errors go to the cursor; the result is then meaningless.
Expr parse_expr(TextCursor& in, std::span<const SpecTensor> tensors, const ExprContext& context);
Access parse_access(TextCursor& in, std::span<const SpecTensor> tensors);

/// dtype of an op on args of these dtypes; cast has none of its own.
DType op_result_dtype(Op op, std::span<const DType> args);

}  // namespace tilewright
