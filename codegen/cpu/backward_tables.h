// Captured sums that were added up in dense tables of the accumulation type in the workspace.
#pragma once

#include "codegen/cpu/llvm_builder.h"

namespace tilewright::cpu {

/// Captured sums that several items reach are added up in this many partial tables, each by a fixed list of items in
/// order; those are then added in order, so that the result does not depend on the number of workers.
constexpr int64_t kPartialTables = 8;

/// Emits the kernel `symbol`: the output of sum `captured` is the sum of `tables` dense tables, one after another from
/// byte `table_at` of the workspace. Items are table_rows().
void emit_table_sum(LlvmBuilder& b, const BackwardSpec& spec, const std::string& symbol, size_t captured,
                    const Expr& table_at, int64_t tables);

/// Elements of the output, its last axis left out.
Expr table_rows(const BackwardSpec& spec, size_t captured);

/// Bytes that `tables` tables take, with a line to spare: sums into a tensor without elements land there.
Expr table_bytes(const BackwardSpec& spec, size_t captured, int64_t tables);

}  // namespace tilewright::cpu
