#include <fmt/format.h>

#include "cli/report.h"

namespace tilewright::cli {
namespace {

std::string list_dims(const DimBindings& dims) {
  std::string out;
  for (const auto& [name, size] : dims) out += fmt::format("{}{}={}", out.empty() ? "" : " ", name, size);
  return out;
}

void line(std::string& out, std::string_view label, const std::string& what) {
  out += fmt::format("  {:<12} {}\n", label, what);
}

void fused_lines(std::string& out, const CompileStats& stats) {
  const int loops = stats.steps - stats.fused_attentions - stats.fused_backwards;
  const auto count = [](int n, std::string_view what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); };
  std::string fused = count(stats.fused_attentions, "attention");
  if (stats.fused_backwards > 0) {
    const std::string backwards =
        fmt::format("{} backward pass{}", stats.fused_backwards, stats.fused_backwards == 1 ? "" : "es");
    fused = stats.fused_attentions == 0 ? backwards : fused + " and " + backwards;
  }
  line(out, "fused",
       fmt::format("{} ops into {}{}", stats.graph_ops, fused,
                   loops == 0 ? "" : fmt::format(" and {} outside", count(loops, "step"))));
  for (const FusionNote& note : stats.not_fused)
    line(out, "not fused", to_string(Diagnostic{ErrorKind::unsupported, note.reason, note.value, note.line}));
  for (const FusionNote& note : stats.kept_rows)
    line(out, "own step", to_string(Diagnostic{ErrorKind::unsupported, note.reason, note.value, note.line}));
}

void template_lines(std::string& out, const Report& report) {
  const CompileStats& stats = report.kernel->stats();
  for (size_t i = 0; i < stats.step_reports.size(); ++i) {
    const StepReport& step = stats.step_reports[i];
    const size_t chosen = i < report.choices.size() ? report.choices[i] : 0;
    const CpuSchedule& schedule = step.schedules[chosen];
    if (schedule.kernel == CpuTemplate::loop) continue;
    const bool only = step.fused && stats.fused_attentions + stats.fused_backwards == 1;
    line(out, only ? "template" : "%" + step.name, print(schedule));
    if (!schedule.arithmetic.empty()) line(out, "", "computes " + schedule.arithmetic);
    for (const std::string& reason : schedule.reasons) line(out, "", "because " + reason);
    for (size_t other = 0; other < step.schedules.size(); ++other)
      if (other != chosen && step.schedules[other].kernel != CpuTemplate::generic)
        line(out, "",
             fmt::format("{} is compiled for {}", to_string(step.schedules[other].kernel),
                         other < step.use_when.size() && step.use_when[other] != "always" ? step.use_when[other]
                                                                                          : "other sizes"));
    for (const auto& refusal : step.refused)
      line(out, "", fmt::format("{} refused: {}", to_string(refusal.kernel), refusal.reason));
  }
}

std::string compile_text(const CompileStats& stats) {
  std::string out = fmt::format("{:.1f} ms{}", stats.total_ms, stats.cache_hit ? ", from the cache" : "");
  if (stats.kernels_from_disk > 0) out += fmt::format(", {} kernels from disk", stats.kernels_from_disk);
  for (size_t i = 0; i < stats.stages.size(); ++i)
    out += fmt::format("{}{} {:.2f}", i == 0 ? ": " : ", ", stats.stages[i].stage, stats.stages[i].milliseconds);
  return out;
}

std::string report_speed_text(const Report& report) {
  const double ms = report.seconds.median() * 1e3;
  std::string out = fmt::format("{:.{}f} ms", ms, ms < 10 ? 3 : 1);
  if (report.work.flops <= 0) return out;
  const double peak = report.peak_gflops.median();
  out += fmt::format(", {:.1f} GFLOP/s", report.gflops());
  if (peak > 0)
    out += fmt::format(" = {:.0f} % of the FMA peak ({:.0f} GFLOP/s, {} thread{}, same run)",
                       100 * report.gflops() / peak, peak, report.workers, report.workers == 1 ? "" : "s");
  return out;
}

std::string memory_text(const Report& report) {
  std::string out =
      fmt::format("scratch {}, workspace {}", bytes_text(report.memory.scratch), bytes_text(report.memory.workspace));
  if (report.work.all > 0)
    out += fmt::format("; the score matrix alone would take {}", bytes_text(static_cast<int64_t>(report.work.all) * 4));
  return out + fmt::format(", all unfused values {}", bytes_text(report.memory.unfused));
}

std::string materialised_text(const Report& report) {
  const Materialised& other = *report.materialised;
  return fmt::format("{:.1f} x faster than materialised attention: {:.1f} ms against {:.1f} ms{}", other.speed_up(),
                     other.fused_seconds * 1e3, other.seconds * 1e3,
                     other.reduced.empty() ? ", same run" : " " + other.reduced);
}

}  // namespace

std::string text(const Report& report) {
  std::string out = fmt::format("@{}  {}{}\n", report.kernel->graph().name, list_dims(report.dims),
                                report.file.empty() ? "" : "  (" + report.file + ")");
  if (!report.defaulted.empty()) line(out, "by default", list_dims(report.defaulted));
  fused_lines(out, report.kernel->stats());
  template_lines(out, report);
  line(out, "precision", std::string(to_string(report.kernel->stats().precision)));
  line(out, "compile", compile_text(report.kernel->stats()));
  for (const AccuracyReport& result : report.accuracy)
    line(out, result.pass ? "verified" : "WRONG",
         fmt::format("%{}: {}{}", result.result, to_string(result), result.pass ? "" : "; " + result.failure));
  line(out, "run", report_speed_text(report));
  if (report.materialised) line(out, "", materialised_text(report));
  line(out, "memory", memory_text(report));
  if (!report.dump_path().empty()) line(out, "dumps", report.dump_path());
  return out;
}

Json json(const Report& report) {
  const CompileStats& stats = report.kernel->stats();
  Json out = {{"graph", report.kernel->graph().name}, {"file", report.file}};
  for (const auto& [name, size] : report.dims) out["dims"][name] = size;
  for (const auto& [name, size] : report.defaulted) out["default_dims"][name] = size;
  out["precision"] = to_string(stats.precision);
  out["graph_ops"] = stats.graph_ops;
  out["fused_attentions"] = stats.fused_attentions;
  out["fused_backwards"] = stats.fused_backwards;
  out["steps"] = Json::array();
  for (size_t i = 0; i < stats.step_reports.size(); ++i) {
    const StepReport& step = stats.step_reports[i];
    Json entry = {{"name", step.name}, {"fused", step.fused}};
    const CpuSchedule& schedule = step.schedules[i < report.choices.size() ? report.choices[i] : 0];
    entry["template"] = to_string(schedule.kernel);
    entry["schedule"] = print(schedule);
    entry["products"] = schedule.arithmetic;
    entry["because"] = schedule.reasons;
    entry["refused"] = Json::array();
    for (const auto& refusal : step.refused)
      entry["refused"].push_back({{"template", to_string(refusal.kernel)}, {"because", refusal.reason}});
    out["steps"].push_back(std::move(entry));
  }
  out["not_fused"] = Json::array();
  for (const FusionNote& note : stats.not_fused)
    out["not_fused"].push_back({{"value", note.value}, {"line", note.line}, {"reason", note.reason}});
  out["compile_ms"] = stats.total_ms;
  for (const StageTime& stage : stats.stages) out["compile_stages_ms"][stage.stage] = stage.milliseconds;
  out["cache_hit"] = stats.cache_hit;
  out["kernels_from_disk"] = stats.kernels_from_disk;
  out["ms"] = report.seconds.median() * 1e3;
  out["ms_best"] = report.seconds.best() * 1e3;
  out["spread"] = report.seconds.spread();
  out["threads"] = report.workers;
  out["flops"] = report.work.flops;
  out["gflops"] = report.gflops();
  out["fma_peak_gflops"] = report.peak_gflops.median();
  out["verified"] = Json::array();
  for (const AccuracyReport& result : report.accuracy)
    out["verified"].push_back({{"result", result.result},
                               {"pass", result.pass},
                               {"max_error", result.max_error},
                               {"mean_error", result.mean_error},
                               {"bound", result.bound},
                               {"naive_max_error", result.naive_max_error},
                               {"rows", result.rows},
                               {"sampled", result.sampled},
                               {"failure", result.failure}});
  if (report.materialised)
    out["materialised"] = {{"ms", report.materialised->seconds * 1e3},
                           {"fused_ms", report.materialised->fused_seconds * 1e3},
                           {"speed_up", report.materialised->speed_up()},
                           {"reduced", report.materialised->reduced}};
  out["memory"] = {{"outputs", report.memory.outputs},
                   {"scratch", report.memory.scratch},
                   {"workspace", report.memory.workspace},
                   {"unfused", report.memory.unfused}};
  out["dump"] = report.dump_path();
  return out;
}

}  // namespace tilewright::cli
