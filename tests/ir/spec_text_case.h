// What the tests of texts share: a spec's text that prints back to the byte, damaged copies of it, and dims.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "ir/text.h"
#include "ir/verify.h"

namespace tilewright::testing {

template <class Spec>
struct SpecText {
  std::string_view good;
  Result<Spec> (*parse)(std::string_view);

  /// What parsing or verifying complains about.
  std::string errors_of(std::string_view text) const {
    const auto spec = parse(text);
    return spec ? to_string(verify(*spec)) : to_string(spec.error());
  }
  std::string replaced(std::string_view from, std::string_view to) const {
    std::string text(good);
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  }
  std::string errors_of_replaced(std::string_view from, std::string_view to) const {
    return errors_of(replaced(from, to));
  }
  void expect_round_trip() const {
    const auto spec = parse(good);
    ASSERT_TRUE(spec) << to_string(spec.error());
    EXPECT_EQ(to_string(verify(*spec)), "");
    EXPECT_EQ(print(*spec), good);
    EXPECT_EQ(*parse(print(*spec)), *spec);
  }
  /// Truncations are refused, other bytes at any place do no harm.
  void expect_survives_damage() const {
    for (size_t at = 0; at < good.size(); ++at) {
      EXPECT_FALSE(at + 2 < good.size() && parse(good.substr(0, at))) << at;
      for (const char c : {'\0', '\x80', '(', '%', '9', '-', '}', ':', ';'}) {
        std::string bad(good);
        bad[at] = c;
        if (const auto spec = parse(bad)) (void)verify(*spec), (void)print(*spec);
      }
    }
  }
};

/// What parsing or verifying a graph complains about.
inline std::string errors_of(std::string_view graph) { return SpecText<Graph>{{}, &parse_graph}.errors_of(graph); }

inline const Dim kB = Dim::named("B"), kS = Dim::named("S"), kSq = Dim::named("Sq"), kSk = Dim::named("Sk"),
                 kPast = Dim::named("Past");

}  // namespace tilewright::testing
