// Decode against a plain read loop over the same K and V.
#include "bench/row_context.h"

namespace tilewright::bench {

Result<Done> decode_rows(const RowContext& context) {
  const std::string group = "decode 32/8 d128 Sk 8192, of a read loop";
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t batch : {1, 8})
      for (const bool threads : {false, true}) {
        const std::string name = fmt::format("{} B{}, {}", to_string(dtype), batch, threads ? "2 threads" : "1 thread");
        if (!context.wanted(group, name)) continue;
        const auto subject = context.compile(attention_graph({dtype, 32, 8, 128}, Scores::plain),
                                             {{"B", batch}, {"Sq", 1}, {"Sk", 8192}});
        if (!subject) return subject.error();
        const auto& executor = threads ? context.two : context.one;
        const TimeOf clock = threads ? TimeOf::wall : TimeOf::thread;
        std::vector<MemoryRange> ranges;
        for (const size_t i : {size_t{1}, size_t{2}}) {
          const TensorView& view = subject->inputs()[i];
          ranges.push_back({view.data, view.element_count() * size_of(view.dtype)});
        }
        const double bytes = static_cast<double>(ranges[0].bytes + ranges[1].bytes);
        subject->run(executor);
        const auto series = measure_interleaved(
            {[&] { return subject->run(executor, clock); }, [&] { return time_read(ranges, *executor, clock); }},
            context.budget());
        const double own = series[0].median(), read = series[1].median();
        Row row{group,
                name,
                fmt::format("{:.1f} GB/s", bytes / own * 1e-9),
                fmt::format("read loop {:.1f}", bytes / read * 1e-9),
                100 * read / own,
                90,
                true,
                "%",
                series[0].spread()};
        RowContext::expect(row, *subject, CpuTemplate::decode);
        context.emit(row);
      }
  return Done{};
}

}  // namespace tilewright::bench
