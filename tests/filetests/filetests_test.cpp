// The runner of the filetests; the handlers are in the other files of this folder.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "filetest.h"
#include "tests/support/paths.h"

namespace tilewright::testing {

std::map<std::string, Handler>& handlers() {
  static std::map<std::string, Handler> table;
  return table;
}

void Outcome::add(const Diagnostics& diagnostics) {
  for (const Diagnostic& d : diagnostics.list)
    errors[d.line].push_back(d.value.empty() ? d.message : "%" + d.value + ": " + d.message);
}

namespace {
namespace fs = std::filesystem;

constexpr std::string_view kErrorMark = "// error: ", kOutputMark = "//>", kSeparator = "// ----";

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

/// A case: its lines without expectations.
struct Case {
  std::vector<std::string> lines;
};

std::string without_errors(std::string line) {
  const size_t mark = line.find(kErrorMark);
  if (mark == std::string::npos) return line;
  line.resize(mark);
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

std::vector<Case> split(const std::string& text) {
  std::vector<Case> cases(1);
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(kOutputMark)) continue;
    if (line.starts_with(kSeparator)) cases.emplace_back();
    cases.back().lines.push_back(without_errors(line));
  }
  return cases;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

size_t opening_line(const std::vector<std::string>& lines) {
  for (size_t i = 0; i < lines.size(); ++i)
    if (!lines[i].empty() && !lines[i].starts_with("//")) return i;
  return 0;
}

/// The case as it should stand in the file.
std::string annotate(const Case& test, const Outcome& outcome) {
  std::vector<std::string> lines = test.lines;
  for (const auto& [line, messages] : outcome.errors) {
    const size_t at = line > 0 ? std::min(static_cast<size_t>(line), lines.size()) - 1 : opening_line(lines);
    for (const std::string& message : messages)
      lines[at] += (lines[at].empty() ? "" : "  ") + std::string(kErrorMark) + message;
  }
  std::string text = joined(lines);
  std::istringstream output(outcome.output);
  for (std::string line; std::getline(output, line);)
    text += std::string(kOutputMark) + (line.empty() ? "" : " ") + line + "\n";
  return text;
}

std::vector<std::string> files() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(fs::path(testing::source_dir()) / "tests/filetests"))
    if (entry.path().extension() == ".attn") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

class Filetest : public ::testing::TestWithParam<std::string> {};

TEST_P(Filetest, SaysWhatItSays) {
  const fs::path path = fs::path(testing::source_dir()) / "tests/filetests" / (GetParam() + ".attn");
  const std::string text = read(path);
  std::istringstream first_line(text);
  std::string slashes, test, name;
  first_line >> slashes >> test >> name;
  ASSERT_TRUE(slashes == "//" && test == "test" && handlers().count(name))
      << path << " does not start with `// test WHAT` for a WHAT that has a handler";
  std::string expected;
  for (const Case& c : split(text)) {
    const Outcome outcome = handlers()[name](joined(c.lines));
    for (const std::string& failure : outcome.failures) ADD_FAILURE() << failure << "\nin\n" << joined(c.lines);
    expected += annotate(c, outcome);
  }
  if (std::getenv("TILEWRIGHT_BLESS")) {
    std::ofstream(path, std::ios::binary) << expected;
    return;
  }
  EXPECT_EQ(text, expected) << "TILEWRIGHT_BLESS=1 writes the new text into " << path;
}

INSTANTIATE_TEST_SUITE_P(All, Filetest, ::testing::ValuesIn(files()), [](const auto& file) { return file.param; });

}  // namespace
}  // namespace tilewright::testing
