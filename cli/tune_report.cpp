#include "cli/tune_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "cli/tune_report_charts.h"
#include "cli/tune_report_style.h"
#include "cli/tune_report_svg.h"

namespace tilewright::cli {
namespace {

using Fate = TunedCandidate::Fate;

std::string tile(const std::string& figure, const std::string& what) {
  return fmt::format("<div class=\"tile\"><b>{}</b><span>{}</span></div>\n", escape_html(figure), escape_html(what));
}

std::string list(const std::vector<std::string>& items) {
  std::string out = "<ul>\n";
  for (const std::string& item : items) out += fmt::format("<li>{}</li>\n", escape_html(item));
  return items.empty() ? "" : out + "</ul>\n";
}

/// What happened, in a sentence or two.
std::string verdict_text(const TunedStep& step) {
  std::string text;
  if (!was_measured(step.best())) {
    text = "Nothing was measured; the rules' schedule stays.";
  } else if (step.chosen == 0) {
    text = fmt::format("The rules' schedule stays: no candidate was faster by more than the noise of {:.1f} %.",
                       100 * step.noise);
  } else {
    text = fmt::format(
        "Chosen: {}. It takes {} ms where the rules' schedule takes {} ms; differences under {:.1f} % are noise here.",
        difference_text(step, step.best().schedule), short_number(1e3 * step.best().seconds()),
        short_number(1e3 * step.rules().seconds()), 100 * step.noise);
  }
  if (const std::string part = part_text(step); !part.empty()) text += " " + part;
  if (step.out_of_time) text += " The budget ended before the search did.";
  return text;
}

std::string tiles(const TunedStep& step) {
  const auto count = [&](auto&& is) { return std::count_if(step.candidates.begin(), step.candidates.end(), is); };
  const auto measured = count(was_measured);
  const auto wrong = count([](const TunedCandidate& c) { return c.fate == Fate::wrong; });
  const auto failed = count([](const TunedCandidate& c) { return c.fate == Fate::failed; });
  std::string out = "<div class=\"tiles\">\n";
  if (was_measured(step.best())) {
    const TunedCandidate& best = step.best();
    // What reads decide is told in bytes, too.
    const bool by_reads = step.bytes > 0 && step.flops / step.bytes * step.read_gbs < step.fma_peak_gflops;
    const std::string bytes =
        by_reads ? fmt::format("{:.1f} GB/s, ", step.bytes / best.seconds() * 1e-9) : std::string();
    out += tile(bytes + speed_text(step, best), fmt::format("chosen, \xc2\xb1{:.1f} %", 100 * best.spread()));
    if (was_measured(step.rules()))
      out += tile(fmt::format("{:.3f} \xc3\x97", step.rules().seconds() / best.seconds()),
                  "the speed of the rules' schedule");
    for (const auto& [name, peak] : {std::pair{"AMX", step.amx_peak_gflops}, std::pair{"FMA", step.fma_peak_gflops}})
      if (step.flops > 0 && peak > 0)
        out += tile(fmt::format("{:.0f} %", 100 * step.gflops(best) / peak),
                    fmt::format("of the {} peak, {:.0f} GFLOP/s in this run", name, peak));
    if (step.bytes > 0 && step.read_gbs > 0)
      out += tile(fmt::format("{:.1f} GB/s", step.bytes / best.seconds() * 1e-9),
                  fmt::format("operands and results; a read loop takes {:.1f}", step.read_gbs));
  }
  std::string searched = fmt::format("of {} legal schedules were measured", step.legal);
  if (wrong > 0) searched += fmt::format(", {} gave wrong results", wrong);
  if (failed > 0) searched += fmt::format(", {} failed", failed);
  return out + tile(fmt::format("{}", measured), searched) + "</div>\n";
}

struct Column {
  std::string name;
  bool number = true;
};

/// Cells are HTML.
std::string table_row(const std::vector<Column>& columns, const std::vector<std::string>& cells, bool marked = false) {
  std::string out = marked ? "<tr class=\"chosen\">" : "<tr>";
  for (size_t i = 0; i < columns.size(); ++i)
    out += fmt::format("<td{}>{}</td>", columns[i].number ? " class=\"n\"" : "", cells[i]);
  return out + "</tr>\n";
}

std::string table(const std::vector<Column>& columns, const std::string& rows, std::string_view css) {
  std::string head;
  for (const Column& column : columns)
    head += fmt::format("<th{}>{}</th>", column.number ? " class=\"n\"" : "", column.name);
  return fmt::format("<table class=\"{}\"><thead><tr>{}</tr></thead><tbody>\n{}</tbody></table>\n", css, head, rows);
}

/// Every integer that can be chosen: what it is now, what the rules say, what was tried.
std::string integer_table(const TunedStep& step) {
  const std::vector<Column> columns = {{"integer", false}, {"chosen"}, {"rules"}, {"values tried", false}};
  std::string rows;
  for (const ScheduleAxis& axis : step.axes) {
    const int64_t chosen = step.best().schedule.*axis.member, rule = step.rules().schedule.*axis.member;
    rows += table_row(
        columns, {escape_html(axis.name), chosen == rule ? fmt::format("{}", chosen) : fmt::format("<b>{}</b>", chosen),
                  fmt::format("{}", rule), fmt::format("{}", fmt::join(axis.values, ", "))});
  }
  return step.axes.empty() ? "" : table(columns, rows, "few");
}

std::string words(const TunedStep& step) {
  const TunedCandidate& best = step.best();
  std::string out =
      fmt::format("<div class=\"words\"><div><h3>The chosen schedule in words</h3>\n<p><code>{}</code></p>\n{}",
                  escape_html(print(best.schedule)), list(schedule_sentences(best.schedule)));
  if (!best.schedule.reasons.empty()) out += "<h4>Why</h4>\n" + list(best.schedule.reasons);
  if (!best.cost.reasons.empty()) out += "<h4>What the cost model says of it</h4>\n" + list(best.cost.reasons);
  return out + "</div>\n<div><h3>Its integers</h3>\n" + integer_table(step) + "</div></div>\n";
}

std::string candidate_table(const TunedStep& step) {
  const std::vector<Column> columns = {{"rank"},          {"fate", false},     {"warm ms"},
                                       {"cold ms"},       {"\xc2\xb1 %"},      {step.flops > 0 ? "GFLOP/s" : "runs/s"},
                                       {"model Mcycles"}, {"schedule", false}, {"why", false}};
  const auto number = [](double value) { return value > 0 ? short_number(value) : ""; };
  std::string rows;
  for (size_t i = 0; i < step.candidates.size(); ++i) {
    const TunedCandidate& c = step.candidates[i];
    const double rate = step.flops > 0 ? step.gflops(c) : c.seconds() > 0 ? 1 / c.seconds() : 0;
    rows += table_row(
        columns,
        {i == 0 ? "rules" : fmt::format("{}", i), escape_html(to_string(c.fate)), number(times_of(c.warm).median),
         number(times_of(c.cold).median), c.warm.empty() ? "" : fmt::format("{:.1f}", 100 * c.spread()), number(rate),
         number(c.cost.cycles * 1e-6), escape_html(print(c.schedule)), escape_html(c.why)},
        i == step.chosen);
  }
  return fmt::format(
      "<details><summary>All {} ranked schedules as a table</summary>\n<div class=\"wide\">{}</div></details>\n",
      step.candidates.size(), table(columns, rows, "dense"));
}

std::string assembly(const TunedStep& step) {
  if (step.assembly.empty()) return "";
  return fmt::format(
      "<details><summary>The chosen kernel's assembly, {} lines</summary>\n<pre class=\"asm\">{}</pre></details>\n",
      std::count(step.assembly.begin(), step.assembly.end(), '\n'), escape_html(step.assembly));
}

std::string section(const TunedStep& step, const std::string& title, int number,
                    const std::vector<bench::PublishedRate>& peers) {
  const std::string kind = step.shape_class.substr(0, step.shape_class.find(" | "));
  std::string out =
      fmt::format("<section id=\"step-{}\">\n<h2>{} <small>{}</small></h2>\n", number, title, escape_html(kind));
  out += fmt::format(
      "<p class=\"where\">tuned for {}, {}; shape class <code>{}</code></p>\n", escape_html(dims_text(step.dims)),
      step.workers == 1 ? "1 thread" : fmt::format("{} threads", step.workers), escape_html(step.shape_class));
  if (step.candidates.empty()) return out + "<p>Nothing was to be chosen.</p></section>\n";
  out += fmt::format("<p class=\"verdict\">{}</p>\n", escape_html(verdict_text(step))) + tiles(step);
  out += "<div class=\"charts\">\n" + heat_map(step) + roofline(step, peers) + "</div>\n" + candidate_chart(step);
  return out + words(step) + candidate_table(step) + assembly(step) + "</section>\n";
}

/// The machine, the code, the day; all tunings of a page are of one run.
std::string where_text(const std::vector<ReportedTuning>& tunings) {
  const TuneResult& first = tunings.front().result;
  double seconds = 0;
  for (const ReportedTuning& tuning : tunings) seconds += tuning.result.seconds;
  return fmt::format(
      "<p class=\"where\">{}<br>{}<br>{}, {:.0f} s of search, {}</p>\n", escape_html(first.device),
      escape_html(first.compiler), escape_html(first.date), seconds,
      first.database.empty() ? "kept nowhere" : "kept in <code>" + escape_html(first.database) + "</code>");
}

bool same_kernel(const bench::PublishedRate& rate, const AttentionSpec& spec) {
  const bool causal = !spec.keep.empty() && !spec.keep.is_constant_true();
  return rate.head_dim == spec.dots[0].head_dim && rate.causal == causal;
}

}  // namespace

PublishedPeers published_peers(const Kernel& kernel) {
  PublishedPeers peers;
  const std::vector<Step>& steps = kernel.program().steps;
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto* attention = std::get_if<AttentionStep>(&steps[i].what);
    if (!attention) continue;
    // One rate per name and dtype: the last, which is of the longest sequences.
    std::map<std::pair<std::string_view, DType>, bench::PublishedRate> found;
    for (const bench::PublishedRate& rate : bench::published_rates())
      if (same_kernel(rate, attention->spec)) found.insert_or_assign({rate.who, rate.dtype}, rate);
    for (const auto& [key, rate] : found) peers[kernel.stats().step_reports[i].name].push_back(rate);
  }
  return peers;
}

std::string tune_report(const std::vector<ReportedTuning>& tunings) {
  std::string steps, contents, graphs, notes;
  int count = 0;
  for (const auto& [result, peers] : tunings) {
    const std::string graph = "@" + escape_html(result.graph);
    graphs += (graphs.empty() ? "" : ", ") + graph;
    for (const TunedStep& step : result.steps) {
      // What is published are rates of prefill.
      const bool has_peers = !step.candidates.empty() && !is_decode(step.rules().schedule.kernel);
      const auto found = has_peers ? peers.find(step.name) : peers.end();
      const std::string title =
          tunings.size() > 1 ? graph + " %" + escape_html(step.name) : "%" + escape_html(step.name);
      steps +=
          section(step, title, ++count, found == peers.end() ? std::vector<bench::PublishedRate>() : found->second);
      contents += fmt::format("<li><a href=\"#step-{}\">{}</a> <code>{}</code></li>\n", count, title,
                              escape_html(step.shape_class));
    }
    notes += list(result.notes);
  }
  // No scripts, nothing loaded: the policy says so to the browser, whatever the texts hold.
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>Tuning of "
      "{0}</title>\n<style>\n{1}</style>\n</head>\n"
      "<body>\n{2}<header>\n<h1>Tuning of <code>{0}</code></h1>\n{3}{4}{5}</header>\n<main>\n{6}</main>\n"
      "<footer>Written by tilewright tune. This page has no scripts and loads nothing.</footer>\n</body>\n</html>\n",
      graphs, kReportStyle, kReportPatterns, tunings.empty() ? "" : where_text(tunings),
      count > 1 ? "<nav><ol>\n" + contents + "</ol></nav>\n" : "",
      notes.empty() ? "" : "<div class=\"notes\">" + notes + "</div>\n", steps);
}

}  // namespace tilewright::cli
