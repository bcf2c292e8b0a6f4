// Which policy is in force, what is said of it, and that kernels of two policies are not mistaken for each other.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "ir/text.h"
#include "runtime/compile.h"
#include "runtime/dump.h"
#include "runtime/graph_key.h"
#include "runtime/kernel_entry.h"

namespace tilewright {
namespace {

Graph attention(DType type = DType::f32, std::optional<PrecisionPolicy> policy = {}) {
  GraphBuilder g("attention");
  g.precision(policy);
  const TensorType in{type, {Dim::named("B"), 2, Dim::named("S"), 16}};
  const ValueId q = g.param("q", in), k = g.param("k", in), v = g.param("v", in);
  const ValueId p = g.softmax(g.matmul_nt(q, k), 3);
  g.result(g.named(g.matmul(type == DType::f64 ? p : g.cast(p, type), v), "o"));
  return g.take();
}

Engine engine_at(PrecisionPolicy policy) {
  auto engine = Engine::create({.threads = 1, .max_isa = CpuIsa::avx2, .cache_dir = "", .precision = policy});
  EXPECT_TRUE(engine) << to_string(engine.error());
  return *engine;
}

Kernel compile(const Engine& engine, const Graph& graph, const CompileOptions& options = {}) {
  auto kernel = engine.compile(graph, options);
  EXPECT_TRUE(kernel) << to_string(kernel.error());
  return *kernel;
}

CompileOptions asking(std::optional<PrecisionPolicy> policy) {
  CompileOptions options;
  options.precision = policy;
  return options;
}

TEST(Precision, OptionBeforeGraphBeforeEngine) {
  using P = PrecisionPolicy;
  const Engine plain = engine_at(P::f32), narrow = engine_at(P::bf16);
  const auto in_force = [](const Kernel& kernel) {
    EXPECT_EQ(kernel.graph().precision.value_or(P::f32), kernel.stats().precision);
    return kernel.stats().precision;
  };
  EXPECT_EQ(in_force(compile(plain, attention())), P::f32);
  EXPECT_EQ(in_force(compile(narrow, attention())), P::bf16);
  EXPECT_EQ(in_force(compile(narrow, attention(DType::f32, P::f32_fma))), P::f32_fma);
  EXPECT_EQ(in_force(compile(narrow, attention(DType::f32, P::f32))), P::f32);
  EXPECT_EQ(in_force(compile(narrow, attention(DType::f32, P::f32_fma), asking(P::f32_x3))), P::f32_x3);
  // Asked for once more, from the cache: each finds its own.
  const Kernel again = compile(narrow, attention(DType::f32, P::f32_fma), asking(P::f32_x3));
  EXPECT_TRUE(again.stats().cache_hit);
  EXPECT_EQ(in_force(again), P::f32_x3);
  EXPECT_EQ(in_force(compile(narrow, attention(DType::f32, P::f32_fma))), P::f32_fma);
}

TEST(Precision, IsPartOfEveryKey) {
  std::vector<std::string> given, asked, canonical;
  for (const PrecisionPolicy policy : kPrecisionPolicies) {
    serialise_key(attention(DType::f32, policy), {}, 0, given.emplace_back());
    serialise_key(attention(), asking(policy), 0, asked.emplace_back());
    canonical.push_back(compile_front(attention(DType::f32, policy))->canonical_text);
  }
  serialise_key(attention(), {}, 0, given.emplace_back());
  serialise_key(attention(), {}, 0, asked.emplace_back());
  canonical.push_back(compile_front(attention())->canonical_text);
  for (auto* keys : {&given, &asked, &canonical}) {
    std::sort(keys->begin(), keys->end());
    EXPECT_EQ(std::unique(keys->begin(), keys->end()), keys->end());
  }
}

/// The manifest of a compile for AVX2, which runs nowhere.
nlohmann::json manifest_of(const Graph& graph, std::string* schedules = nullptr) {
  CompileRequest request;
  request.want_texts = true;
  request.link = false;
  auto front = compile_front(graph);
  EXPECT_TRUE(front) << to_string(front.error());
  const auto compilation = compile_back(graph, std::move(*front), request);
  EXPECT_TRUE(compilation) << to_string(compilation.error());
  for (const StageText& text : compilation->texts)
    if (schedules && text.file.starts_with("04_")) *schedules = text.text;
  return nlohmann::json::parse(manifest(*compilation->compiled, request.target));
}

TEST(Precision, ManifestAndScheduleSayWhatRuns) {
  const std::pair<PrecisionPolicy, std::string> expected[] = {
      {PrecisionPolicy::f32, "f32 products by FMA: the target has no AMX"},
      {PrecisionPolicy::f32_fma, "f32 products by FMA, as precision f32_fma asks"},
      {PrecisionPolicy::f32_x3, "f32 products by FMA, more accurate than precision f32_x3 asks: the target has no AMX"},
      {PrecisionPolicy::bf16, "f32 products by FMA, more accurate than precision bf16 asks: the target has no AMX"}};
  for (const auto& [policy, sentence] : expected) {
    std::string schedules;
    const nlohmann::json json = manifest_of(attention(DType::f32, policy), &schedules);
    EXPECT_EQ(json["precision"], to_string(policy));
    for (const auto& choice : json["kernels"][0]["choices"]) EXPECT_EQ(choice["products"], sentence);
    EXPECT_NE(schedules.find("computes " + sentence), std::string::npos) << schedules;
  }
  EXPECT_EQ(manifest_of(attention(DType::bf16))["kernels"][0]["choices"][0]["products"],
            "bf16 products, operands widened, by FMA of f32");
  EXPECT_EQ(manifest_of(attention(DType::f64, PrecisionPolicy::bf16))["kernels"][0]["choices"][0]["products"],
            "f64 products by FMA, which no precision policy narrows");
}

TEST(Precision, KernelsOnDiskAreToldApart) {
  std::vector<std::string> keys;
  for (const PrecisionPolicy policy : kPrecisionPolicies) {
    AttentionSpec spec;
    spec.precision = policy;
    TileProgram program;
    program.spec = spec;
    LoopStep loop;
    loop.precision = policy;
    CompileJob job;
    job.program = &program;
    keys.push_back(kernel_key(job, {}));
    job.program = nullptr;
    job.loop = &loop;
    keys.push_back(kernel_key(job, {}));
  }
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(std::unique(keys.begin(), keys.end()), keys.end());
}

}  // namespace
}  // namespace tilewright
