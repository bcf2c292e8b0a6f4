// The decode kernels on mma.sync: the instantiation of device/decode.cuh, and its two phases.
#include "codegen/cuda/templates.h"
#include "codegen/cuda/variant_writer.h"
#include "compiler/plan_cuda_decode.h"
#include "ir/result.h"

namespace tilewright::cuda {
namespace {

constexpr int64_t kCombineThreads = 128;

/// Whether block tests of the query heads of a group may differ.
bool range_depends_on_head(const KvRange& range) {
  for (const Expr* expr : {&range.begin, &range.end, &range.skip, &range.full}) {
    const auto depends = dependencies(*expr);
    if (!depends.empty() && depends[static_cast<size_t>(raw(expr->root()))] & bit(Axis::h)) return true;
  }
  return false;
}

}  // namespace

Result<CudaSource> generate_decode(const WorkspaceRows& rows, const CudaSchedule& s, const CudaTarget& target,
                                   const std::string& symbol_prefix) {
  const TileProgram& program = rows.program;
  if (auto legal = validate_cuda_decode(program, s, target); !legal) return legal.error();
  const AttentionSpec& spec = program.spec;
  const std::string attend = symbol_prefix + "_decode", combine = symbol_prefix + "_combine";
  CudaSource source;
  source.primitives = CudaPrimitives::sm80;
  source.parts = {std::string(device_file("math.cuh")), write_attention_text(program, rows.step)};
  for (const char* file : {"recurrence.cuh", "tensor_tiles.cuh", "mma_attention.cuh", "decode.cuh"})
    source.parts.push_back("\n" + std::string(device_file(file)));
  source.parts.push_back(fmt::format(
      "\n{}typedef Decode<Variant, {}, {}, {}, {}, Parts, {}> Kernel;\n"
      "TW_KERNEL({}, 1) {}(TW_PARAM Args args) {{ Kernel::attend(args); }}\n"
      "TW_KERNEL({}, 1) {}(TW_PARAM Args args) {{ Kernel::combine(args); }}\n",
      write_sm80_parts(program, s), s.block_kv, s.warps, s.stages, s.split_kv,
      spec.head_group > 1 && range_depends_on_head(spec.kv_range), 32 * s.warps, attend, kCombineThreads, combine));
  source.launch.schedule = s;
  source.launch.phases.push_back(
      {attend, cuda_decode_blocks(spec, s), 32 * s.warps, cuda_decode_shared_bytes(spec, s), {}});
  source.launch.phases.push_back({combine, cuda_decode_combined_rows(spec, s), kCombineThreads, 0, {}});
  source.launch.workspace_bytes = cuda_decode_workspace_bytes(spec, s);
  return source;
}

}  // namespace tilewright::cuda
