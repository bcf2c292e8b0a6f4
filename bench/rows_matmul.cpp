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
Result<Done> stream_row(const RowContext& context, bool threads) {
  Row row{.group = "matmul f32",
          .name = fmt::format("1 x 4096 x 4096, {}", threads ? "2 threads" : "1 thread"),
          .bar = Bar{90}};
  if (!context.wanted(row)) return Done{};
  const RowKernel kernel{product_graph(), {{"M", 1}, {"N", 4096}, {"K", 4096}}, {CpuTemplate::matvec}};
  const auto subject = context.subject(row, kernel, threads ? 2 : 1);
  if (!subject) return subject.error();
  if (!*subject) return Done{};
  const TensorView& b = (*subject)->inputs()[1];
  const MemoryRange range{b.data, b.element_count() * size_of(b.dtype)};
  context.share_of_reads(row, **subject, {&range, 1}, threads);
  return Done{};
}

}  // namespace

Result<Done> matmul_rows(const RowContext& context) {
  const RowKernel cube{product_graph(), {{"M", 1024}, {"N", 1024}, {"K", 1024}}, {CpuTemplate::matmul}};
  const double flops = 2.0 * 1024 * 1024 * 1024;
  Row row{.group = "matmul f32", .name = "1024 x 1024 x 1024", .bar = Bar{75}};
  if (context.wanted(row))
    if (auto ok = context.share_of_peak(row, cube, flops); !ok) return ok;
  row = {.group = row.group, .name = "1024 x 1024 x 1024, 2 threads", .bar = Bar{1.9}};
  if (context.wanted(row))
    if (auto ok = context.two_threads(row, cube, flops); !ok) return ok;
  for (const bool threads : {false, true})
    if (auto ok = stream_row(context, threads); !ok) return ok;
  row = {.group = "whole layer forward f32, 1 thread", .name = "E4096 32/8 heads S1024 causal", .bar = Bar{70}};
  if (!context.wanted(row)) return Done{};
  return context.share_of_peak(row, {layer_graph(), {{"S", 1024}}, {CpuTemplate::matmul, CpuTemplate::prefill}},
                               layer_flops(1024));
}

}  // namespace tilewright::bench
