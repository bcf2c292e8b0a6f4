// Rotations and norms of Q and K: absorbed by the attention that alone reads them, left in memory where something else
// does, and the same numbers either way.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "compiler/passes.h"
#include "ir/text.h"
#include "layers/graph_parts.h"
#include "tests/support/fusion_case.h"
#include "tests/support/paths.h"

namespace tilewright::testing {
namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kHeadDim = 8;

struct RowsGraph {
  GraphBuilder g{"rows"};
  Dim B = Dim::named("B"), S = Dim::named("S");
  DType dtype = DType::f32;
  ValueId q, k, v, cos, sin;

  explicit RowsGraph(DType of = DType::f32) : dtype(of) {
    q = param("q", {B, kHeads, S, kHeadDim});
    k = param("k", {B, kKvHeads, S, kHeadDim});
    v = param("v", {B, kKvHeads, S, kHeadDim});
    cos = param("cos", {S, kHeadDim / 2});
    sin = param("sin", {S, kHeadDim / 2});
  }
  ValueId param(const char* name, Shape shape) { return g.param(name, {dtype, std::move(shape)}); }
  void rotate(RopeLayout layout, ValueId first = kNoValue) {
    q = g.named(rope(g, q, cos, sin, layout, first), "qr");
    k = g.named(rope(g, k, cos, sin, layout, first), "kr");
  }
  Graph attend() {
    AttentionForm form;
    form.causal = true;
    g.result(g.named(attention(g, q, k, v, form).output, "o"));
    return g.take();
  }
};

TEST(Rows, RopeOfBothLayoutsIsOneStep) {
  for (const RopeLayout layout : {RopeLayout::rotate_half, RopeLayout::interleaved})
    for (const DType dtype : {DType::f32, DType::f64}) {
      RowsGraph parts(dtype);
      parts.rotate(layout);
      const Program program = fuse_and_check(parts.attend());
      const AttentionSpec& spec = only_attention(program);
      if (HasFailure()) return;
      ASSERT_TRUE(spec.dots[0].query_row && spec.dots[0].key_row) << print(program);
      EXPECT_EQ(spec.head_group, 2);
      const auto& pieces = spec.dots[0].key_row->pieces;
      ASSERT_EQ(pieces.size(), 2u);
      EXPECT_EQ(pieces[1].begin, layout == RopeLayout::interleaved ? 1 : kHeadDim / 2);
      EXPECT_EQ(pieces[1].step, layout == RopeLayout::interleaved ? 2 : 1);
      EXPECT_TRUE(program.kept_rows.empty()) << print(program);
    }
}

TEST(Rows, RopeAtPositionsOfABatch) {
  RowsGraph parts;
  parts.rotate(RopeLayout::rotate_half, parts.g.param("first", {DType::i64, {parts.B}}));
  only_attention(fuse_and_check(parts.attend()));
}

TEST(Rows, NormsAreSums) {
  for (const bool layer : {false, true}) {
    RowsGraph parts;
    const ValueId w = parts.param("w", {kHeadDim}), b = parts.param("bias", {kHeadDim});
    for (ValueId* x : {&parts.q, &parts.k}) *x = layer ? layer_norm(parts.g, *x, w, b) : rms_norm(parts.g, *x, w);
    parts.rotate(RopeLayout::rotate_half);
    const Program program = fuse_and_check(parts.attend());
    const AttentionSpec& spec = only_attention(program);
    if (HasFailure()) return;
    EXPECT_EQ(spec.dots[0].query_row->sums.size(), layer ? 2u : 1u) << print(program);
    EXPECT_EQ(spec.dots[0].key_row->pieces.size(), 2u) << print(program);
  }
}

TEST(Rows, WhatIsReturnedStaysInMemoryAndSaysSo) {
  RowsGraph parts;
  parts.rotate(RopeLayout::interleaved);
  parts.g.result(parts.k);
  const Program program = fuse_and_check(parts.attend());
  const auto specs = attentions(program);
  ASSERT_EQ(specs.size(), 1u);
  EXPECT_TRUE(specs[0]->dots[0].query_row);
  EXPECT_FALSE(specs[0]->dots[0].key_row);
  ASSERT_EQ(program.kept_rows.size(), 1u) << print(program);
  EXPECT_NE(program.kept_rows[0].reason.find("is a result"), std::string::npos) << program.kept_rows[0].reason;
}

TEST(Rows, WhatACacheKeepsIsReadFromIt) {
  RowsGraph parts;
  GraphBuilder& g = parts.g;
  parts.rotate(RopeLayout::rotate_half);
  const Dim room = Dim::named("M");
  const ValueId cache = g.param("cache", {DType::f32, {parts.B, kKvHeads, room, kHeadDim}}, true);
  const ValueId at = g.param("at", {DType::i64, {}});
  const ValueId keys = g.update(cache, parts.k, at, 2);
  const ValueId values = g.param("values", {DType::f32, {parts.B, kKvHeads, room, kHeadDim}});
  AttentionForm form;
  form.causal = true;
  form.offset = at;
  g.result(g.named(attention(g, parts.q, keys, values, form).output, "o"));
  const auto canonical = canonicalize(g.take());
  ASSERT_TRUE(canonical);
  const auto program = fuse(*canonical);
  ASSERT_TRUE(program);
  const auto specs = attentions(*program);
  ASSERT_EQ(specs.size(), 1u);
  EXPECT_TRUE(specs[0]->dots[0].query_row) << print(*program);
  EXPECT_FALSE(specs[0]->dots[0].key_row) << print(*program);
}

TEST(Rows, ProjectionsKeepTheirEpilogues) {
  GraphBuilder g("projected");
  const Dim B = Dim::named("B"), S = Dim::named("S");
  const auto param = [&](const char* name, Shape shape) { return g.param(name, {DType::f32, std::move(shape)}); };
  const ValueId x = param("x", {B, S, 32});
  const auto project = [&](const char* weight, const char* bias) {
    return split_heads(g, linear(g, x, param(weight, {32, 32}), param(bias, {32})), 4);
  };
  const ValueId cos = param("cos", {S, 4}), sin = param("sin", {S, 4});
  const ValueId q = rope(g, project("wq", "bq"), cos, sin, RopeLayout::rotate_half);
  const ValueId k = rope(g, project("wk", "bk"), cos, sin, RopeLayout::interleaved);
  g.result(attention(g, q, k, project("wv", "bv"), {}).output);
  const Program program = fuse_and_check(g.take());
  EXPECT_EQ(program.steps.size(), 4u) << print(program);
  ASSERT_EQ(attentions(program).size(), 1u);
  EXPECT_TRUE(attentions(program)[0]->dots[0].query_row && attentions(program)[0]->dots[0].key_row);
}

/// Keys are gathered from their pages, normalised and rotated while they are packed. The page of a key, which values
/// want as well, and the values are steps of their own.
TEST(Rows, LlamaDecodeChain) {
  std::ostringstream file;
  file << std::ifstream(source_dir() + "/examples/variants/26_llama_decode.attn").rdbuf();
  const Program program = fuse_and_check(file.str(), {{"M", 80}, {"N", 3}, {"P", 5}});
  ASSERT_EQ(attentions(program).size(), 1u);
  const DotTerm& dot = attentions(program)[0]->dots[0];
  EXPECT_TRUE(dot.query_row && dot.key_row) << print(program);
  EXPECT_EQ(program.steps.size(), 3u) << print(program);
}

}  // namespace
}  // namespace tilewright::testing
