// Decode against a plain read loop over the same K and V.
#include "bench/row_context.h"

namespace tilewright::bench {

Result<Done> decode_rows(const RowContext& context) {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t batch : {1, 8})
      for (const bool threads : {false, true}) {
        const bool on_tiles = dtype == DType::bf16 && context.engine.target().has_tiles();
        Row row{.group = "decode 32/8 d128 Sk 8192, of a read loop",
                .name = fmt::format("{} B{}, {}", to_string(dtype), batch, threads ? "2 threads" : "1 thread"),
                .bar = Bar{on_tiles ? 95.0 : 90.0}};  // tiles leave the scores no excuse
        if (!context.wanted(row)) continue;
        const RowKernel kernel{attention_graph({dtype, 32, 8, 128}, Scores::plain),
                               {{"B", batch}, {"Sq", 1}, {"Sk", 8192}},
                               {on_tiles ? CpuTemplate::amx_decode : CpuTemplate::decode}};
        const auto subject = context.subject(row, kernel, threads ? 2 : 1);
        if (!subject) return subject.error();
        if (!*subject) continue;
        std::vector<MemoryRange> ranges;
        for (const size_t i : {size_t{1}, size_t{2}}) {
          const TensorView& view = (*subject)->inputs()[i];
          ranges.push_back({view.data, view.element_count() * size_of(view.dtype)});
        }
        context.share_of_reads(row, **subject, ranges, threads);
      }
  return Done{};
}

}  // namespace tilewright::bench
