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
  const std::string group = "RoPE in the packing, over steps of its own";
  for (const RotatedCase& test :
       {RotatedCase{"halves", RopeLayout::rotate_half, false}, RotatedCase{"pairs", RopeLayout::interleaved, false},
        RotatedCase{"QK-norm and halves", RopeLayout::rotate_half, true}}) {
    for (const int64_t length : {256, 2048}) {
      const std::string name = fmt::format("{} S{}", test.name, length);
      if (!context.wanted(group, name)) continue;
      const DimBindings dims = {{"B", 1}, {"S", length}};
      const auto fused = Subject::create(context.engine, rotated_graph(test, false), dims);
      if (!fused) return fused.error();
      const auto apart = Subject::create(context.engine, rotated_graph(test, true), dims);
      if (!apart) return apart.error();
      context.run_one(*fused);
      context.run_one(*apart);
      const auto series = measure_interleaved(
          {[&] { return context.run_one(*fused); }, [&] { return context.run_one(*apart); }}, context.budget());
      Row row{group,
              name,
              fmt::format("{:.2f} ms", series[0].median() * 1e3),
              fmt::format("steps of its own {:.2f} ms", series[1].median() * 1e3),
              series[0].median() / series[1].median(),
              1,
              false,
              "x",
              series[0].spread()};
      RowContext::expect(row, *fused, CpuTemplate::prefill);
      context.emit(row);
    }
  }
  return Done{};
}

}  // namespace tilewright::bench
