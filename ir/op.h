// The op table as an enum and its facts. The rows live in ops.def.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tilewright {

enum class Op : uint8_t {
#define TW_OP(name, min, max, group, doc) name,
#include "ir/ops.def"
#undef TW_OP
};

enum class OpGroup : uint8_t { leaf, pointwise, view, reduce, contract, sugar };

struct OpInfo {
  Op op;
  std::string_view name;  ///< spelling in the textual IR
  int min_operands;
  int max_operands;
  OpGroup group;
  std::string_view meaning;
};

const OpInfo& info(Op op);
std::optional<Op> parse_op(std::string_view name);
/// Number of rows of ops.def; ops are 0 … op_count() - 1.
int op_count();

}  // namespace tilewright
