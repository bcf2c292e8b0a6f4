#include "compiler/cuda_generic_layout.h"

#include <set>

namespace tilewright {

int64_t tile_columns(const TileProgram& program, const CudaSchedule& schedule, TileShape shape) {
  switch (shape) {
    case TileShape::column: return 1;
    case TileShape::tile_qk: return schedule.block_kv;
    case TileShape::tile_qv: break;
  }
  return program.spec.value_dim;
}

GenericCudaLayout generic_cuda_layout(const TileProgram& program, const CudaSchedule& schedule) {
  GenericCudaLayout layout;
  const int64_t element = size_of(program.spec.accumulate);
  for (const DotTerm& dot : program.spec.dots) layout.head_dim += dot.head_dim;
  // A row is padded by one element (device/generic_tiles.cuh).
  const auto place = [&](int64_t rows, int64_t columns) {
    const int64_t at = layout.bytes;
    layout.bytes += (rows * (columns == 1 ? 1 : columns + 1) * element + 15) / 16 * 16;
    return at;
  };
  std::set<int> used;
  for (const auto* code : {&program.init, &program.step, &program.finish})
    for (const TileInst& inst : *code) used.insert({inst.dst, inst.a, inst.b});
  for (size_t i = 0; i < program.values.size(); ++i) {
    const bool here = used.contains(static_cast<int>(i));
    const int64_t columns = tile_columns(program, schedule, program.values[i].shape);
    layout.values.push_back(here ? place(schedule.block_q, columns) : -1);
  }
  layout.queries = place(schedule.block_q, layout.head_dim);
  layout.keys = place(schedule.block_kv, layout.head_dim);
  layout.value_rows = place(schedule.block_kv, program.spec.value_dim);
  return layout;
}

}  // namespace tilewright
