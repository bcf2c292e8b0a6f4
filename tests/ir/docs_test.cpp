// docs/ir.md has a section for every op, with its attributes and an example that parses and verifies.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "ir/op_attributes.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/ir/spec_text_case.h"
#include "tests/support/paths.h"

namespace tilewright {
namespace {

std::string page() {
  std::ostringstream text;
  text << std::ifstream(testing::source_dir() + "/docs/ir.md").rdbuf();
  return text.str();
}

/// Text between `open` (from `from` on) and `close`; empty when there is none.
std::string between(const std::string& text, const std::string& open, const std::string& close, size_t from = 0) {
  const size_t begin = text.find(open, from);
  if (begin == std::string::npos) return "";
  const size_t start = begin + open.size();
  return text.substr(start, text.find(close, start) - start);
}

/// Statements in a graph with the page's params, returning the last value.
std::string in_graph(const std::string& params, const std::string& statements) {
  const size_t line = statements.rfind('\n') == std::string::npos ? 0 : statements.rfind('\n') + 1;
  const std::string last = statements.substr(line);
  const std::string name = last.substr(0, last.find(' '));
  const std::string type = last.substr(last.rfind(" : ") + 3);
  return fmt::format("graph @example({}) -> {} {{\n{}\nreturn {}\n}}\n", params, type, statements, name);
}

TEST(IrPage, EveryOpHasItsSectionAndAnExampleThatVerifies) {
  const std::string text = page();
  const std::string params = between(text, "```attn-params\n", "```");
  ASSERT_FALSE(params.empty());
  for (int i = 0; i < op_count(); ++i) {
    const Op op = static_cast<Op>(i);
    const std::string section = between(text, fmt::format("\n### `{}`\n", info(op).name), "\n##");
    ASSERT_FALSE(section.empty()) << info(op).name << " has no section in docs/ir.md";
    EXPECT_NE(section.find("Types: "), std::string::npos) << info(op).name;
    for (const AttributeRule& rule : attributes_of(op)) {
      const bool in_introduction = rule.kind == AttributeKind::keepdims || info(op).group == OpGroup::leaf;
      EXPECT_TRUE(section.find(fmt::format("{}=", to_string(rule.kind))) != std::string::npos || in_introduction)
          << info(op).name << " does not mention " << to_string(rule.kind);
    }
    std::string example = between(section, "```attn\n", "\n```");
    ASSERT_FALSE(example.empty()) << info(op).name;
    if (!example.starts_with("graph")) {
      EXPECT_NE(example.find(fmt::format("= {} ", info(op).name)), std::string::npos) << example;
      example = in_graph(params, example);
    }
    EXPECT_EQ(testing::errors_of(example), "") << example;
  }
}

TEST(IrPage, WholeExamplesVerify) {
  const std::string text = page();
  EXPECT_EQ(testing::errors_of(between(text, "## Graphs\n\n```attn\n", "```")), "");
  const std::string fused = between(text, "```attention\n", "```");
  const auto spec = parse_attention(fused);
  ASSERT_TRUE(spec) << to_string(spec.error());
  EXPECT_EQ(to_string(verify(*spec)), "");
  EXPECT_EQ(print(*spec), fused);
  // The computed rows stand in the place of that attention's dot.
  const auto replace = [](std::string whole, const std::string& part, const std::string& by) {
    const size_t at = whole.find(part);
    EXPECT_TRUE(at != std::string::npos && !by.empty()) << part;
    return at == std::string::npos ? whole : whole.replace(at, part.size(), by);
  };
  std::string computed = replace(fused, "  dot 64 {" + between(fused, "  dot 64 {", "\n  }\n") + "\n  }\n",
                                 between(text, "```computed-rows\n", "```"));
  computed =
      replace(computed, "    %sink: f32[32],\n", "    %sink: f32[32],\n    %cos: f32[Sk,32],\n    %sin: f32[Sk,32],\n");
  const auto rows = parse_attention(computed);
  ASSERT_TRUE(rows) << to_string(rows.error());
  EXPECT_EQ(to_string(verify(*rows)), "");
  EXPECT_EQ(print(*rows), computed);
  const std::string backward = between(text, "```backward\n", "```");
  const auto pass = parse_backward(backward);
  ASSERT_TRUE(pass) << to_string(pass.error());
  EXPECT_EQ(to_string(verify(*pass)), "");
  EXPECT_EQ(print(*pass), backward);
}

}  // namespace
}  // namespace tilewright
