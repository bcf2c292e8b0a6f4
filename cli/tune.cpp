// tilewright tune FILE…: search the fastest schedules of a graph on this machine and keep them.
#include "cli/tune.h"

#include <fmt/format.h>

#include "cli/cuda.h"
#include "cli/tune_report.h"
#include "cli/tune_report_charts.h"
#include "cli/tune_text.h"
#include "runtime/tuner.h"

namespace tilewright::cli {
namespace {

struct TuneFlags {
  std::vector<std::string> files, dims;
  std::string target = "cpu", database, report, filter, precision, isa;
  double budget = 60;
  int candidates = 32, threads = 0;
  bool json = false, suite = false, family = false, no_twins = false;
};

/// What a CPU's candidate has besides.
Json json_of(const TunedStep& step) {
  Json out = search_json(step);
  out["measured_at"] = step.measured_at;
  out["slice"] = {{"part", step.slice.part}, {"whole", step.slice.whole}};
  out["threads"] = step.workers;
  out["bytes"] = step.bytes;
  out["fma_peak_gflops"] = step.fma_peak_gflops;
  out["amx_peak_gflops"] = step.amx_peak_gflops;
  out["read_gbs"] = step.read_gbs;
  size_t at = 0;
  for (const TunedCandidate& each : step.candidates) {
    if (each.fate == TunedCandidate::Fate::pruned) continue;
    Json& candidate = out["candidates"][at++];
    candidate["model_cycles"] = each.cost.cycles;
    candidate["model"] = each.cost.reasons;
    candidate["whole_s"] = each.whole;
  }
  return out;
}

int tune_command(const TuneFlags& options) {
  if (is_cuda_target(options.target)) {
    if (options.suite || options.family || options.threads != 0 || !options.report.empty() || !options.isa.empty() ||
        !options.precision.empty())
      return fail(fmt::format("--suite, --family, --threads, --report, --isa and --precision are the CPU's, not those "
                              "of --target {}",
                              options.target),
                  options.json);
    return tune_on_cuda({options.target, options.database, options.files, options.dims, options.budget,
                         options.candidates, !options.no_twins, options.json});
  }
  if (options.target != "cpu")
    return fail(fmt::format("--target {} is not known; cpu and cuda are", options.target), options.json);
  TuneOptions tuning;
  tuning.budget_seconds = options.budget;
  tuning.candidates = options.candidates;
  tuning.for_family = options.family;
  tuning.twins = !options.no_twins;
  EngineOptions engine_options;
  engine_options.threads = options.threads;
  if (!options.database.empty()) engine_options.tuning = options.database;
  // Said before a minute is spent, not after it.
  if (!options.report.empty())
    if (auto ok = check_report_path(options.report); !ok) return fail(ok.error(), options.json);
  tuning.want_assembly = !options.report.empty();
  const auto isa = parse_isa_option(options.isa);
  if (!isa) return fail(isa.error(), options.json);
  engine_options.isa = *isa;
  const auto engine = open_engine(engine_options);
  if (!engine) return fail(engine.error(), options.json);
  ProgressLine line;
  std::vector<ReportedTuning> reported;
  std::string not_saved;
  if (!options.json) tuning.progress = [&](const TuneProgress& progress) { line.show(progress); };
  if (options.suite == !options.files.empty())
    return fail(options.suite ? "--suite has shapes of its own; no graph file goes with it"
                              : "nothing to tune: name a graph file, or --suite",
                options.json);
  if (options.suite && !options.precision.empty())
    return fail("--precision is for graph files; the suite's shapes have policies of their own", options.json);
  std::vector<SuiteShape> shapes;
  if (options.suite) {
    shapes = suite_shapes(options.filter);
    if (shapes.empty())
      return fail(fmt::format("--filter {} matches no shape of the suite", options.filter), options.json);
    tuning.twins = false;
  }
  for (const std::string& file : options.files) {
    auto graph = read_graph(file, options.precision);
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
      results.push_back(graph_json(*result, shape.name, json_of));
    else
      print_graph(*result, [](const TunedStep& step) { return part_text(step); });
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
  if (const int code = end_of_tuning(not_saved, !options.database.empty(), options.json); code != kOk) return code;
  if (options.json) fmt::print("{}\n", results.dump(2));
  return kOk;
}

}  // namespace

void add_tune(CommandLine& line) {
  Command command = line.add("tune", "search the fastest legal schedules of a graph on this machine, and keep them");
  auto options = std::make_shared<TuneFlags>();
  command.files("FILE", options->files, "graph files, - for stdin; none with --suite");
  command.option("--dim", options->dims, "NAME=SIZE of a named dim");
  command.option("--target", options->target, "cpu, or cuda and cuda:1: a GPU of this machine by its number");
  command.option("--precision", options->precision, kPrecisionHelp);
  command.option("--isa", options->isa, kIsaHelp);
  command.option("--budget", options->budget, "seconds per graph (60)");
  command.option("--candidates", options->candidates, "schedules that are compiled and measured per step (32)");
  command.option("--threads", options->threads, "worker threads, 0 = all cores");
  command.option("--db", options->database, "tuning database, in place of the one beside the cache");
  command.option("--report", options->report, "a page of what was found, one self-contained HTML file");
  command.flag("--suite", options->suite,
               "the shapes of the benchmark in place of files, and what rules lose to tuned");
  command.option("--filter", options->filter, "shapes of the suite whose name contains this");
  command.flag("--no-twins", options->no_twins, "no decode step beside each prefill");
  command.flag("--family", options->family,
               "keep results for every device of this family (what ships in runtime/tuned)");
  command.flag("--json", options->json, "print JSON");
  command.action([options] { return tune_command(*options); });
}

}  // namespace tilewright::cli
