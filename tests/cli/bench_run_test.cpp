// Runs of the benchmark as files and texts: what is written reads back, what is damaged is refused in one sentence,
// what got slower is told from noise. Nothing here is measured.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "bench/comparison.h"
#include "bench/published.h"
#include "bench/run_file.h"

namespace tilewright::bench {
namespace {

using Json = nlohmann::ordered_json;

/// A row of 100 ms ± 1 % at 80 % of a limit of 200 GFLOP/s.
Row share_row(const std::string& name = "share") {
  Row row{.group = "speed", .name = name, .unit = "%", .bar = Bar{75}};
  row.ms = {100, 99, 101};
  row.work = 16e9;
  row.rate_unit = row.limit_unit = "GFLOP/s";
  row.limit = {200, 198, 202};
  row.limit_name = "FMA peak";
  row.value = {80, 79, 81};
  row.kernel = "prefill";
  row.schedule = "prefill avx512: block_q 96, \"block_kv\" 256";
  row.scratch_bytes = 123456;
  return row;
}

/// 10 % ± 1 more per score than plain.
Row cost_row() {
  Row row = share_row("cost");
  row.bar = Bar{15, false};
  row.limit_name = "plain, per score";
  row.limit_unit = "ns";
  row.limit = {1.5, 1.49, 1.51};
  row.value = {10, 9, 11};
  return row;
}

Row skipped_row() {
  Row row{.group = "speed bf16", .name = "d64", .bar = Bar{36}};
  row.skipped = "this CPU lacks amx_bf16";
  return row;
}

BenchRun run_of(std::vector<Row> rows) {
  return {
      {"avx512", "+avx2,+fma", 2, 48 << 10, 2 << 20, 260 << 20}, "llvm 19.1.7 source 0123", 1.5, 0.25, std::move(rows)};
}

void scale(Figure& figure, double by) { figure = {by * figure.median, by * figure.low, by * figure.high}; }
/// As on a machine, or at a clock, that is faster by the factor; everything scales.
Row faster(Row row, double by) {
  scale(row.ms, 1 / by);
  scale(row.limit, row.limit_unit == "ms" || row.limit_unit == "ns" ? 1 / by : by);
  return row;
}
/// The kernel takes longer by the factor, on the same machine.
Row slowed(Row row, double by) {
  scale(row.ms, by);
  if (row.bar && row.bar->at_least)
    scale(row.value, 1 / by);
  else
    row.value = {100 * (by * (1 + row.value.median / 100) - 1), 100 * (by * (1 + row.value.low / 100) - 1),
                 100 * (by * (1 + row.value.high / 100) - 1)};
  return row;
}

Change change(const Row& before, const Row& after) {
  const Comparison comparison = compare(run_of({before}), run_of({after}));
  EXPECT_EQ(comparison.changes.size(), 1u);
  return comparison.changes.front();
}

TEST(BenchRun, VerdictsFollowTheBar) {
  Row row = share_row();
  EXPECT_EQ(row.verdict(), Verdict::met);
  row.bar->target = 80.5;
  EXPECT_EQ(row.verdict(), Verdict::missed);
  row.bar->at_least = false;
  EXPECT_EQ(row.verdict(), Verdict::met);
  row.value.median = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(row.verdict(), Verdict::missed);
  row.fall_back = "another template ran";
  EXPECT_EQ(row.verdict(), Verdict::void_row);
  row.skipped = "no AMX";
  EXPECT_EQ(row.verdict(), Verdict::skipped);
  EXPECT_EQ((Row{.group = "limits", .name = "peak", .value = {1, 1, 1}}).verdict(), Verdict::measured);
  for (const char* text : {"measured", "met", "missed", "void", "skipped"})
    EXPECT_EQ(to_string(*parse_verdict(text)), text);
  EXPECT_FALSE(parse_verdict("fine"));
}

TEST(BenchRun, FiguresAreMediansOfPairs) {
  Series series;
  for (int i = 0; i <= 100; ++i) series.values.push_back((i * 37) % 101);
  EXPECT_EQ(series.figure(2).median, 100);
  EXPECT_EQ(series.figure(2).low, 20);
  EXPECT_EQ(series.figure(2).high, 180);
  EXPECT_DOUBLE_EQ(series.figure().spread(), 80.0 / 50);
  // Subject and limit at three clocks: the ratio does not move although both do.
  const std::vector<double> own = {1, 2, 4}, limit = {3, 6, 12};
  const Figure ratio = figure_of(3, [&](size_t i) { return limit[i] / own[i]; });
  EXPECT_EQ(ratio.median, 3);
  EXPECT_EQ(ratio.spread(), 0);
}

TEST(BenchRun, JsonReadsBack) {
  Row odd = share_row("\"quotes\", commas and \xc3\xa4");
  odd.note = "a \\ b";
  odd.fall_back = "because";
  const BenchRun run = run_of({share_row(), cost_row(), odd, skipped_row(), {.group = "limits", .name = "peak"}});
  const std::string text = to_json(run);
  const auto back = parse_run(text, "run.json");
  ASSERT_TRUE(back) << to_string(back.error());
  EXPECT_EQ(to_json(*back), text);
  EXPECT_EQ(back->device, run.device);
  EXPECT_EQ(back->rows[2].name, odd.name);
  EXPECT_EQ(back->rows[3].verdict(), Verdict::skipped);
  EXPECT_FALSE(back->rows[4].bar);
  const Comparison comparison = compare(run, *back);
  EXPECT_EQ(comparison.count(Outcome::within_noise), 3);
  EXPECT_TRUE(parse_run(to_json(*back, &comparison), "run.json"));
}

TEST(BenchRun, NumbersThatJsonLacksReadBack) {
  Row row = share_row();
  row.value = Figure::exactly(std::numeric_limits<double>::quiet_NaN());
  const auto back = parse_run(to_json(run_of({row})), "run.json");
  ASSERT_TRUE(back);
  EXPECT_TRUE(std::isnan(back->rows[0].value.median));
  EXPECT_EQ(change(share_row(), back->rows[0]).what, "ms");
}

TEST(BenchRun, ForeignAndDamagedFilesAreOneSentence) {
  const std::string good = to_json(run_of({share_row(), cost_row()}));
  const auto sentence = [](const std::string& text) {
    const auto run = parse_run(text, "old.json");
    return run ? std::string() : to_string(run.error());
  };
  EXPECT_EQ(sentence(""), "old.json is not JSON from byte 1 on");
  EXPECT_EQ(sentence("[]"), "old.json holds no run of tilewright bench: it has no format");
  EXPECT_EQ(sentence(R"({"format": 3})"), "old.json holds no run of tilewright bench: it has no format");
  EXPECT_EQ(sentence(R"({"format": "tilewright bench 9"})"),
            "old.json is of format 'tilewright bench 9'; this build reads 'tilewright bench 1'");
  EXPECT_EQ(sentence(R"({"format": "tilewright bench 1"})"), "old.json is damaged: device is missing");
  const auto damaged = [&](const Json::json_pointer& where, const Json& what) {
    Json json = Json::parse(good);
    json[where] = what;
    return sentence(json.dump());
  };
  using Where = Json::json_pointer;
  EXPECT_EQ(damaged(Where("/rows"), 7), "old.json is damaged: rows is no array");
  EXPECT_EQ(damaged(Where("/rows/1"), "x"), "old.json is damaged: rows[1] is no object");
  EXPECT_EQ(damaged(Where("/rows/1/ms/low"), "fast"), "old.json is damaged: rows[1].ms.low is no number");
  EXPECT_EQ(damaged(Where("/rows/0/bar"), 3), "old.json is damaged: rows[0].bar is no object");
  EXPECT_EQ(damaged(Where("/rows/0/name"), Json()), "old.json is damaged: rows[0].name is no string");
  EXPECT_EQ(damaged(Where("/rows/0/scratch_bytes"), 0.5), "old.json is damaged: rows[0].scratch_bytes is no integer");
  EXPECT_EQ(damaged(Where("/device/cores"), true), "old.json is damaged: device.cores is no integer");
  // Cut anywhere it is refused, and no field is needed that is not missed.
  for (size_t length = 0; length + 1 < good.size(); length += 7)
    EXPECT_NE(sentence(good.substr(0, length)), "") << length;
  const Json whole = Json::parse(good).flatten();
  for (const auto& [pointer, value] : whole.items()) {
    Json json = Json::parse(good);
    const Where where(pointer);
    json[where.parent_pointer()].erase(where.back());
    const std::string said = sentence(json.dump());
    const bool printed_only = where.back() == "verdict" || where.back() == "rate";
    EXPECT_EQ(!said.empty(), !printed_only) << pointer << ": " << said;
  }
}

TEST(BenchRun, TextsOfFilesCannotSteerATerminal) {
  Row row = share_row("a\x1b[2Jb\n");
  const auto back = parse_run(to_json(run_of({row})), "run.json");
  ASSERT_TRUE(back);
  EXPECT_EQ(back->rows[0].name, "a?[2Jb?");
}

/// An independent reader of RFC 4180.
std::vector<std::vector<std::string>> read_csv(const std::string& text) {
  std::vector<std::vector<std::string>> lines(1, {""});
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    std::string& field = lines.back().back();
    if (quoted) {
      if (text[i] != '"')
        field += text[i];
      else if (i + 1 < text.size() && text[i + 1] == '"')
        field += text[i++];
      else
        quoted = false;
    } else if (text[i] == '"') {
      EXPECT_EQ(field, "");
      quoted = true;
    } else if (text[i] == ',') {
      lines.back().emplace_back();
    } else if (text.compare(i, 2, "\r\n") == 0) {
      lines.push_back({""});
      ++i;
    } else {
      EXPECT_NE(text[i], '\n');
      field += text[i];
    }
  }
  EXPECT_FALSE(quoted);
  EXPECT_EQ(lines.back(), std::vector<std::string>{""});
  lines.pop_back();
  return lines;
}

TEST(BenchRun, CsvIsRfc4180) {
  Row odd = share_row("\"quoted\", with a comma");
  odd.note = "two\r\nlines";
  odd.value.median = std::numeric_limits<double>::infinity();
  const auto lines = read_csv(to_csv(run_of({share_row(), odd, skipped_row()})));
  ASSERT_EQ(lines.size(), 4u);
  const auto column = [&](const std::string& name) {
    const auto at = std::find(lines[0].begin(), lines[0].end(), name);
    EXPECT_NE(at, lines[0].end()) << name;
    return static_cast<size_t>(at - lines[0].begin());
  };
  for (const auto& line : lines) EXPECT_EQ(line.size(), lines[0].size());
  EXPECT_EQ(lines[1][column("ms")], "100");
  EXPECT_EQ(lines[1][column("rate")], "160");
  EXPECT_EQ(lines[1][column("limit_high")], "202");
  EXPECT_EQ(lines[1][column("bar")], "75");
  EXPECT_EQ(lines[1][column("bar_is")], "at least");
  EXPECT_EQ(lines[1][column("schedule")], share_row().schedule);
  EXPECT_EQ(lines[1][column("scratch_bytes")], "123456");
  EXPECT_EQ(lines[2][column("name")], odd.name);
  EXPECT_EQ(lines[2][column("note")], odd.note);
  EXPECT_EQ(lines[2][column("value")], "");
  EXPECT_EQ(lines[3][column("verdict")], "skipped");
  EXPECT_EQ(lines[3][column("skipped_because")], "this CPU lacks amx_bf16");
  EXPECT_EQ(lines[3][column("code")], "llvm 19.1.7 source 0123");
}

TEST(BenchComparison, TellsSlowerFromNoise) {
  EXPECT_EQ(change(share_row(), share_row()).outcome, Outcome::within_noise);
  const Change slower = change(share_row(), slowed(share_row(), 1.1));
  EXPECT_EQ(slower.outcome, Outcome::worse);
  EXPECT_EQ(slower.what, "ms");
  EXPECT_NEAR(slower.percent, 10, 1e-9);
  EXPECT_EQ(change(share_row(), slowed(share_row(), 0.9)).outcome, Outcome::better);
  // Under the floor although no repeat of one reaches the other.
  EXPECT_EQ(change(share_row(), slowed(share_row(), 1.025)).outcome, Outcome::within_noise);
  Row unsteady = slowed(share_row(), 1.1);
  unsteady.ms.low = 100.5;
  EXPECT_EQ(change(share_row(), unsteady).outcome, Outcome::within_noise);
  EXPECT_EQ(change(cost_row(), slowed(cost_row(), 1.1)).outcome, Outcome::worse);
}

TEST(BenchComparison, AMovedLimitMeansShares) {
  // The clock: everything takes 20 % longer, the limit too.
  const Change clock = change(share_row(), faster(share_row(), 0.8));
  EXPECT_EQ(clock.outcome, Outcome::within_noise);
  EXPECT_EQ(clock.what, "% of FMA peak");
  EXPECT_NE(clock.why.find("the limit moved from 200 to 160 GFLOP/s"), std::string::npos) << clock.why;
  const Change both = change(share_row(), faster(slowed(share_row(), 1.1), 0.8));
  EXPECT_EQ(both.outcome, Outcome::worse);
  EXPECT_EQ(both.what, "% of FMA peak");
  // Only the yardstick got better: nothing is slower.
  Row yardstick = share_row();
  scale(yardstick.limit, 1.2);
  scale(yardstick.value, 1 / 1.2);
  EXPECT_EQ(change(share_row(), yardstick).outcome, Outcome::within_noise);
  // A cost in percent moves by points.
  const Change cost = change(cost_row(), faster(slowed(cost_row(), 1.1), 0.8));
  EXPECT_EQ(cost.outcome, Outcome::worse);
  EXPECT_TRUE(cost.points);
  EXPECT_NEAR(cost.percent, 11, 1e-9);
}

TEST(BenchComparison, OtherDevicesMeanShares) {
  BenchRun here = run_of({share_row(), cost_row()}), there = here;
  there.device.isa = "amx";
  there.device.cores = 8;
  for (Row& row : there.rows) row = faster(row, 3);
  Row compile{.group = "compile", .name = "cold", .unit = "ms", .bar = Bar{15, false}};
  compile.ms = compile.value = {12, 11, 13};
  here.rows.push_back(compile);
  there.rows.push_back(slowed(compile, 2));
  const Comparison comparison = compare(here, there);
  EXPECT_EQ(comparison.device_differences, "isa avx512 / amx, cores 2 / 8");
  EXPECT_EQ(comparison.changes[0].outcome, Outcome::within_noise);
  EXPECT_EQ(comparison.changes[0].what, "% of FMA peak");
  EXPECT_NE(comparison.changes[0].why.find("devices differ"), std::string::npos);
  EXPECT_EQ(comparison.changes[2].outcome, Outcome::incomparable);
  there.rows[0] = slowed(there.rows[0], 1.1);
  EXPECT_EQ(compare(here, there).changes[0].outcome, Outcome::worse);
}

TEST(BenchComparison, OnlyWhatBothMeasuredIsCompared) {
  Row void_row = share_row("void");
  void_row.fall_back = "generic ran";
  Row was_fine = share_row("void"),
      limit{.group = "limits", .name = "peak", .value = {200, 199, 201}, .unit = "GFLOP/s"};
  Row lower = limit;
  scale(lower.value, 0.5);
  Row other_unit = share_row("unit");
  other_unit.unit = "x";
  const Comparison comparison = compare(run_of({was_fine, limit, skipped_row(), share_row("gone"), share_row("unit")}),
                                        run_of({void_row, lower, skipped_row(), share_row("new"), other_unit}));
  const auto outcome = [&](const std::string& name) {
    for (const Change& each : comparison.changes)
      if (each.name == name) return each.outcome;
    return Outcome::better;
  };
  EXPECT_EQ(outcome("void"), Outcome::incomparable);
  EXPECT_EQ(outcome("d64"), Outcome::incomparable);
  EXPECT_EQ(outcome("gone"), Outcome::only_before);
  EXPECT_EQ(outcome("new"), Outcome::only_after);
  EXPECT_EQ(outcome("peak"), Outcome::within_noise);  // the machine's business
  EXPECT_EQ(outcome("unit"), Outcome::within_noise);  // by its time
  EXPECT_EQ(comparison.count(Outcome::worse), 0);
}

TEST(BenchComparison, MemoryIsCompared) {
  Row memory{.group = "memory", .name = "S65536", .value = Figure::exactly(1.5), .unit = "MB", .bar = Bar{16, false}};
  Row more = memory;
  more.value = Figure::exactly(3);
  EXPECT_EQ(change(memory, more).outcome, Outcome::worse);
  EXPECT_EQ(change(memory, more).what, "MB");
}

TEST(Published, FiguresAreLabelled) {
  EXPECT_NE(published_source().find("measured elsewhere"), std::string::npos);
  ASSERT_TRUE(published_limit("AMX peak bf16, 1 thread"));
  EXPECT_EQ(published_limit("AMX peak bf16, 1 thread")->figure, 3300);
  EXPECT_FALSE(published_limit("no such row"));
  EXPECT_EQ(published_rates().size(), 42u);
}

}  // namespace
}  // namespace tilewright::bench
