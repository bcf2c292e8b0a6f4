// The house rules that a machine can check: includes point one way, LLVM stays behind its walls, one getenv.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/paths.h"

namespace {
namespace fs = std::filesystem;

const fs::path kRoot = tilewright::testing::source_dir();

struct Source {
  std::string path;  // relative to the root
  std::string text;
};

std::vector<Source> sources(const std::vector<std::string>& folders) {
  std::vector<Source> found;
  for (const std::string& folder : folders) {
    if (!fs::exists(kRoot / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      const std::string extension = entry.path().extension();
      if (extension != ".h" && extension != ".cpp" && extension != ".def" && extension != ".cuh") continue;
      std::ostringstream text;
      text << std::ifstream(entry.path()).rdbuf();
      found.push_back({fs::relative(entry.path(), kRoot).string(), text.str()});
    }
  }
  return found;
}

std::string top_folder(const std::string& path) { return path.substr(0, path.find('/')); }

std::vector<std::string> matches(const std::string& text, const std::regex& pattern) {
  std::vector<std::string> out;
  for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it) out.push_back((*it)[1]);
  return out;
}

const std::vector<std::string> kProduct = {"ir",        "compiler", "codegen", "runtime",  "layers",
                                           "importers", "cli",      "bench",   "examples", "emulator"};

TEST(Includes, PointOneWay) {
  const std::map<std::string, std::set<std::string>> allowed = {
      {"ir", {"ir"}},
      {"compiler", {"ir", "compiler"}},
      {"codegen", {"ir", "compiler", "codegen"}},
      {"runtime", {"ir", "compiler", "codegen", "runtime"}},
      {"layers", {"ir", "compiler", "runtime", "layers"}},
      {"importers", {"ir", "compiler", "runtime", "importers"}},
      {"emulator", {"ir", "compiler", "codegen", "runtime", "emulator"}},
      {"cli", {"ir", "compiler", "codegen", "runtime", "layers", "importers", "emulator", "bench", "cli"}},
      {"bench", {"ir", "compiler", "codegen", "runtime", "layers", "emulator", "bench"}},
      {"examples", {"ir", "compiler", "runtime", "layers", "importers", "examples"}}};
  const std::regex include(R"re(#include "([^"]+)")re");
  for (const Source& source : sources(kProduct))
    for (const std::string& target : matches(source.text, include))
      EXPECT_TRUE(allowed.at(top_folder(source.path)).count(top_folder(target)))
          << source.path << " includes " << target << ", which lies above its layer";
}

TEST(Includes, IrAndCompilerSeeStandardLibraryAndFmtOnly) {
  const std::regex include(R"re(#include <([^>]+)>)re");
  for (const Source& source : sources({"ir", "compiler"}))
    for (const std::string& header : matches(source.text, include))
      EXPECT_TRUE(header.find('/') == std::string::npos || header.rfind("fmt/", 0) == 0)
          << source.path << " includes <" << header << ">";
}

TEST(Includes, LlvmHeadersStayInCodegenCpuAndOneRuntimeFile) {
  for (const Source& source : sources(kProduct)) {
    if (source.text.find("#include <llvm/") == std::string::npos) continue;
    EXPECT_TRUE(source.path.rfind("codegen/cpu/", 0) == 0 || source.path == "runtime/orc_jit.cpp") << source.path;
  }
}

TEST(House, EnvironmentIsReadInOneFile) {
  const std::string call = std::string("get") + "env(";
  for (const Source& source : sources(kProduct)) {
    if (source.path == "runtime/options.cpp") continue;
    EXPECT_EQ(source.text.find(call), std::string::npos) << source.path << " reads the environment";
  }
}

TEST(House, InlinePtxStaysInPrimitives) {
  for (const Source& source : sources({"codegen/cuda"}))
    EXPECT_TRUE(source.text.find("asm") == std::string::npos ||
                source.path.rfind("codegen/cuda/device/primitives/", 0) == 0)
        << source.path;
}

TEST(House, NoFileIsOverFiveHundredLinesWithoutSayingWhy) {
  for (const Source& source : sources(kProduct)) {
    const auto lines = std::count(source.text.begin(), source.text.end(), '\n');
    EXPECT_TRUE(lines <= 500 || source.text.substr(0, 1500).find("Over 500 lines") != std::string::npos)
        << source.path << " has " << lines << " lines";
  }
}

TEST(House, BackendsKnowNoVariantByName) {
  const std::regex variant(R"re(\b(alibi|softcap|causal|sliding_window|swin|natten|graphormer|alphafold)\b)re",
                           std::regex::icase);
  // Comments may explain with examples; code may not.
  const std::regex comment(R"re(//[^\n]*)re");
  for (const Source& source : sources({"codegen"})) {
    const std::string code = std::regex_replace(source.text, comment, "");
    EXPECT_FALSE(std::regex_search(code, variant)) << source.path << " names a variant in code";
  }
}

}  // namespace
