#include "cli/bench_text.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

#include "cli/cli.h"

namespace tilewright::cli {
namespace {

using bench::Figure;
using bench::Outcome;
using bench::Row;
using bench::Verdict;

constexpr size_t kColumns = 120;

/// Four digits or so, without an exponent.
std::string number(double value) {
  const double size = std::abs(value);
  return fmt::format("{:.{}f}", value, size >= 99.95 ? 1 : size >= 0.9995 ? 2 : size >= 0.00995 ? 3 : 4);
}

/// Half the distance from the 10th to the 90th percentile.
std::string spread_text(const Figure& figure) {
  return figure.low == figure.high ? "" : fmt::format("{:.0f} %", 50 * figure.spread());
}

std::string value_text(const Figure& figure, const std::string& unit) {
  if (unit == "%" || unit == "GFLOP/s" || unit == "GB/s") return fmt::format("{:.1f} {}", figure.median, unit);
  return fmt::format("{:.2f} {}", figure.median, unit);
}

std::string bar_text(const Row& row) {
  return row.bar ? fmt::format("{} {:g} {}", row.bar->at_least ? ">=" : "<=", row.bar->target, row.unit) : "";
}

std::string_view verdict_text(Verdict verdict) {
  switch (verdict) {
    case Verdict::met: return "ok";
    case Verdict::missed: return "MISSED";
    case Verdict::void_row: return "VOID";
    default: return "";
  }
}

/// Pieces put together to lines, as many on each as fit; what is longer than a line goes on at a comma.
std::string indented(const std::vector<std::string>& pieces) {
  const std::string margin = "      ";
  std::string out, line;
  for (const std::string& piece : pieces) {
    if (piece.empty()) continue;
    if (!line.empty() && margin.size() + line.size() + 2 + piece.size() > kColumns) {
      out += margin + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : "; ") + piece;
    for (size_t comma; margin.size() + line.size() > kColumns; line.erase(0, comma + 2)) {
      comma = line.rfind(", ", kColumns - margin.size() - 1);
      if (comma == std::string::npos) break;
      out += margin + line.substr(0, comma + 1) + "\n";
    }
  }
  return line.empty() ? out : out + margin + line + "\n";
}

std::string trimmed(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

std::string memory_text(const Row& row) {
  if (row.kernel.empty()) return "";
  std::string text = "scratch " + bytes_text(row.scratch_bytes);
  if (row.workspace_bytes > 0) text += ", workspace " + bytes_text(row.workspace_bytes);
  return text;
}

std::string columns(std::string_view name, std::string_view ms, std::string_view spread, std::string_view rate,
                    std::string_view limit, std::string_view value, std::string_view bar, std::string_view verdict) {
  return trimmed(fmt::format("  {:<30}{:>10}{:>6}{:>16}  {:<26}{:>9}{:>10}  {}", name, ms, spread, rate, limit, value,
                             bar, verdict));
}

}  // namespace

std::string heading_text(const bench::BenchRun& run) {
  const bench::DeviceFacts& device = run.device;
  std::string out =
      fmt::format("{}, {} cores, L1d {}, L2 {}, L3 {}; {}\n", device.isa, device.cores, bytes_text(device.l1_bytes),
                  bytes_text(device.l2_bytes), bytes_text(device.l3_bytes), run.code);
  out +=
      "Medians; every limit is measured in turn with its row. +- is half the way from the 10th to the 90th "
      "percentile.\n";
  if (run.load_average > 0.5)
    out += fmt::format("Other programs were running (load average {:.1f}): figures vary.\n", run.load_average);
  return out + "\n" + columns("", "ms", "+-", "rate", "limit of the same run", "value", "bar", "");
}

std::string row_text(const Row& row, const Row* before) {
  const bool same_group = before && before->group == row.group;
  std::string out = same_group ? "" : (before ? "\n" : "") + row.group + "\n";
  if (row.verdict() == Verdict::skipped) return out + fmt::format("  {:<30}skipped: {}\n", row.name, row.skipped);
  // Void rows need not have been measured.
  const bool timed = row.ms.median > 0, limited = row.limit.median > 0, is_rate = row.unit.ends_with("/s");
  const std::string value = timed || row.value.median != 0 ? value_text(row.value, row.unit) : "";
  const std::string rate = is_rate ? value : row.rate() > 0 ? fmt::format("{:.1f} {}", row.rate(), row.rate_unit) : "";
  out += columns(row.name, timed ? number(row.ms.median) : "", spread_text(timed ? row.ms : row.value), rate,
                 limited ? fmt::format("{} {} {}", row.limit_name, number(row.limit.median), row.limit_unit) : "",
                 is_rate ? "" : value, bar_text(row), verdict_text(row.verdict()));
  const bool as_above = same_group && !row.schedule.empty() && before->schedule == row.schedule;
  std::vector<std::string> pieces = {row.fall_back};
  // A schedule per template, the row's text has "; " between them.
  for (size_t at = 0, end = 0; !as_above && at < row.schedule.size(); at = end + 2) {
    end = std::min(row.schedule.find("; ", at), row.schedule.size());
    pieces.push_back(row.schedule.substr(at, end - at));
  }
  pieces.insert(pieces.end(), {as_above ? "as above" : "", memory_text(row), row.note});
  return out + indented(pieces);
}

std::string summary_text(const bench::BenchRun& run) {
  std::map<Verdict, int> counts;
  for (const Row& row : run.rows) ++counts[row.verdict()];
  std::string out = fmt::format("bars: {} met, {} missed, {} void, {} skipped", counts[Verdict::met],
                                counts[Verdict::missed], counts[Verdict::void_row], counts[Verdict::skipped]);
  if (counts[Verdict::measured] > 0) out += fmt::format("; {} figures without a bar", counts[Verdict::measured]);
  out += "\n";
  for (const Row& row : run.rows)
    if (row.verdict() == Verdict::missed)
      out += fmt::format("  missed   {}: {}, bar {}\n", row.key(), value_text(row.value, row.unit), bar_text(row));
  for (const Row& row : run.rows)
    if (row.verdict() == Verdict::void_row) out += fmt::format("  void     {}\n", row.key());
  std::map<std::string, int> lacking;
  for (const Row& row : run.rows)
    if (row.verdict() == Verdict::skipped) ++lacking[row.skipped];
  for (const auto& [why, count] : lacking)
    out += fmt::format("  skipped  {} row{}, not counted as met: {}\n", count, count == 1 ? "" : "s", why);
  return out;
}

std::string comparison_text(const bench::Comparison& comparison, const bench::BenchRun& before,
                            const bench::BenchRun& after, const std::string& name) {
  std::string out = fmt::format("compared with {}\n", name);
  if (!comparison.device_differences.empty())
    out += fmt::format("  the devices differ ({}): rows are compared as shares of their limits\n",
                       comparison.device_differences);
  if (before.code != after.code) out += fmt::format("  other code: {}, then {}\n", before.code, after.code);
  std::string group;
  for (const bench::Change& change : comparison.changes) {
    if (change.group != group) out += "\n" + change.group + "\n";
    group = change.group;
    const auto figure = [](const Figure& f) { return fmt::format("{} +-{:.0f} %", number(f.median), 50 * f.spread()); };
    if (change.what.empty()) {
      const std::string why = change.outcome == Outcome::only_before  ? "only in " + name
                              : change.outcome == Outcome::only_after ? "not in " + name
                                                                      : "not compared: " + change.why;
      out += fmt::format("  {:<30}{}\n", change.name, why);
      continue;
    }
    const std::string_view verdict = change.outcome == Outcome::worse ? "SLOWER" : to_string(change.outcome);
    out += trimmed(fmt::format("  {:<30}{:>17} -> {:>17} {:<15}{:>+8.1f} {:<6} {}", change.name, figure(change.before),
                               figure(change.after), change.what, change.percent, change.points ? "points" : "%",
                               verdict));
    if (!change.why.empty()) out += indented({change.why});
  }
  const auto count = [&](Outcome outcome) { return comparison.count(outcome); };
  return out +
         fmt::format("\ncompared: {} slower, {} faster, {} within noise, {} not comparable, {} only in {}, {} new\n",
                     count(Outcome::worse), count(Outcome::better), count(Outcome::within_noise),
                     count(Outcome::incomparable), count(Outcome::only_before), name, count(Outcome::only_after));
}

}  // namespace tilewright::cli
