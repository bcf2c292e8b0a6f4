// Products outside attention, and a layer made of both.
#include <cmath>

#include "bench/row_context.h"
#include "layers/graph_parts.h"

namespace tilewright::bench {
namespace {

constexpr int64_t kEmbedding = 4096, kHeads = 32, kKvHeads = 8, kHeadDim = 128;

/// [M,K] · [K,N] in f32.
Graph product_graph() {
  GraphBuilder g("product");
  const Dim m = Dim::named("M"), n = Dim::named("N"), k = Dim::named("K");
  const ValueId a = g.param("a", {DType::f32, {m, k}}), b = g.param("b", {DType::f32, {k, n}});
  g.result(g.named(g.matmul(a, b), "c"));
  return g.take();
}

/// x + Wo·attention(rope(Wq·n), rope(Wk·n), Wv·n), n the RMS norm of x [1,S,4096]; causal, 32 query heads on 8.
Graph layer_graph() {
  GraphBuilder g("layer");
  const Dim s = Dim::named("S");
  const auto weight = [&](const char* name, int64_t out, int64_t in) { return g.param(name, {DType::f32, {out, in}}); };
  const ValueId x = g.param("x", {DType::f32, {1, s, kEmbedding}});
  const ValueId cos = g.param("cos", {DType::f32, {s, kHeadDim / 2}});
  const ValueId sin = g.param("sin", {DType::f32, {s, kHeadDim / 2}});
  const ValueId n = rms_norm(g, x, g.param("norm", {DType::f32, {kEmbedding}}));
  const ValueId q = split_heads(g, linear(g, n, weight("wq", kHeads * kHeadDim, kEmbedding)), kHeads);
  const ValueId k = split_heads(g, linear(g, n, weight("wk", kKvHeads * kHeadDim, kEmbedding)), kKvHeads);
  const ValueId v = split_heads(g, linear(g, n, weight("wv", kKvHeads * kHeadDim, kEmbedding)), kKvHeads);
  AttentionForm form;
  form.scale = 1 / std::sqrt(static_cast<double>(kHeadDim));
  form.causal = true;
  const ValueId o = attention(g, rope(g, q, cos, sin, RopeLayout::rotate_half),
                              rope(g, k, cos, sin, RopeLayout::rotate_half), v, form)
                        .output;
  const ValueId y = linear(g, merge_heads(g, o), weight("wo", kEmbedding, kHeads * kHeadDim));
  g.result(g.named(g.binary(Op::add, x, y), "y"));
  return g.take();
}

double layer_flops(double s) {
  const double projections = 2 * s * kEmbedding * (2.0 * kHeads + 2.0 * kKvHeads) * kHeadDim;
  return projections + 4.0 * kHeads * kHeadDim * s * s / 2;
}

/// One row of A: B is read once, so the limit is a plain read loop over it.
Result<Done> stream_row(const RowContext& context, const std::string& group, bool threads) {
  const std::string name = fmt::format("1 x 4096 x 4096, {}, of a read loop", threads ? "2 threads" : "1 thread");
  if (!context.wanted(group, name)) return Done{};
  Row row{.group = group, .name = name, .target = 90, .unit = "%"};
  const auto subject = context.compile(product_graph(), {{"M", 1}, {"N", 4096}, {"K", 4096}});
  if (!subject) return subject.error();
  if (!context.runs_on(row, *subject, {CpuTemplate::matvec})) return Done{};
  const auto& executor = threads ? context.two : context.one;
  const TimeOf clock = threads ? TimeOf::wall : TimeOf::thread;
  const TensorView& b = subject->inputs()[1];
  const std::vector<MemoryRange> range = {{b.data, b.element_count() * size_of(b.dtype)}};
  subject->run(executor);
  const auto series = measure_interleaved(
      {[&] { return subject->run(executor, clock); }, [&] { return time_read(range, *executor, clock); }},
      context.budget());
  const auto bytes = static_cast<double>(range[0].bytes);
  const double own = series[0].median(), read = series[1].median();
  row.measured = fmt::format("{:.1f} GB/s", bytes / own * 1e-9);
  row.limit = fmt::format("read loop {:.1f}", bytes / read * 1e-9);
  row.value = 100 * read / own;
  row.spread = series[0].spread();
  context.emit(row);
  return Done{};
}

}  // namespace

Result<Done> matmul_rows(const RowContext& context) {
  const std::string group = "matmul f32";
  const DimBindings cube = {{"M", 1024}, {"N", 1024}, {"K", 1024}};
  Row row{.group = group, .name = "1024 x 1024 x 1024", .target = 75};
  if (context.wanted(row.group, row.name))
    if (auto ok = context.share_of_peak(row, product_graph(), cube, 2.0 * 1024 * 1024 * 1024, {CpuTemplate::matmul});
        !ok)
      return ok;
  row = {.group = group, .name = "1024 x 1024 x 1024, 2 threads", .target = 1.9};
  if (context.wanted(row.group, row.name))
    if (auto ok = context.two_threads(row, product_graph(), cube, {CpuTemplate::matmul}); !ok) return ok;
  for (const bool threads : {false, true})
    if (auto ok = stream_row(context, group, threads); !ok) return ok;
  row = {.group = "whole layer forward f32, 1 thread", .name = "E4096 32/8 heads S1024 causal", .target = 70};
  if (!context.wanted(row.group, row.name)) return Done{};
  return context.share_of_peak(row, layer_graph(), {{"S", 1024}}, layer_flops(1024),
                               {CpuTemplate::matmul, CpuTemplate::prefill});
}

}  // namespace tilewright::bench
