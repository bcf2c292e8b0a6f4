// Tunings as text and as JSON, on CPUs and on GPUs.
#pragma once

#include <fmt/format.h>

#include "cli/cli.h"
#include "compiler/cuda_schedule.h"
#include "runtime/tuner.h"

namespace tilewright::cli {

/// "12.3 ms", "-" for 0.
std::string milliseconds(double seconds);

/// "%o prefill: round 2, 8 of 32 candidates left, …".
std::string progress_text(const TuneProgress& progress);
/// At most so many bytes of it.
std::string cut_to(std::string line, size_t columns);

/// One line that is written over on a terminal; elsewhere a plain line whenever the stage changes.
class ProgressLine {
 public:
  ProgressLine();
  void show(const TuneProgress& progress);
  void clear();

 private:
  const bool terminal_;
  bool shown_ = false;
  std::string stage_;
};

/// Says why results are kept nowhere, if they are: an error where a file was named for them.
int end_of_tuning(const std::string& not_saved, bool file_named, bool json);

/// "B=1 Sq=4096".
std::string list(const DimBindings& dims);
Json integers_json(const CpuSchedule& schedule);
Json integers_json(const CudaSchedule& schedule);

template <class Step>
std::string speed(const Step& step, const TunedOutcome& candidate) {
  if (candidate.warm.empty()) return "not measured";
  return fmt::format("{:.1f} GFLOP/s, {} +-{:.0f} %", step.gflops(candidate), milliseconds(candidate.seconds()),
                     100 * candidate.spread());
}

/// `part`: which part of what was asked for was measured; empty for all.
template <class Step>
void print_step(const Step& step, const std::string& part) {
  fmt::print("%{}  {}\n  {:<10} {}\n", step.name, list(step.dims), "class", step.shape_class);
  if (step.rules().warm.empty()) {
    fmt::print("  {:<10} there was no time to measure one of {} legal schedules: the rules' stays, nothing is kept\n",
               "searched", step.legal);
    return;
  }
  if (!part.empty()) fmt::print("  {:<10} {}\n", "part", part);
  int wrong = 0, compiled = 0;
  for (const auto& each : step.candidates) {
    wrong += each.fate == TunedOutcome::Fate::wrong || each.fate == TunedOutcome::Fate::failed;
    compiled += each.fate != TunedOutcome::Fate::pruned;
  }
  fmt::print("  {:<10} {} legal schedules, {} compiled and checked, {} of them wrong{}\n", "searched", step.legal,
             compiled, wrong, step.out_of_time ? "; the budget ended before the search did" : "");
  for (const auto& each : step.candidates)
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

/// Candidates that were pruned are left out.
template <class Step>
Json search_json(const Step& step) {
  Json out = {{"step", step.name},         {"class", step.shape_class}, {"dims", step.dims},
              {"speedup", step.speedup()}, {"flops", step.flops},       {"legal", step.legal},
              {"chosen", step.chosen},     {"noise", step.noise},       {"out_of_time", step.out_of_time}};
  out["candidates"] = Json::array();
  for (const auto& each : step.candidates) {
    if (each.fate == TunedOutcome::Fate::pruned) continue;
    out["candidates"].push_back({{"schedule", print(each.schedule)},
                                 {"integers", integers_json(each.schedule)},
                                 {"fate", to_string(each.fate)},
                                 {"why", each.why},
                                 {"ms", each.seconds() * 1e3},
                                 {"gflops", step.gflops(each)},
                                 {"warm_s", each.warm},
                                 {"cold_s", each.cold}});
  }
  return out;
}

template <class Tuning, class PartOf>
void print_graph(const Tuning& result, const PartOf& part_of) {
  for (const auto& step : result.steps) print_step(step, part_of(step));
  for (const std::string& note : result.notes) fmt::print("note: {}\n", note);
  fmt::print("@{} in {:.1f} s{}\n", result.graph, result.seconds,
             result.database.empty() ? "" : ", kept in " + result.database);
  std::fflush(stdout);
}

template <class Tuning, class JsonOf>
Json graph_json(const Tuning& result, const std::string& file, const JsonOf& json_of) {
  Json out = {{"graph", result.graph},       {"file", file},
              {"device", result.device},     {"compiler", result.compiler},
              {"date", result.date},         {"seconds", result.seconds},
              {"database", result.database}, {"not_saved", result.not_saved},
              {"notes", result.notes},       {"steps", Json::array()}};
  for (const auto& step : result.steps) out["steps"].push_back(json_of(step));
  return out;
}

}  // namespace tilewright::cli
