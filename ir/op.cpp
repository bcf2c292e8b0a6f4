#include "ir/op.h"

#include <array>

namespace tilewright {
namespace {
constexpr std::array kOps = {
#define TW_OP(name, min, max, group, doc) OpInfo{Op::name, #name, min, max, OpGroup::group, doc},
#include "ir/ops.def"
#undef TW_OP
};
}  // namespace

const OpInfo& info(Op op) { return kOps[static_cast<size_t>(op)]; }
int op_count() { return static_cast<int>(kOps.size()); }

std::optional<Op> parse_op(std::string_view name) {
  for (const OpInfo& row : kOps)
    if (row.name == name) return row.op;
  return std::nullopt;
}

}  // namespace tilewright
