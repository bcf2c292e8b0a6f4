// What this machine gives at most. Rows without a bar: everything else is judged against limits measured in turn with
// it, these show the machine's state and stand beside the figures of the published ones.
#include <algorithm>

#include "bench/published.h"
#include "bench/row_context.h"

namespace tilewright::bench {
namespace {

/// Emits the row with `rate` measured again and again.
void measure_limit(const RowContext& context, Row row, const std::function<double()>& rate) {
  const auto series = measure_interleaved({rate}, {std::min(context.budget().seconds, 1.0), 5, 50});
  row.value = series[0].figure();
  if (const PublishedLimit* published = published_limit(row.name))
    row.note = fmt::format("{:g} {} on the machine of the published figures", published->figure, published->unit);
  context.emit(row);
}

std::string threads_text(int threads) { return threads == 1 ? "1 thread" : fmt::format("{} threads", threads); }

}  // namespace

Result<Done> limit_rows(const RowContext& context) {
  if (context.plan_only()) return Done{};
  const CpuTarget& target = context.engine.target();
  for (const auto& executor : {context.one, context.two}) {
    const TimeOf clock = executor->workers() == 1 ? TimeOf::thread : TimeOf::wall;
    const std::string threads = threads_text(executor->workers());
    Row fma{.group = "limits of this machine", .name = "FMA peak f32, " + threads, .unit = "GFLOP/s"};
    if (context.wanted(fma))
      measure_limit(context, fma, [&] { return measure_fma_peak(target.isa, DType::f32, *executor, 0.1, clock); });
    Row amx{.group = fma.group, .name = "AMX peak bf16, " + threads, .unit = "GFLOP/s"};
    if (context.wanted(amx) && context.on_amx(amx))
      measure_limit(context, amx, [&] { return measure_amx_peak(target, *executor, 0.1, clock); });
    for (const int64_t megabytes : {17, 256}) {
      Row read{.group = fma.group, .name = fmt::format("read loop, {} MB, {}", megabytes, threads), .unit = "GB/s"};
      if (!context.wanted(read)) continue;
      auto buffer = make_tensor(DType::f32, {megabytes << 18});
      if (!buffer) return buffer.error();
      const MemoryRange range{buffer->view.data, megabytes << 20};
      std::fill_n(static_cast<float*>(buffer->view.data), megabytes << 18, 1.0f);  // so that the pages are there
      measure_limit(context, read,
                    [&] { return static_cast<double>(range.bytes) / time_read({&range, 1}, *executor, clock) * 1e-9; });
    }
  }
  return Done{};
}

}  // namespace tilewright::bench
