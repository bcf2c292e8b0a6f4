#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/support/paths.h"

namespace {

std::string read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(tilewright::testing::source_dir() + "/" + path).rdbuf();
  return text.str();
}

TEST(Readme, ItsExampleIsTheOneThatIsBuiltAndRun) {
  const std::string readme = read("README.md"), example = read("examples/quickstart.cpp");
  const auto begin = readme.find("```cpp\n");
  ASSERT_NE(begin, std::string::npos);
  const auto end = readme.find("```", begin + 7);
  const std::string shown = readme.substr(begin + 7, end - begin - 7);
  EXPECT_EQ(shown, example.substr(example.find("#include <cstdio>"))) << "copy examples/quickstart.cpp into the README";
}

TEST(Readme, NamesOnlyFilesThatExist) {
  const std::string readme = read("README.md");
  for (const char* path : {"docs/architecture.md", "docs/ir.md", "docs/semantics.md", "docs/decisions.md"}) {
    EXPECT_NE(readme.find(path), std::string::npos) << path << " is not linked";
    EXPECT_FALSE(read(path).empty()) << path;
  }
}

}  // namespace
