// Programs of the variant suite on the emulator against the oracle (semantics 19), on guarded and poisoned memory.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <sstream>

#include "ir/accuracy.h"
#include "ir/text.h"
#include "tests/emulator/emulated_program.h"
#include "tests/emulator/kernel.h"
#include "tests/support/paths.h"
#include "tests/support/variant_case.h"

namespace tilewright::testing {

inline constexpr int kLlamaDecode = 26;
inline std::string variant_folder() { return source_dir() + "/examples/variants"; }
inline std::string variant_name(const ::testing::TestParamInfo<Variant>& test) {
  return "variant_" + std::to_string(test.param.number);
}

/// Variant 26 with Q, K and V in `dtype`: rows are normalised and turned in f32, and rounded before the product.
inline Graph narrow_llama(DType dtype) {
  std::ostringstream file;
  file << std::ifstream(variant_folder() + "/26_llama_decode.attn").rdbuf();
  std::string text = std::move(file).str();
  const std::string narrow(to_string(dtype));
  const auto replace = [&](const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    TW_CHECK(at != std::string::npos);
    text.replace(at, from.size(), to);
  };
  replace("%q: f32", "%q16: " + narrow);
  replace("%kpages: f32", "%kpages: " + narrow);
  replace("%vpages: f32", "%vpages: " + narrow);
  replace("-> f32[B,8,1,64] {\n", "-> " + narrow + "[B,8,1,64] {\n  %q = cast %q16 : f32[B,8,1,64]\n");
  replace(
      "%k    = load %kpages[%page, %row, %hkv, %d]  : f32[B,2,16*N,64]",
      "%k16 = load %kpages[%page, %row, %hkv, %d] : " + narrow + "[B,2,16*N,64]\n  %k = cast %k16 : f32[B,2,16*N,64]");
  replace("%v    = load %vpages[%page, %row, %hkv, %d]  : f32", "%v = load %vpages[%page, %row, %hkv, %d] : " + narrow);
  replace("%kh   = repeat_heads %kr, times=4            : f32",
          "%kn = cast %kr : " + narrow + "[B,2,16*N,64]\n  %kh = repeat_heads %kn, times=4 : " + narrow);
  replace("%vh   = repeat_heads %v, times=4             : f32", "%vh = repeat_heads %v, times=4 : " + narrow);
  replace("%s    = matmul_nt %qr, %kh", "%qn = cast %qr : " + narrow + "[B,8,1,64]\n  %s = matmul_nt %qn, %kh");
  replace("%o    = matmul %p, %vh                       : f32",
          "%pn = cast %p : " + narrow + "[B,8,1,16*N]\n  %o = matmul %pn, %vh : " + narrow);
  auto graph = parse_graph(text);
  if (!graph) ADD_FAILURE() << to_string(graph.error());
  TW_CHECK(graph.ok());
  return std::move(*graph);
}

/// The variant in other numbers, with rows of `dim` and values of `value_dim` where its file lets them.
inline Graph spell(const Variant& variant, Numbers numbers, int64_t dim, int64_t value_dim) {
  const bool is_f16 = numbers == Numbers::f16 || numbers == Numbers::f16_cast;
  if (variant.number == kLlamaDecode)
    return numbers == Numbers::f32 ? variant.graph : narrow_llama(is_f16 ? DType::f16 : DType::bf16);
  if (variant.number == 20) {
    dim = value_dim = 64;                                               // an index runs over them
    if (numbers == Numbers::bf16_cast || numbers == Numbers::f16_cast)  // it gathers from K and V as they are stored
      numbers = is_f16 ? Numbers::f16 : Numbers::bf16;
  }
  return respell(variant.graph, numbers, dim, value_dim);
}

struct OracleRun {
  Sizes sizes;
  EmulatorOptions options = {};
  bool contiguous = false;  ///< all tensors, as tensor maps want them; else in random layouts
  std::function<void(const Graph&, std::vector<TestTensor>&)> spoil = nullptr;  ///< inputs
};

inline void check_against_oracle(const EmulatedProgram& program, const Graph& graph, const OracleRun& run,
                                 std::mt19937_64& random) {
  SCOPED_TRACE(run.sizes.name + ", " + describe(run.options));
  DimBindings dims = bind_sizes(graph, run.sizes);
  const bool paged = dims.contains("P");
  if (paged) dims["N"] = (run.sizes.sk + 15) / 16;  // pages of 16 keys
  if (paged) dims["M"] = 40;
  std::vector<TestTensor> inputs = variant_inputs(graph, dims, random);
  for (size_t i = 0; i < inputs.size(); ++i) {
    TestTensor& input = inputs[i];
    if (paged && graph[graph.params[i]].name == "len")
      for (int64_t b = 0; b < input.size(); ++b)
        input.set(b, static_cast<double>(std::max<int64_t>(run.sizes.sk - 5 * b, 0)));
    if (!run.contiguous) continue;
    TestTensor copy(input.view().dtype, input.shape(), Layout::contiguous, random);
    for (int64_t at = 0; at < input.size(); ++at) copy.set(at, input.get(at));
    input = std::move(copy);
  }
  if (run.spoil) run.spoil(graph, inputs);
  std::vector<TestTensor> outputs;
  for (const ValueId result : graph.results)
    outputs.emplace_back(graph.type(result).dtype, concrete_shape(graph.type(result), dims),
                         run.contiguous ? Layout::contiguous : static_cast<Layout>(random() % 4), random);
  for (TestTensor& output : outputs) output.poison();
  const std::vector<TensorView> views = views_of(inputs);
  ASSERT_EQ(program.run(dims, views, views_of(outputs), run.options), "");
  for (const TestTensor& output : outputs) EXPECT_TRUE(output.gaps_intact());
  const auto reports = verify_outputs(graph, dims, views, views_of(outputs));
  ASSERT_TRUE(reports) << to_string(reports.error());
  for (const AccuracyReport& report : *reports) EXPECT_TRUE(report.pass) << report.failure << to_string(report);
}

}  // namespace tilewright::testing
