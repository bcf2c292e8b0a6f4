// The benchmark's rows: what the project promises, measured as a ratio to a limit of the same run.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "bench/timing.h"
#include "runtime/engine.h"

namespace tilewright::bench {

/// What a row must reach.
struct Bar {
  double target = 0;
  bool at_least = true;  ///< value >= target is met; else value <= target
};

enum class Verdict : uint8_t {
  measured,  ///< a figure without a bar, as limits are
  met,
  missed,
  void_row,  ///< another template ran than the row is about
  skipped,   ///< this machine lacks what the row is about
};
std::string_view to_string(Verdict verdict);  ///< "measured", "met", "missed", "void", "skipped"
std::optional<Verdict> parse_verdict(std::string_view text);

struct Row {
  std::string group, name;
  Figure ms;              ///< one run of the subject; 0 when nothing was run
  double work = 0;        ///< FLOPs or bytes of a run, by the rules of docs/benchmark.md; 0 where neither makes sense
  std::string rate_unit;  ///< of work per time: "GFLOP/s" or "GB/s"
  Figure limit;           ///< measured in turn with the subject; 0 where the bar is absolute
  std::string limit_name, limit_unit;
  Figure value;      ///< what is judged: mostly the share of the limit
  std::string unit;  ///< of value: "%", "x", "ms", "us", "MB"; empty for limits
  std::optional<Bar> bar;
  std::string kernel;           ///< the templates that ran
  std::string schedule;         ///< theirs, "; " between them
  int64_t scratch_bytes = 0;    ///< of all workers
  int64_t workspace_bytes = 0;  ///< packed K and V, temporaries, split states
  std::string note;             ///< what a reader should know besides
  std::string fall_back;        ///< why the row is void
  std::string skipped;          ///< what the machine lacks

  std::string key() const { return group + "/" + name; }
  double rate() const { return ms.median > 0 ? work / ms.median * 1e-6 : 0; }  ///< in rate_unit
  Verdict verdict() const;
  bool met() const { return verdict() == Verdict::met; }
};

struct RowOptions {
  std::string filter;          ///< rows whose "group/name" contains it
  double seconds = 1.5;        ///< per row, about
  bool plan_only = false;      ///< rows say what would run, and nothing is measured
  bool force_generic = false;  ///< the generic templates in place of the fast ones: what is void without them
};

/// Calls `sink` after each row. Errors: a graph of ours that does not compile or data that cannot be allocated.
Result<Done> measure_rows(const Engine& engine, const RowOptions& options, const std::function<void(const Row&)>& sink);

}  // namespace tilewright::bench
