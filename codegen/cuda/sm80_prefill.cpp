// The prefill kernel on mma.sync: the instantiation of device/sm80_prefill.cuh, and its launch.
#include "codegen/cuda/templates.h"
#include "codegen/cuda/variant_writer.h"
#include "compiler/plan_sm80_prefill.h"
#include "ir/result.h"

namespace tilewright::cuda {

std::string write_sm80_parts(const TileProgram& program, const CudaSchedule& schedule) {
  const Sm80Parts parts = sm80_parts(program.spec, schedule.products);
  return fmt::format("struct Parts {{\n  static constexpr int kQuery = {}, kWeight = {}, kValue = {};\n}};\n",
                     parts.query, parts.weight, parts.value);
}

Result<CudaSource> generate_sm80_prefill(const WorkspaceRows& rows, const CudaSchedule& schedule,
                                         const CudaTarget& target, const std::string& symbol_prefix) {
  const TileProgram& program = rows.program;
  if (auto legal = validate_sm80_prefill(program, schedule, target); !legal) return legal.error();
  const AttentionSpec& spec = program.spec;
  const std::string symbol = symbol_prefix + "_sm80_prefill";
  const std::string kernel = fmt::format(
      "\n{}TW_KERNEL({}, 1) {}(TW_PARAM Args args) {{\n  Sm80Prefill<Variant, {}, {}, {}, {}, Parts>::run(args);\n}}\n",
      write_sm80_parts(program, schedule), 32 * schedule.warps, symbol, schedule.block_q, schedule.block_kv,
      schedule.warps, schedule.stages);
  CudaSource source;
  source.primitives = CudaPrimitives::sm80;
  source.parts = {std::string(device_file("math.cuh")), write_attention_text(program, rows.step)};
  for (const char* file :
       {"recurrence.cuh", "tensor_tiles.cuh", "mma_attention.cuh", "whole_rows.cuh", "sm80_prefill.cuh"})
    source.parts.push_back("\n" + std::string(device_file(file)));
  source.parts.push_back(kernel);
  source.launch.schedule = schedule;
  source.launch.phases.push_back(
      {symbol, item_count(spec, schedule.block_q), 32 * schedule.warps, sm80_prefill_shared_bytes(spec, schedule), {}});
  source.launch.workspace_bytes = zero_bytes();
  return source;
}

}  // namespace tilewright::cuda
