// Dumps of GPU kernels: their files, and a manifest that says what ran and what it takes.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "ir/text.h"
#include "runtime/cuda/cuda_dump.h"
#include "tests/cuda/cuda_support.h"
#include "tests/support/temporary_folder.h"

namespace tilewright {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::shared_ptr<const CudaProgram> program() {
  const auto graph = parse_graph(R"(
graph @plain(%q: bf16[B,2,Sq,64], %k: bf16[B,2,Sk,64], %v: bf16[B,2,Sk,64]) -> bf16[B,2,Sq,64] {
  %s = matmul_nt %q, %k   : f32[B,2,Sq,Sk]
  %p = softmax %s, axis=3 : f32[B,2,Sq,Sk]
  %c = cast %p            : bf16[B,2,Sq,Sk]
  %o = matmul %c, %v      : bf16[B,2,Sq,64]
  return %o
})");
  EXPECT_TRUE(graph) << to_string(graph.error());
  CudaProgramOptions options;
  options.want_texts = true;
  const auto made = compile_cuda_program(*graph, *parse_cuda_target("sm_80"), options);
  EXPECT_TRUE(made) << to_string(made.error());
  return *made;
}

TEST(CudaDump, HasEveryStageAndAManifest) {
  const testing::TemporaryFolder folder;
  const auto dump = write_cuda_dump(std::string(folder.path()), *program());
  ASSERT_TRUE(dump) << to_string(dump.error());
  std::set<std::string> starts;
  for (const auto& entry : fs::directory_iterator(*dump)) starts.insert(entry.path().filename().string().substr(0, 2));
  const Json manifest = Json::parse(testing::read_file(fs::path(*dump) / "manifest.json"));
  EXPECT_EQ(manifest["target"], "sm_80");
  ASSERT_EQ(manifest["kernels"].size(), 1u);
  const Json& choices = manifest["kernels"][0]["choices"];
  ASSERT_FALSE(choices.empty());
  for (const char* stage : {"00", "01", "02", "03", "04", "05"}) EXPECT_TRUE(starts.contains(stage)) << stage;
  if (!nvrtc()) {
    EXPECT_NE(manifest["not_compiled"].get<std::string>().find("NVRTC"), std::string::npos);
    GTEST_SKIP() << to_string(nvrtc().error());
  }
  EXPECT_TRUE(starts.contains("06") && starts.contains("07"));
  for (const Json& choice : choices) {
    EXPECT_GT(choice["nvrtc_ms"].get<double>(), 0);
    for (const Json& phase : choice["phases"]) {
      EXPECT_GT(phase["registers"].get<int>(), 0);
      EXPECT_GT(phase["blocks_per_multiprocessor"].get<int>(), 0);
      EXPECT_TRUE(phase.contains("dynamic_shared_bytes") && phase.contains("census") && phase.contains("limited_by"));
    }
    EXPECT_FALSE(choice.contains("complaints")) << choice.dump(2);
  }
}

TEST(CudaDump, TextsNameTheUsersTensorsAndKernelsDoNot) {
  const auto made = program();
  const auto& text = made->texts.back();
  EXPECT_TRUE(text.file.starts_with("05_emit")) << text.file;
  EXPECT_TRUE(text.text.starts_with("// t0 is %")) << text.text.substr(0, 40);
  EXPECT_EQ(nvrtc_text(made->steps[0].choices.back().source).find("// t0 is"), std::string::npos);
}

}  // namespace
}  // namespace tilewright
