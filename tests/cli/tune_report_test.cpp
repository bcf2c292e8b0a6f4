// The tuning report as a page: well-formed, self-contained, safe against what texts hold, and saying what it must.
#include "cli/tune_report.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "cli/tune_report_charts.h"
#include "cli/tune_report_svg.h"
#include "cli/tune_text.h"
#include "ir/text.h"
#include "runtime/engine.h"
#include "tests/cli/tune_report_fixture.h"
#include "tests/support/paths.h"

namespace tilewright::cli {
namespace {

namespace fs = std::filesystem;
using Fate = TunedCandidate::Fate;

/// Reads a page as strictly as XML: every element closed in order, attributes quoted, only known entities.
class PageReader {
 public:
  explicit PageReader(const std::string& page) : page_(page) { read(); }

  std::string complaint;
  std::multiset<std::string> elements;
  std::vector<std::pair<std::string, std::string>> attributes;
  std::string text;  ///< between the tags, entities resolved

 private:
  void read() {
    if (page_.rfind("<!DOCTYPE html>", 0) != 0) return complain("no doctype");
    at_ = 15;
    while (at_ < page_.size() && complaint.empty()) {
      if (page_[at_] == '<')
        read_tag();
      else
        read_text();
    }
    if (!open_.empty()) complain(open_.back() + " is not closed");
  }
  void read_tag() {
    const size_t end = tag_end();
    std::string tag = page_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    if (!tag.empty() && tag[0] == '/') {
      if (open_.empty() || open_.back() != tag.substr(1)) return complain("</" + tag.substr(1) + "> closes nothing");
      open_.pop_back();
      return;
    }
    const bool closed = !tag.empty() && tag.back() == '/';
    if (closed) tag.pop_back();
    const std::string name = tag.substr(0, tag.find_first_of(" \n"));
    if (name.empty() || name.find_first_not_of("abcdefghijklmnopqrstuvwxyzPT0123456789") != std::string::npos)
      return complain("<" + tag + "> is no element");
    elements.insert(name);
    read_attributes(tag.substr(name.size()));
    if (!closed && name != "meta" && name != "br") open_.push_back(name);
    if (name == "style") {  // the sheet is ours and no markup
      at_ = page_.find("</style>", at_);
      if (at_ == std::string::npos) complain("<style> is not closed");
    }
  }
  size_t tag_end() {
    bool quoted = false;
    for (size_t i = at_; i < page_.size(); ++i) {
      if (page_[i] == '"') quoted = !quoted;
      if (page_[i] == '>' && !quoted) return i;
    }
    complain("a tag does not end");
    return page_.size() - 1;
  }
  void read_attributes(const std::string& all) {
    size_t i = 0;
    while ((i = all.find_first_not_of(" \n", i)) != std::string::npos) {
      const size_t equals = all.find('=', i);
      if (equals == std::string::npos || all[equals + 1] != '"') return complain("attribute without quotes: " + all);
      const size_t end = all.find('"', equals + 2);
      if (end == std::string::npos) return complain("attribute does not end: " + all);
      attributes.emplace_back(all.substr(i, equals - i), all.substr(equals + 2, end - equals - 2));
      if (attributes.back().second.find('<') != std::string::npos) return complain("< in attribute");
      i = end + 1;
    }
  }
  void read_text() {
    const size_t end = std::min(page_.find('<', at_), page_.size());
    for (; at_ < end; ++at_) {
      if (page_[at_] != '&') {
        text += page_[at_];
        continue;
      }
      const std::string rest = page_.substr(at_, 6);
      const std::pair<const char*, char> known[] = {
          {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#39;", '\''}};
      const auto* found = std::find_if(std::begin(known), std::end(known),
                                       [&](const auto& each) { return rest.rfind(each.first, 0) == 0; });
      if (found == std::end(known)) return complain("unknown entity at " + rest);
      text += found->second;
      at_ += std::string(found->first).size() - 1;
    }
  }
  void complain(const std::string& what) {
    if (complaint.empty()) complaint = what + ", at byte " + std::to_string(at_);
  }

  const std::string& page_;
  size_t at_ = 0;
  std::vector<std::string> open_;
};

PublishedPeers some_peers() {
  PublishedPeers peers;
  for (const bench::PublishedRate& rate : bench::published_rates())
    if (rate.head_dim == 64 && rate.causal) peers["o"].push_back(rate);
  return peers;
}

TEST(TuneReport, IsAWellFormedPageThatLoadsNothing) {
  const std::string page = tune_report({{testing::sample_result(), some_peers()}});
  const PageReader reader(page);
  EXPECT_EQ(reader.complaint, "");
  for (const char* element : {"script", "link", "img", "iframe", "object", "embed", "image", "use", "base", "form"})
    EXPECT_EQ(reader.elements.count(element), 0u) << element;
  for (const auto& [name, value] : reader.attributes) {
    EXPECT_NE(name.substr(0, 2), "on") << name;
    EXPECT_NE(name, "src");
    EXPECT_TRUE(name != "href" || value[0] == '#') << value;
    EXPECT_EQ(value.find("url("), std::string::npos) << value;
  }
  EXPECT_EQ(page.find("http:"), std::string::npos);
  EXPECT_EQ(page.find("https:"), std::string::npos);
  EXPECT_EQ(page.find("@import"), std::string::npos);
  // What the style sheet refers to lies in the page.
  for (size_t at = page.find("url("); at != std::string::npos; at = page.find("url(", at + 1))
    EXPECT_EQ(page[at + 4], '#');
  EXPECT_LT(page.size(), 400u << 10);
}

TEST(TuneReport, SaysWhatItMust) {
  const TuneResult result = testing::sample_result();
  const PageReader reader(tune_report({{result, some_peers()}}));
  const auto says = [&](const std::string& what) { EXPECT_NE(reader.text.find(what), std::string::npos) << what; };
  for (const std::string& what :
       {result.graph, result.device, result.compiler, result.date, result.database, result.notes[0]})
    says(what);
  for (const TunedStep& step : result.steps) {
    says(step.shape_class);
    says(print(step.best().schedule));
    for (const std::string& reason : step.best().schedule.reasons) says(reason);
    for (const std::string& reason : step.best().cost.reasons) says(reason);
    for (const std::string& sentence : schedule_sentences(step.best().schedule)) says(sentence);
    for (const TunedCandidate& candidate : step.candidates) says(print(candidate.schedule));
  }
  says("vfmadd231ps\t(%rsi){1to16}, %zmm0, %zmm1");
  says("Chosen: block_q 192, block_kv 384.");
  says("The rules' schedule stays");
  says("Measured at B 1, Sk 8192, Sq 1, of the same class as B 1, Sk 16000, Sq 1.");
  says(
      "Candidates ran 4 of the 32 heads of keys. On the whole the chosen schedule is 1.040 times as fast as the "
      "rules'.");
  says("The budget ended before the search did.");
  says("o[0, 3, 95, 17] is 0.25, the oracle says 0.5");
  says("measured elsewhere");
  says("ONNX Runtime 1.30 f32: 55 (75 there)");  // 75 · 176.3 / 239
  says("oneDNN 3.13 graph bf16: 59 there");
  says("FMA peak 176, 1 thread, this run");
  says("read loop 17 GB/s");
  EXPECT_EQ(reader.elements.count("svg"), 1u + 3 + 3);
  EXPECT_EQ(reader.elements.count("details"), 3u);  // two tables, one kernel's assembly
}

TEST(TuneReport, AKernelOnTilesLiesUnderTheirPeak) {
  TuneResult result = testing::sample_result();
  result.steps.resize(1);
  const std::string without = tune_report({{result, {}}});
  result.steps[0].amx_peak_gflops = 3300;
  const std::string page = tune_report({{result, {}}});
  const PageReader reader(page);
  EXPECT_EQ(reader.complaint, "");
  for (const char* what : {"AMX peak 3300, 1 thread, this run", "FMA peak 176, 1 thread, this run",
                           "of the AMX peak, 3300 GFLOP/s in this run"})
    EXPECT_NE(reader.text.find(what), std::string::npos) << what;
  EXPECT_EQ(without.find("AMX peak"), std::string::npos);
  const auto roofs = [](const std::string& text) {
    size_t count = 0;
    for (size_t at = text.find("class=\"roof\""); at != std::string::npos; at = text.find("class=\"roof\"", at + 1))
      ++count;
    return count;
  };
  EXPECT_EQ(roofs(page), roofs(without) + 1);
}

TEST(TuneReport, DecodeIsToldInBytesAndHalfAFlopPerByteIsNotNone) {
  TuneResult result = testing::sample_result();
  result.steps = {testing::sample_decode_step()};
  result.steps[0].flops /= 4;
  const PageReader reader(tune_report({{result, {}}}));
  EXPECT_NE(reader.text.find("0.50 FLOP per byte"), std::string::npos);
  EXPECT_EQ(reader.text.find(" 0 FLOP per byte"), std::string::npos);
  EXPECT_NE(reader.text.find(" GB/s, "), std::string::npos);
}

TEST(TuneText, TheProgressLineNamesTheTemplateAndFits) {
  TuneProgress progress;
  progress.step = "causal";
  progress.kernel = "decode";
  progress.stage = "round 2";
  progress.candidates = 32;
  progress.left = 8;
  const std::string line = progress_text(progress);
  EXPECT_EQ(line.substr(0, 25), "%causal decode: round 2, ");
  EXPECT_EQ(cut_to(line, 1000), line);
  EXPECT_EQ(cut_to(line, 40), line.substr(0, 37) + "...");
  EXPECT_EQ(cut_to(line, 2), line.substr(0, 2));
}

TEST(TuneReport, HoldsSeveralGraphs) {
  TuneResult other = testing::sample_result();
  other.graph = "other";
  const std::string page = tune_report({{testing::sample_result(), {}}, {other, some_peers()}});
  const PageReader reader(page);
  EXPECT_EQ(reader.complaint, "");
  EXPECT_NE(reader.text.find("Tuning of @causal, @other"), std::string::npos);
  EXPECT_NE(reader.text.find("115 s of search"), std::string::npos);
  std::set<std::string> ids;
  for (const auto& [name, value] : reader.attributes)
    if (name == "id" && value.rfind("step-", 0) == 0) {
      EXPECT_TRUE(ids.insert(value).second) << value;
    }
  EXPECT_EQ(ids.size(), 4u);
  EXPECT_EQ(PageReader(tune_report({})).complaint, "");
}

TEST(TuneReport, DependsOnItsArgumentsOnly) {
  EXPECT_EQ(tune_report({{testing::sample_result(), some_peers()}}),
            tune_report({{testing::sample_result(), some_peers()}}));
}

TEST(TuneReport, HostileTextsStayTexts) {
  const std::string evil = "</title></style></pre><script>alert(\"1\")</script>' onload='x]]> & &lt; <!-- \x01 \xff";
  TuneResult result = testing::sample_result();
  result.graph = result.device = result.compiler = result.date = result.database = evil;
  result.notes = {evil};
  for (TunedStep& step : result.steps) {
    step.name = step.shape_class = step.assembly = evil;
    step.dims[evil] = 1;
    for (ScheduleAxis& axis : step.axes) axis.name = evil;
    for (TunedCandidate& candidate : step.candidates) {
      candidate.why = evil;
      candidate.schedule.reasons = candidate.cost.reasons = {evil};
    }
  }
  const std::string page = tune_report({{result, {{evil, some_peers()["o"]}}}});
  const PageReader reader(page);
  EXPECT_EQ(reader.complaint, "");
  EXPECT_EQ(reader.elements.count("script"), 0u);
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find('\x01'), std::string::npos);
  EXPECT_EQ(page.find('\xff'), std::string::npos);
  for (const auto& [name, value] : reader.attributes) EXPECT_NE(name, "onload");
  const std::string shown = evil.substr(0, evil.find('\x01'));
  EXPECT_NE(reader.text.find(shown), std::string::npos);
}

TEST(TuneReport, EscapesWhatPagesMayNotHold) {
  EXPECT_EQ(escape_html("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(escape_html("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"), "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(escape_html("\xc3"), bad);
  EXPECT_EQ(escape_html("\xc0\x80"), bad + bad);            // overlong NUL
  EXPECT_EQ(escape_html("\xed\xa0\x80"), bad + bad + bad);  // a surrogate
  EXPECT_EQ(escape_html("\xf5\x80\x80\x80"), bad + bad + bad + bad);
  EXPECT_EQ(escape_html(std::string("\0\x1b\x7f\n\t", 5)), bad + bad + bad + "\n\t");
}

TEST(TuneReport, ResultsWithLittleInThemArePagesToo) {
  TuneResult result;
  EXPECT_EQ(PageReader(tune_report({{result, {}}})).complaint, "");
  result.steps.emplace_back();  // nothing at all
  EXPECT_EQ(PageReader(tune_report({{result, {}}})).complaint, "");
  TunedStep step = testing::sample_prefill_step();
  for (TunedCandidate& candidate : step.candidates) candidate.warm.clear(), candidate.cold.clear();
  step.chosen = 0;
  result.steps = {step};
  EXPECT_EQ(PageReader(tune_report({{result, {}}})).complaint, "");
  // One candidate, one run, no FLOPs, no limits, no axes.
  step = testing::sample_prefill_step();
  step.candidates.resize(1);
  step.candidates[0].warm = {0.1};
  step.candidates[0].cold.clear();
  step.chosen = 0;
  step.flops = step.bytes = step.fma_peak_gflops = step.read_gbs = step.noise = 0;
  step.axes.clear();
  result.steps = {step};
  const std::string page = tune_report({{result, some_peers()}});
  EXPECT_EQ(PageReader(page).complaint, "");
  EXPECT_EQ(page.find("nan"), std::string::npos);
  EXPECT_EQ(page.find("inf"), std::string::npos);
}

TEST(TuneReport, TellingIntegersAreTilesOrWhatMovesTime) {
  TunedStep step = testing::sample_prefill_step();
  ASSERT_EQ(telling_axes(step).size(), 2u);
  EXPECT_EQ(telling_axes(step)[0].name, "block_q");
  EXPECT_EQ(telling_axes(step)[1].name, "block_kv");
  // Under other names they are found by what they explain; the one that hardly matters is left out.
  step.axes[0].name = "rows";
  step.axes[1].name = "keys";
  std::vector<std::string> names;
  for (const ScheduleAxis& axis : telling_axes(step)) names.push_back(axis.name);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"keys", "rows"}));
  EXPECT_EQ(telling_axes(testing::sample_decode_step()).size(), 1u);
}

TEST(TuneReport, HeatMapShowsTheBestOfACellAndEveryFate) {
  TunedStep step = testing::sample_prefill_step();
  const std::string map = heat_map(step);
  const std::string best = fmt::format(">{:.0f}<", step.gflops(step.best()));
  EXPECT_NE(map.find(best), std::string::npos) << best;
  for (const char* word : {"wrong", "failed", "est. ", "mark-chosen", "mark-rules", "cell none"})
    EXPECT_NE(map.find(word), std::string::npos) << word;
  // A slower candidate of the same cell does not show.
  TunedCandidate slower = step.best();
  for (double& seconds : slower.warm) seconds *= 2;
  slower.fate = Fate::dropped;
  step.candidates.push_back(slower);
  EXPECT_NE(heat_map(step).find(best), std::string::npos);
}

TEST(TuneReport, TicksAreRound) {
  const std::vector<double> linear = AxisScale::linear(0.11, 0.19, 0, 100).ticks(6);
  ASSERT_EQ(linear.size(), 4u);
  EXPECT_DOUBLE_EQ(linear[0], 0.12);
  EXPECT_DOUBLE_EQ(linear[3], 0.18);
  EXPECT_EQ(AxisScale::logarithmic(3, 70, 0, 100).ticks(8), (std::vector<double>{4, 8, 16, 32, 64}));
  EXPECT_DOUBLE_EQ(AxisScale::logarithmic(1, 100, 0, 10)(10), 5);
  EXPECT_DOUBLE_EQ(AxisScale::linear(0, 1, 10, 0)(2), 0);  // clamped
}

TEST(TuneReport, PeersAreThoseOfTheHeadDim) {
  const auto engine = Engine::create({.threads = 1});
  std::ifstream file(tilewright::testing::source_dir() + "/examples/variants/02_causal.attn");
  std::ostringstream text;
  text << file.rdbuf();
  const auto kernel = engine->compile(*parse_graph(text.str()));
  ASSERT_TRUE(kernel);
  const PublishedPeers peers = published_peers(*kernel);
  ASSERT_EQ(peers.size(), 1u);
  EXPECT_EQ(peers.begin()->second.size(), 6u);
  for (const bench::PublishedRate& rate : peers.begin()->second) {
    EXPECT_EQ(rate.head_dim, 64);
    EXPECT_TRUE(rate.causal);
  }
}

class TuneReportFile : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  static std::string read(const fs::path& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }
  size_t files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  const fs::path folder_ = fs::path(::testing::TempDir()) / "tilewright_tune_report";
};

TEST_F(TuneReportFile, IsWrittenWholeAndAlone) {
  const fs::path path = folder_ / "out.html";
  ASSERT_TRUE(check_report_path(path));
  EXPECT_EQ(files(), 0u);
  ASSERT_TRUE(write_report(path, "one"));
  ASSERT_TRUE(check_report_path(path));
  EXPECT_EQ(read(path), "one");
  ASSERT_TRUE(write_report(path, "another"));
  EXPECT_EQ(read(path), "another");
  EXPECT_EQ(files(), 1u);
  fs::create_symlink(path, folder_ / "link.html");
  ASSERT_TRUE(write_report(folder_ / "link.html", "through"));
  EXPECT_TRUE(fs::is_symlink(folder_ / "link.html"));
  EXPECT_EQ(read(path), "through");
}

TEST_F(TuneReportFile, UnwritablePathsAreOneSentence) {
  const auto sentence = [](const Result<Done>& done) { return done ? std::string() : to_string(done.error()); };
  const std::string nowhere = folder_ / "no" / "out.html";
  for (const auto& done : {check_report_path(nowhere), write_report(nowhere, "x")})
    EXPECT_EQ(sentence(done), "cannot write the report to " + nowhere + ": No such file or directory");
  EXPECT_EQ(sentence(check_report_path(folder_)),
            "cannot write the report to " + folder_.string() + ": Is a directory");
  EXPECT_EQ(sentence(write_report("/dev/full", "x")), "cannot write the report to /dev/full: No space left on device");
  EXPECT_TRUE(write_report("/dev/null", "x"));
  EXPECT_EQ(files(), 0u);
}

}  // namespace
}  // namespace tilewright::cli
