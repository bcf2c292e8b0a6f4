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

/// What runs the first contraction.
std::string contraction(const Subject& subject) {
  const auto choices = subject.kernel().choices(subject.dims());
  TW_CHECK(choices.ok());
  const auto& reports = subject.kernel().stats().step_reports;
  for (size_t i = 0; i < reports.size(); ++i) {
    const CpuTemplate kernel = reports[i].schedules[(*choices)[i]].kernel;
    if (kernel == CpuTemplate::matmul || kernel == CpuTemplate::matvec) return std::string(to_string(kernel));
  }
  return "none";
}

Result<Done> speed_row(const RowContext& context, const std::string& group, const std::string& name, Graph graph,
                       DimBindings dims, double flops, double target) {
  if (!context.wanted(group, name)) return Done{};
  const auto subject = Subject::create(context.engine, std::move(graph), std::move(dims));
  if (!subject) return subject.error();
  context.run_one(*subject);
  const auto series = measure_interleaved(
      {[&] { return context.run_one(*subject); }, [&] { return context.fma_peak_of_one(); }}, context.budget());
  const double rate = flops / series[0].median() * 1e-9, peak = series[1].median();
  Row row{group,
          name,
          fmt::format("{:.1f} GFLOP/s", rate),
          fmt::format("FMA peak {:.1f}", peak),
          100 * rate / peak,
          target,
          true,
          "%",
          series[0].spread()};
  row.kernel = contraction(*subject);
  context.emit(row);
  return Done{};
}

Result<Done> thread_row(const RowContext& context, const std::string& group) {
  const std::string name = "1024 x 1024 x 1024, 2 threads";
  if (!context.wanted(group, name)) return Done{};
  const auto subject = Subject::create(context.engine, product_graph(), {{"M", 1024}, {"N", 1024}, {"K", 1024}});
  if (!subject) return subject.error();
  subject->run(context.two);
  const auto series = measure_interleaved(
      {[&] { return subject->run(context.two); }, [&] { return subject->run(context.one); }}, context.budget());
  Row row{group,
          name,
          fmt::format("{:.1f} ms", series[0].median() * 1e3),
          fmt::format("one thread {:.1f} ms", series[1].median() * 1e3),
          series[1].median() / series[0].median(),
          1.9,
          true,
          "x",
          series[0].spread()};
  row.kernel = contraction(*subject);
  context.emit(row);
  return Done{};
}

/// One row of A: B is read once, so the limit is a plain read loop over it.
Result<Done> stream_row(const RowContext& context, const std::string& group, bool threads) {
  const std::string name = fmt::format("1 x 4096 x 4096, {}, of a read loop", threads ? "2 threads" : "1 thread");
  if (!context.wanted(group, name)) return Done{};
  const auto subject = Subject::create(context.engine, product_graph(), {{"M", 1}, {"N", 4096}, {"K", 4096}});
  if (!subject) return subject.error();
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
  Row row{group,
          name,
          fmt::format("{:.1f} GB/s", bytes / own * 1e-9),
          fmt::format("read loop {:.1f}", bytes / read * 1e-9),
          100 * read / own,
          90,
          true,
          "%",
          series[0].spread()};
  row.kernel = contraction(*subject);
  context.emit(row);
  return Done{};
}

}  // namespace

Result<Done> matmul_rows(const RowContext& context) {
  const std::string group = "matmul f32";
  if (auto ok = speed_row(context, group, "1024 x 1024 x 1024", product_graph(),
                          {{"M", 1024}, {"N", 1024}, {"K", 1024}}, 2.0 * 1024 * 1024 * 1024, 75);
      !ok)
    return ok;
  if (auto ok = thread_row(context, group); !ok) return ok;
  for (const bool threads : {false, true})
    if (auto ok = stream_row(context, group, threads); !ok) return ok;
  return speed_row(context, "whole layer forward f32, 1 thread", "E4096 32/8 heads S1024 causal", layer_graph(),
                   {{"S", 1024}}, layer_flops(1024), 70);
}

}  // namespace tilewright::bench
