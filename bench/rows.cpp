#include "bench/rows.h"

#include "bench/row_context.h"

namespace tilewright::bench {

Result<Done> measure_rows(const Engine& engine, const RowOptions& options,
                          const std::function<void(const Row&)>& sink) {
  RowContext context(engine, options, sink);
  for (const auto rows : {speed_rows, thread_rows, backward_rows, mask_rows, modification_rows, rotation_rows,
                          decode_rows, matmul_rows, compile_rows, memory_rows})
    if (auto ok = rows(context); !ok) return ok;
  return Done{};
}

}  // namespace tilewright::bench
