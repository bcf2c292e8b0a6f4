// What RoPE and QK-norms cost where attention computes them while it packs, over the steps of their own that they are
// when their results are wanted, too.
#include <cmath>

#include "bench/row_context.h"
#include "layers/graph_parts.h"

namespace tilewright::bench {
namespace {

struct RotatedCase {
  const char* name;
  RopeLayout layout;
  bool norm;
};

/// [B,8,S,64] self-attention of rotated Q and K, causal; `returned`: the rotated values are results.
Graph rotated_graph(const RotatedCase& test, bool returned) {
  const Dim batch = Dim::named("B"), length = Dim::named("S");
  constexpr int64_t kRotatedHeads = 8, kRotatedHeadDim = 64;
  GraphBuilder g("rotated");
  const auto param = [&](const char* name, Shape shape) { return g.param(name, {DType::f32, std::move(shape)}); };
  const auto operand = [&](const char* name) { return param(name, {batch, kRotatedHeads, length, kRotatedHeadDim}); };
  ValueId q = operand("q"), k = operand("k");
  const ValueId v = operand("v");
  if (test.norm) {
    q = rms_norm(g, q, param("wq", {kRotatedHeadDim}));
    k = rms_norm(g, k, param("wk", {kRotatedHeadDim}));
  }
  const ValueId cos = param("cos", {length, kRotatedHeadDim / 2}), sin = param("sin", {length, kRotatedHeadDim / 2});
  q = rope(g, q, cos, sin, test.layout);
  k = rope(g, k, cos, sin, test.layout);
  AttentionForm form;
  form.scale = 0.125;
  form.causal = true;
  g.result(g.named(attention(g, q, k, v, form).output, "o"));
  if (returned) {
    g.result(q);
    g.result(k);
  }
  return g.take();
}

}  // namespace

Result<Done> rotation_rows(const RowContext& context) {
  for (const RotatedCase& test :
       {RotatedCase{"halves", RopeLayout::rotate_half, false}, RotatedCase{"pairs", RopeLayout::interleaved, false},
        RotatedCase{"QK-norm and halves", RopeLayout::rotate_half, true}}) {
    for (const int64_t length : {256, 2048}) {
      Row row{.group = "RoPE in the packing, over steps of its own",
              .name = fmt::format("{} S{}", test.name, length),
              .unit = "x",
              .bar = Bar{1, false}};
      if (!context.wanted(row)) continue;
      const DimBindings dims = {{"B", 1}, {"S", length}};
      const auto subject = context.subject(row, {rotated_graph(test, false), dims, {CpuTemplate::prefill}});
      if (!subject) return subject.error();
      if (!*subject) continue;
      const Subject& fused = **subject;
      const auto apart = context.yardstick({rotated_graph(test, true), dims, {}});
      if (!apart) return apart.error();
      context.run_one(fused);
      context.run_one(*apart);
      const auto series = measure_interleaved(
          {[&] { return context.run_one(fused); }, [&] { return context.run_one(*apart); }}, context.budget());
      const auto &own = series[0].values, &other = series[1].values;
      row.ms = milliseconds(series[0]);
      row.work = fused.work().flops;
      row.rate_unit = "GFLOP/s";
      set_time_limit(row, "own steps", series[1]);
      row.value = figure_of(own.size(), [&](size_t i) { return own[i] / other[i]; });
      context.emit(row);
    }
  }
  return Done{};
}

}  // namespace tilewright::bench
