// Every example graph parses, verifies, prints in a form that reads back, and says in its first line what it is.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "ir/text.h"
#include "ir/verify.h"
#include "tests/support/paths.h"

namespace tilewright {
namespace {
namespace fs = std::filesystem;

std::vector<fs::path> examples() {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(testing::source_dir()) / "examples"))
    if (entry.path().extension() == ".attn") found.push_back(entry.path());
  return found;
}

TEST(Examples, ParseVerifyAndRoundTrip) {
  for (const fs::path& path : examples()) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    EXPECT_TRUE(text.str().starts_with("// ")) << path << " does not say what it is";
    const auto graph = parse_graph(text.str());
    ASSERT_TRUE(graph) << path << "\n" << to_string(graph.error());
    EXPECT_EQ(to_string(verify(*graph)), "") << path;
    const std::string once = print(*graph);
    const auto again = parse_graph(once);
    ASSERT_TRUE(again) << path << "\n" << to_string(again.error());
    EXPECT_EQ(print(*again), once);
    const std::string stem = path.stem().string();
    EXPECT_TRUE(stem == graph->name || stem.substr(3) == graph->name) << path << " holds @" << graph->name;
  }
}

TEST(Examples, AllVariantsAreThere) {
  const fs::path folder = fs::path(testing::source_dir()) / "examples/variants";
  for (int number = 1; number <= 28; ++number) {
    int found = 0;
    for (const auto& entry : fs::directory_iterator(folder))
      found += entry.path().filename().string().starts_with(fmt::format("{:02}_", number));
    EXPECT_EQ(found, 1) << "variant " << number;
  }
}

}  // namespace
}  // namespace tilewright
