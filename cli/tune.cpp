// tilewright tune FILE…: search the fastest schedules of a graph on this machine and keep them.
#include "cli/tune.h"

#include <fmt/format.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/tune_report.h"
#include "cli/tune_report_charts.h"
#include "runtime/tuner.h"

namespace tilewright::cli {
namespace {

struct TuneFlags {
  std::vector<std::string> files, dims;
  std::string database, report, filter;
  double budget = 60;
  int candidates = 32, threads = 0;
  bool json = false, suite = false, family = false;
};

std::string milliseconds(double seconds) {
  const double ms = seconds * 1e3;
  return ms == 0 ? "-" : fmt::format("{:.{}f} ms", ms, ms < 1 ? 4 : ms < 10 ? 3 : 1);
}

/// One line that is written over on a terminal; elsewhere a plain line whenever the stage changes.
class ProgressLine {
 public:
  void show(const TuneProgress& progress) {
    const std::string line =
        fmt::format("%{}: {}, {} of {} candidates left, best {} (rules {}), {:.0f} s left", progress.step,
                    progress.stage, progress.left, progress.candidates, milliseconds(progress.best_seconds),
                    milliseconds(progress.rules_seconds), progress.seconds_left);
    if (terminal_) {
      fmt::print(stderr, "\r\033[K{}", line);
      std::fflush(stderr);
      shown_ = true;
    } else if (const std::string stage = progress.step + progress.stage; stage != stage_) {
      stage_ = stage;
      fmt::print(stderr, "{}\n", line);
    }
  }
  void clear() {
    if (shown_) fmt::print(stderr, "\r\033[K");
    shown_ = false;
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
  bool shown_ = false;
  std::string stage_;
};

std::string list(const DimBindings& dims) {
  std::string out;
  for (const auto& [name, size] : dims) out += fmt::format("{}{}={}", out.empty() ? "" : " ", name, size);
  return out;
}

std::string speed(const TunedStep& step, const TunedCandidate& candidate) {
  if (candidate.warm.empty()) return "not measured";
  return fmt::format("{:.1f} GFLOP/s, {} +-{:.0f} %", step.gflops(candidate), milliseconds(candidate.seconds()),
                     100 * candidate.spread());
}

void print_step(const TunedStep& step) {
  fmt::print("%{}  {}\n  {:<10} {}\n", step.name, list(step.dims), "class", step.shape_class);
  if (const std::string part = part_text(step); !part.empty()) fmt::print("  {:<10} {}\n", "part", part);
  int wrong = 0, compiled = 0;
  for (const TunedCandidate& each : step.candidates) {
    wrong += each.fate == TunedCandidate::Fate::wrong || each.fate == TunedCandidate::Fate::failed;
    compiled += each.fate != TunedCandidate::Fate::pruned;
  }
  fmt::print("  {:<10} {} legal schedules, {} compiled and checked, {} of them wrong{}\n", "searched", step.legal,
             compiled, wrong, step.out_of_time ? "; the budget ended before the search did" : "");
  for (const TunedCandidate& each : step.candidates)
    if (!each.why.empty()) fmt::print("  {:<10} {}: {}\n", to_string(each.fate), print(each.schedule), each.why);
  fmt::print("  {:<10} {}\n             {}\n", "rules", print(step.rules().schedule), speed(step, step.rules()));
  if (step.chosen == 0) {
    fmt::print("  {:<10} the rules' schedule stays: nothing is faster by more than {:.1f} %\n", "best",
               100 * step.noise);
    return;
  }
  fmt::print("  {:<10} {}\n             {}, {:.1f} % faster\n", "best", print(step.best().schedule),
             speed(step, step.best()), 100 * (step.rules().seconds() / step.best().seconds() - 1));
}

Json json(const TunedStep& step) {
  Json out = {{"step", step.name},
              {"class", step.shape_class},
              {"dims", step.dims},
              {"measured_at", step.measured_at},
              {"slice", {{"part", step.slice.part}, {"whole", step.slice.whole}}},
              {"speedup", step.speedup()},
              {"threads", step.workers},
              {"flops", step.flops},
              {"bytes", step.bytes},
              {"fma_peak_gflops", step.fma_peak_gflops},
              {"read_gbs", step.read_gbs},
              {"legal", step.legal},
              {"chosen", step.chosen},
              {"noise", step.noise},
              {"out_of_time", step.out_of_time}};
  out["candidates"] = Json::array();
  for (const TunedCandidate& each : step.candidates) {
    if (each.fate == TunedCandidate::Fate::pruned) continue;
    Json schedule;
    for (const ScheduleField& field : schedule_fields())
      schedule[std::string(field.name)] = each.schedule.*field.member;
    out["candidates"].push_back({{"schedule", print(each.schedule)},
                                 {"integers", std::move(schedule)},
                                 {"fate", to_string(each.fate)},
                                 {"why", each.why},
                                 {"model_cycles", each.cost.cycles},
                                 {"model", each.cost.reasons},
                                 {"ms", each.seconds() * 1e3},
                                 {"gflops", step.gflops(each)},
                                 {"warm_s", each.warm},
                                 {"cold_s", each.cold},
                                 {"whole_s", each.whole}});
  }
  return out;
}

void print_result(const TuneResult& result) {
  for (const TunedStep& step : result.steps) print_step(step);
  for (const std::string& note : result.notes) fmt::print("note: {}\n", note);
  fmt::print("@{} in {:.1f} s{}\n", result.graph, result.seconds,
             result.database.empty() ? "" : ", kept in " + result.database);
  std::fflush(stdout);
}

Json json(const TuneResult& result, const std::string& file) {
  Json out = {{"graph", result.graph},       {"file", file},          {"device", result.device},
              {"compiler", result.compiler}, {"date", result.date},   {"seconds", result.seconds},
              {"database", result.database}, {"notes", result.notes}, {"steps", Json::array()}};
  for (const TunedStep& step : result.steps) out["steps"].push_back(json(step));
  return out;
}

int tune_command(const TuneFlags& options) {
  TuneOptions tuning;
  tuning.budget_seconds = options.budget;
  tuning.candidates = options.candidates;
  tuning.for_family = options.family;
  EngineOptions engine_options;
  engine_options.threads = options.threads;
  if (!options.database.empty()) engine_options.tuning = options.database;
  // Said before a minute is spent, not after it.
  if (!options.report.empty())
    if (auto ok = check_report_path(options.report); !ok) return fail(ok.error(), options.json);
  tuning.want_assembly = !options.report.empty();
  const auto engine = Engine::create(engine_options);
  if (!engine) return fail(engine.error(), options.json);
  ProgressLine line;
  std::vector<ReportedTuning> reported;
  std::string not_saved;
  if (!options.json) tuning.progress = [&](const TuneProgress& progress) { line.show(progress); };
  if (options.suite == !options.files.empty())
    return fail(options.suite ? "--suite has shapes of its own; no graph file goes with it"
                              : "nothing to tune: name a graph file, or --suite",
                options.json);
  std::vector<SuiteShape> shapes;
  if (options.suite) {
    shapes = suite_shapes(options.filter);
    if (shapes.empty())
      return fail(fmt::format("--filter {} matches no shape of the suite", options.filter), options.json);
    tuning.twins = false;
  }
  for (const std::string& file : options.files) {
    auto graph = read_graph(file);
    if (!graph) return fail(graph.error(), options.json, file);
    auto dims = parse_dims(options.dims);
    if (!dims) return fail(dims.error(), options.json);
    add_default_dims(*graph, *dims);
    shapes.push_back({file, std::move(*graph), std::move(*dims)});
  }
  Json results = Json::array();
  SuiteTable table;
  for (const SuiteShape& shape : shapes) {
    const auto result = engine->tune(shape.graph, shape.dims, tuning);
    line.clear();
    if (!result) return fail(result.error(), options.json, shape.name);
    for (const TunedStep& step : result->steps) table.add(shape.name, step);
    if (options.json)
      results.push_back(json(*result, shape.name));
    else
      print_result(*result);
    if (!result->not_saved.empty()) not_saved = result->not_saved;
    if (!options.report.empty()) {
      const auto kernel = engine->compile(shape.graph);
      reported.push_back({*result, kernel ? published_peers(*kernel) : PublishedPeers()});
    }
  }
  if (options.suite && !options.json) fmt::print("\n{}", table.summary());
  if (!options.report.empty()) {
    if (auto ok = write_report(options.report, tune_report(reported)); !ok) return fail(ok.error(), options.json);
    if (!options.json) fmt::print("report in {}\n", options.report);
  }
  if (!not_saved.empty()) return fail(not_saved, options.json);
  if (options.json) fmt::print("{}\n", results.dump(2));
  return kOk;
}

}  // namespace

void add_tune(CommandLine& line) {
  Command command = line.add("tune", "search the fastest legal schedules of a graph on this machine, and keep them");
  auto options = std::make_shared<TuneFlags>();
  command.files("FILE", options->files, "graph files, - for stdin; none with --suite");
  command.option("--dim", options->dims, "NAME=SIZE of a named dim");
  command.option("--budget", options->budget, "seconds per graph (60)");
  command.option("--candidates", options->candidates, "schedules that are compiled and measured per step (32)");
  command.option("--threads", options->threads, "worker threads, 0 = all cores");
  command.option("--db", options->database, "tuning database, in place of the one beside the cache");
  command.option("--report", options->report, "a page of what was found, one self-contained HTML file");
  command.flag("--suite", options->suite,
               "the shapes of the benchmark in place of files, and what rules lose to tuned");
  command.option("--filter", options->filter, "shapes of the suite whose name contains this");
  command.flag("--family", options->family,
               "keep results for every device of this family (what ships in runtime/tuned)");
  command.flag("--json", options->json, "print JSON");
  command.action([options] { return tune_command(*options); });
}

}  // namespace tilewright::cli
