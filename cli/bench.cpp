// tilewright bench: every promised figure as a ratio to a limit measured in the same run.
#include <fmt/format.h>

#include "bench/rows.h"
#include "cli/cli.h"

namespace tilewright::cli {
namespace {

struct Options {
  bench::RowOptions rows;
  bool json = false;
};

void print_row(const bench::Row& row, std::string& group) {
  if (row.group != group) fmt::print("{}{}\n", group.empty() ? "" : "\n", row.group);
  group = row.group;
  // Void rows need not have been measured.
  const std::string ratio =
      row.measured.empty() ? "-" : fmt::format("{:.{}f} {}", row.value, row.unit == "x" ? 2 : 1, row.unit);
  const std::string target = fmt::format("{} {:g} {}", row.at_least ? ">=" : "<=", row.target, row.unit);
  fmt::print("  {:<32}{:>16}  {:<24}{:>10}  {:>9}  {:<6} +-{:>2.0f} %  {}\n", row.name, row.measured, row.limit, ratio,
             target,
             row.met()               ? "ok"
             : row.fall_back.empty() ? "MISSED"
                                     : "VOID",
             50 * row.spread, row.kernel);
  if (!row.fall_back.empty()) fmt::print("  {:<32}{}\n", "", row.fall_back);
  std::fflush(stdout);
}

int bench_command(const Options& options) {
  const auto engine = Engine::create();
  if (!engine) return fail(engine.error(), options.json);
  Json rows = Json::array();
  std::string group;
  int count = 0, missed = 0;
  const auto sink = [&](const bench::Row& row) {
    ++count;
    missed += row.met() ? 0 : 1;
    if (!options.json) return print_row(row, group);
    rows.push_back({{"group", row.group},
                    {"name", row.name},
                    {"value", row.value},
                    {"unit", row.unit},
                    {"target", row.target},
                    {"at_least", row.at_least},
                    {"met", row.met()},
                    {"measured", row.measured},
                    {"limit", row.limit},
                    {"spread", row.spread},
                    {"template", row.kernel},
                    {"fall_back", row.fall_back}});
  };
  if (!options.json)
    fmt::print("{}, {} cores; medians, limits measured in turn with each row\n\n", to_string(engine->target().isa),
               engine->target().cores);
  if (auto ok = measure_rows(*engine, options.rows, sink); !ok) return fail(ok.error(), options.json);
  if (count == 0) return fail(fmt::format("--filter {} matches no row", options.rows.filter), options.json);
  if (options.json)
    fmt::print("{}\n", rows.dump(2));
  else
    fmt::print("\n{} rows, {} missed\n", count, missed);
  return missed == 0 ? kOk : kWrongResult;
}

}  // namespace

void add_bench(CommandLine& line) {
  Command command = line.add("bench", "measure what the project promises, against limits of the same run");
  auto options = std::make_shared<Options>();
  command.option("--filter", options->rows.filter, "rows whose group/name contains this");
  command.option("--seconds", options->rows.seconds, "about how long a row measures (1.5)");
  command.flag("--generic", options->rows.force_generic,
               "the generic templates, which make the rows of fast ones void");
  command.flag("--json", options->json, "print JSON");
  command.action([options] { return bench_command(*options); });
}

}  // namespace tilewright::cli
