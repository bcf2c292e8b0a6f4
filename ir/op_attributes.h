// Which attributes each op has in the text. Parser, printer and docs/ir.md's test share this table.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "ir/op.h"

namespace tilewright {

enum class AttributeKind : uint8_t {
  axis,
  keepdims,
  perm,
  begin,
  end,
  times,
  left,
  right,
  cap,
  align,
  rate,
  sink,
  slopes,
  q_offset,
  seed,
  offset  ///< from sink on they name operands
};

struct AttributeRule {
  AttributeKind kind;
  bool required;
};

std::string_view to_string(AttributeKind kind);
std::optional<AttributeKind> parse_attribute_kind(std::string_view text);
/// In printing order. Of `align` and `q_offset`, ops that have both need exactly one.
std::span<const AttributeRule> attributes_of(Op op);
/// Position among the node's operands of an operand that is written as an attribute; 0 for the other kinds.
size_t operand_position(Op op, AttributeKind kind);

}  // namespace tilewright
