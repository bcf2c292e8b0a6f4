#include "tests/support/kernel_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "ir/verify.h"
#include "tests/support/random_graph.h"
#include "tests/support/test_engines.h"

namespace tilewright::testing {

std::string KernelVariant::text() const {
  return std::string(tilewright::to_string(isa)) + (force_generic ? " generic" : ahead_of_time ? " ahead of time" : "");
}

CompileOptions KernelVariant::options() const {
  CompileOptions options;
  options.force_generic = force_generic;
  options.ahead_of_time = ahead_of_time;
  return options;
}

const Engine& engine_for(CpuIsa isa) {
  static const auto* engines = [] {
    auto* made = new std::map<CpuIsa, Engine>();
    for (Engine& engine : engines_of_every_isa(2)) made->emplace(engine.target().isa, engine);
    return made;
  }();
  return engines->at(isa);
}

const std::vector<KernelVariant>& kernel_variants() {
  static const std::vector<KernelVariant> all = [] {
    std::vector<KernelVariant> variants;
    for (const Engine& engine : engines_of_every_isa(1)) {
      const CpuIsa isa = engine.target().isa;
      variants.push_back({isa, false});
      if (isa <= CpuIsa::avx512) variants.push_back({isa, true});  // the generic template knows no tiles
    }
    return variants;
  }();
  return all;
}

const std::vector<KernelVariant>& variants_of_both_tiers() {
  static const std::vector<KernelVariant> all = [] {
    std::vector<KernelVariant> variants = kernel_variants();
    for (const KernelVariant& variant : kernel_variants())
      if (!variant.force_generic) variants.push_back({variant.isa, false, true});
    return variants;
  }();
  return all;
}

KernelCheck::KernelCheck(Graph graph, DimBindings dims, Layout layout, uint64_t seed)
    : graph_(std::move(graph)), dims_(std::move(dims)), random_(seed) {
  const Diagnostics wrong = verify(graph_);
  EXPECT_TRUE(wrong.empty()) << tilewright::to_string(wrong);
  std::normal_distribution<double> gauss;
  for (ValueId id : graph_.params) {
    const TensorType& type = graph_.type(id);
    TestTensor& tensor = inputs_.emplace_back(type.dtype, concrete_shape(type, dims_), layout, random_);
    for (int64_t i = 0; i < tensor.size(); ++i)
      tensor.set(i, is_float(type.dtype) ? gauss(random_) : static_cast<double>(random_() % 2));
    views_.push_back(tensor.view());
  }
}

size_t KernelCheck::position(const std::string& name) const {
  for (size_t i = 0; i < graph_.params.size(); ++i)
    if (graph_[graph_.params[i]].name == name) return i;
  ADD_FAILURE() << "no parameter " << name;
  return 0;
}

TestTensor& KernelCheck::input(const std::string& name) { return inputs_[position(name)]; }

void KernelCheck::replace(const std::string& name, const TensorView& view) { views_[position(name)] = view; }

std::vector<TensorView> KernelCheck::output_views() const {
  if (!own_outputs.empty()) return own_outputs;
  std::vector<TensorView> views;
  for (const TestTensor& output : outputs) views.push_back(output.view());
  return views;
}

bool KernelCheck::run_variant(const Graph& graph, const KernelVariant& variant) {
  CompileOptions options = variant.options();
  options.materialise = materialise;
  options.tiles = tiles;
  options.verify_modules = true;
  auto kernel = engine_for(variant.isa).compile(graph, options);
  if (!kernel) {
    ADD_FAILURE() << variant.text() << ": " << tilewright::to_string(kernel.error());
    return false;
  }
  outputs.clear();
  for (ValueId id : graph.results) {
    const TensorType& type = graph.type(id);
    outputs.emplace_back(type.dtype, concrete_shape(type, dims_), output_layout, random_);
    outputs.back().poison();
  }
  const auto done = kernel->run(views_, output_views(), run_options);
  if (!done) {
    ADD_FAILURE() << variant.text() << ": " << tilewright::to_string(done.error());
    return false;
  }
  for (const TestTensor& output : outputs)
    EXPECT_TRUE(output.gaps_intact()) << variant.text() << " wrote outside the output's elements";
  return true;
}

void KernelCheck::run() {
  judge_.reset();
  for (const KernelVariant& variant : variants) {
    if (!run_variant(graph_, variant)) continue;
    SCOPED_TRACE(variant.text());
    expect_outputs(output_views());
  }
}

Result<std::vector<AccuracyReport>> KernelCheck::judge(std::span<const TensorView> found) {
  if (!judge_) {
    auto judge = OutputJudge::create(graph_, dims_, views_, accuracy);
    if (!judge) return judge.error();
    judge_ = std::move(*judge);
  }
  return judge_->judge(found);
}

void KernelCheck::expect_outputs(std::span<const TensorView> found) {
  auto reports = judge(found);
  if (!reports) {
    ADD_FAILURE() << tilewright::to_string(reports.error());
    return;
  }
  for (const AccuracyReport& report : *reports) EXPECT_TRUE(report.pass) << report.failure;
}

bool KernelCheck::accepts(std::span<const TensorView> found) {
  auto reports = judge(found);
  EXPECT_TRUE(reports.ok());
  bool pass = true;
  for (const AccuracyReport& report : *reports) pass &= report.pass;
  return pass;
}

void KernelCheck::expect_caught(const Graph& planted) {
  EXPECT_FALSE(accepts_kernel_of(planted)) << "the planted fault went unseen";
}

bool KernelCheck::accepts_kernel_of(const Graph& planted) {
  return !variants.empty() && run_variant(planted, variants.front()) && accepts(output_views());
}

void KernelCheck::expect_misreading_caught(const std::string& name, const TensorView& misread) {
  TensorView& view = views_[position(name)];
  const TensorView right = view;
  view = misread;
  const bool ran = !variants.empty() && run_variant(graph_, variants.front());
  view = right;
  if (ran) {
    EXPECT_FALSE(accepts(output_views())) << "the planted fault went unseen";
  }
}

Graph AttentionGraph::build() const {
  const Dim b = Dim::named("B"), sq = Dim::named("Sq"), sk = Dim::named("Sk");
  const DType scores = dtype == DType::f64 ? DType::f64 : DType::f32;
  GraphBuilder g("attention");
  const ValueId q = g.param("q", {dtype, {b, heads, sq, dqk}});
  ValueId k = g.param("k", {dtype, {b, kv_heads, sk, dqk}}), v = g.param("v", {dtype, {b, kv_heads, sk, dv}});
  if (heads != kv_heads) {
    k = g.repeat_heads(k, heads / kv_heads);
    v = g.repeat_heads(v, heads / kv_heads);
  }
  ValueId s = g.matmul_nt(q, k);
  s = g.binary(Op::mul, s, g.constant(1 / std::sqrt(static_cast<double>(dqk)), scores));
  if (modify) s = modify(g, s);
  ValueId p = g.softmax(s, 3);
  if (dtype != scores) p = g.cast(p, dtype);
  ValueId o = g.matmul(p, v);
  if (dtype != scores) o = g.cast(o, dtype);
  g.result(g.named(o, "o"));
  if (lse) g.result(g.named(g.logsumexp(s, 3, false), "lse"));
  return g.take();
}

}  // namespace tilewright::testing
