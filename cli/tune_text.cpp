#include "cli/tune_text.h"

#include <unistd.h>

namespace tilewright::cli {

std::string milliseconds(double seconds) {
  const double ms = seconds * 1e3;
  return ms == 0 ? "-" : fmt::format("{:.{}f} ms", ms, ms < 1 ? 4 : ms < 10 ? 3 : 1);
}

ProgressLine::ProgressLine() : terminal_(isatty(STDERR_FILENO) == 1) {}

void ProgressLine::show(const TuneProgress& progress) {
  const std::string line =
      fmt::format("%{}: {}, {} of {} candidates left, best {} (rules {}), {:.0f} s left", progress.step, progress.stage,
                  progress.left, progress.candidates, milliseconds(progress.best_seconds),
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

void ProgressLine::clear() {
  if (shown_) fmt::print(stderr, "\r\033[K");
  shown_ = false;
}

std::string list(const DimBindings& dims) {
  std::string out;
  for (const auto& [name, size] : dims) out += fmt::format("{}{}={}", out.empty() ? "" : " ", name, size);
  return out;
}

Json integers_json(const CpuSchedule& schedule) {
  Json json;
  for (const ScheduleField& field : schedule_fields()) json[std::string(field.name)] = schedule.*field.member;
  return json;
}

Json integers_json(const CudaSchedule& schedule) {
  Json json;
  for (const CudaScheduleField& field : cuda_schedule_fields()) json[std::string(field.name)] = schedule.*field.member;
  return json;
}

}  // namespace tilewright::cli
