// The phase that computes rows of Q and K before a template reads them: the instantiation of device/computed_rows.cuh.
#include "codegen/cuda/templates.h"
#include "ir/result.h"

namespace tilewright::cuda {
namespace {

constexpr int64_t kWarps = 4;

}  // namespace

void add_row_phase(CudaSource& source, const WorkspaceRows& rows, const std::string& symbol_prefix) {
  if (rows.tensors.empty()) return;
  const std::string symbol = symbol_prefix + "_rows";
  source.parts.push_back("\n" + std::string(device_file("computed_rows.cuh")));
  source.parts.push_back(
      fmt::format("\nTW_KERNEL({}, 1) {}(TW_PARAM Args args) {{ compute_rows<Variant, {}, {}, {}>(args); }}\n",
                  32 * kWarps, symbol, rows.has_query(), rows.has_key(), kWarps));
  Expr blocks;
  const auto apply = [&](Op op, ExprId a, ExprId b) { return blocks.op(op, DType::i64, {a, b}); };
  const auto constant = [&](int64_t value) { return blocks.constant_int(value, DType::i64); };
  ExprId count = constant(kWarps - 1);
  if (rows.has_query()) count = apply(Op::add, count, blocks.import(item_count(rows.step, 1)));
  if (rows.has_key()) count = apply(Op::add, count, blocks.import(packed_blocks(rows.step, 1, 1)));
  blocks.set_root(apply(Op::div, count, constant(kWarps)));
  auto& phases = source.launch.phases;
  phases.insert(phases.begin(), {symbol, std::move(blocks), 32 * kWarps, 0, {}});

  Expr& bytes = source.launch.workspace_bytes;
  bytes.set_root(bytes.op(Op::add, DType::i64, {bytes.root(), bytes.import(rows.bytes)}));
  source.launch.workspace_tensors = rows.tensors;
}

}  // namespace tilewright::cuda
