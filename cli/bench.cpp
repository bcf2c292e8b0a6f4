// tilewright bench: every promised figure as a ratio to a limit measured in the same run.
#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "bench/comparison.h"
#include "bench/gpu_compile.h"
#include "bench/rows.h"
#include "bench/run_file.h"
#include "cli/bench_text.h"
#include "cli/cli.h"
#include "codegen/cpu/target_features.h"

namespace tilewright::cli {
namespace {

struct BenchFlags {
  bench::RowOptions rows;
  bool json = false, csv = false, compile = false;
  std::string from, compare;

  bool table() const { return !json && !csv; }
};

double load_average() {
  double load = 0;
  return getloadavg(&load, 1) == 1 ? load : 0;
}

/// A run kept by --json, its rows as --filter wants them.
Result<bench::BenchRun> read_run(const std::string& path, const std::string& filter) {
  const auto text = read_text(path);
  if (!text) return text.error();
  auto run = bench::parse_run(*text, path);
  if (run) std::erase_if(run->rows, [&](const bench::Row& row) { return row.key().find(filter) == std::string::npos; });
  return run;
}

/// Measures, or reads what was measured; rows of the table are printed as they come.
Result<bench::BenchRun> take_run(const BenchFlags& options) {
  const auto show = [&](const bench::BenchRun& run, size_t i) {
    if (!options.table()) return;
    if (i == 0) fmt::print("{}", heading_text(run));  // a filter that matches nothing is a sentence, not a table
    fmt::print("{}", row_text(run.rows[i], i == 0 ? nullptr : &run.rows[i - 1]));
    std::fflush(stdout);
  };
  if (!options.from.empty()) {
    auto run = read_run(options.from, options.rows.filter);
    if (!run) return run;
    for (size_t i = 0; i < run->rows.size(); ++i) show(*run, i);
    return run;
  }
  const auto engine = open_engine();
  if (!engine) return engine.error();
  bench::BenchRun run{bench::facts_of(engine->target()), codegen_version(), options.rows.seconds, load_average(), {}};
  const auto sink = [&](const bench::Row& row) {
    run.rows.push_back(row);
    show(run, run.rows.size() - 1);
  };
  if (auto ok = measure_rows(*engine, options.rows, sink); !ok) return ok.error();
  return run;
}

/// The suite's graphs, with products on tensor cores where those take them: Hopper's own wants 16-bit operands, and the
/// files have f32.
Result<std::vector<Graph>> suite_graphs() {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(TILEWRIGHT_EXAMPLES "/variants", error))
    if (entry.path().extension() == ".attn") files.push_back(entry.path().string());
  std::ranges::sort(files);
  std::vector<Graph> graphs;
  for (const std::string& file : files) {
    auto graph = read_graph(file, "f32_x3");
    if (!graph) return graph.error();
    graphs.push_back(std::move(*graph));
  }
  return graphs;
}

/// What NVRTC makes of every GPU kernel, one at a time so that the times mean something.
int compile_gate(const BenchFlags& options) {
  if (!options.table() || !options.from.empty() || !options.compare.empty())
    return fail(
        "--compile prints a table of kernels; --json, --csv, --from and --compare are of rows that are measured",
        options.json);
  const Result<Nvrtc>& compiler = nvrtc();
  if (!compiler) return fail(compiler.error(), options.json);
  bench::GpuCompileOptions wanted = bench::whole_compile_gate();
  auto suite = suite_graphs();
  if (!suite) return fail(suite.error(), options.json);
  std::ranges::move(*suite, std::back_inserter(wanted.graphs));
  auto cases = bench::gpu_compile_cases(wanted);
  if (!cases) return fail(cases.error(), options.json);
  std::erase_if(*cases, [&](const bench::GpuCompileCase& one) {
    return (one.name + " " + one.target.architecture()).find(options.rows.filter) == std::string::npos ||
           !compiler->check(one.target);
  });
  if (cases->empty()) return fail(fmt::format("--filter {} matches no kernel", options.rows.filter), options.json);
  const auto compiled = bench::compile_all(*cases, *compiler, 1);
  fmt::print("{}", bench::compile_table(compiled));
  const auto wrong = std::count_if(compiled.begin(), compiled.end(), [](const bench::GpuCompiled& one) {
    return !one.report || !one.report->complaints.empty();
  });
  fmt::print("{} kernels through NVRTC {}, {} with complaints\n", compiled.size(), compiler->version(), wrong);
  return wrong > 0 ? kWrongResult : kOk;
}

int bench_command(const BenchFlags& options) {
  if (options.compile) return compile_gate(options);
  if (options.json && options.csv) return fail("--json and --csv both want stdout; give one of them", options.json);
  if (!(options.rows.seconds >= 0 && options.rows.seconds <= 3600))
    return fail(fmt::format("--seconds is {}; 0 to 3600 will do", options.rows.seconds), options.json);
  // Read first: who mistypes a name should not learn it ten minutes later.
  std::optional<bench::BenchRun> before;
  if (!options.compare.empty()) {
    auto run = read_run(options.compare, options.rows.filter);
    if (!run) return fail(run.error(), options.json);
    before = std::move(*run);
  }
  const auto run = take_run(options);
  if (!run) return fail(run.error(), options.json);
  if (run->rows.empty()) return fail(fmt::format("--filter {} matches no row", options.rows.filter), options.json);
  std::optional<bench::Comparison> comparison;
  if (before) comparison = compare(*before, *run);
  const std::string changes = comparison ? comparison_text(*comparison, *before, *run, options.compare) : "";
  if (options.json) {
    fmt::print("{}\n", to_json(*run, comparison ? &*comparison : nullptr));
  } else if (options.csv) {
    fmt::print("{}", to_csv(*run));
    fmt::print(stderr, "{}", changes);
  } else {
    fmt::print("\n{}{}{}", changes, changes.empty() ? "" : "\n", summary_text(*run));
  }
  bool missed = false, is_void = false;
  for (const bench::Row& row : run->rows) {
    missed |= row.verdict() == bench::Verdict::missed;
    is_void |= row.verdict() == bench::Verdict::void_row;
  }
  // Whoever compares with an earlier run wants to know what changed, not again which bars are missed.
  const bool failed = comparison ? comparison->count(bench::Outcome::worse) > 0 : missed;
  return failed || is_void ? kWrongResult : kOk;
}

}  // namespace

void add_bench(CommandLine& line) {
  Command command = line.add("bench", "measure what the project promises, against limits of the same run");
  auto options = std::make_shared<BenchFlags>();
  command.option("--filter", options->rows.filter, "rows whose group/name contains this");
  command.option("--seconds", options->rows.seconds, "about how long a row measures (1.5)");
  command.flag("--plan", options->rows.plan_only, "say what each row would run, and measure nothing");
  command.flag("--generic", options->rows.force_generic,
               "the generic templates, which make the rows of fast ones void");
  command.flag("--compile", options->compile, "the table of GPU kernels through NVRTC: ms, registers, spills, census");
  command.flag("--json", options->json, "print JSON, to keep and to compare with");
  command.flag("--csv", options->csv, "print CSV, columns as in docs/benchmark.md");
  command.option("--from", options->from, "a run kept by --json in place of measuring");
  command.option("--compare", options->compare,
                 "a run kept by --json: say what changed, and fail where a row got slower beyond both spreads");
  command.action([options] { return bench_command(*options); });
}

}  // namespace tilewright::cli
