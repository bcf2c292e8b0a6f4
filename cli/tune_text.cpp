#include "cli/tune_text.h"

#include <sys/ioctl.h>
#include <unistd.h>

namespace tilewright::cli {

std::string milliseconds(double seconds) {
  const double ms = seconds * 1e3;
  return ms == 0 ? "-" : fmt::format("{:.{}f} ms", ms, ms < 1 ? 4 : ms < 10 ? 3 : 1);
}

ProgressLine::ProgressLine() : terminal_(isatty(STDERR_FILENO) == 1) {}

std::string progress_text(const TuneProgress& progress) {
  return fmt::format("%{} {}: {}, {} of {} candidates left, best {} (rules {}), {:.0f} s left", progress.step,
                     progress.kernel, progress.stage, progress.left, progress.candidates,
                     milliseconds(progress.best_seconds), milliseconds(progress.rules_seconds), progress.seconds_left);
}

std::string cut_to(std::string line, size_t columns) {
  if (line.size() <= columns) return line;
  return columns < 4 ? line.substr(0, columns) : line.substr(0, columns - 3) + "...";
}

void ProgressLine::show(const TuneProgress& progress) {
  const std::string line = progress_text(progress);
  if (terminal_) {
    winsize size{};
    const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    // A line that wraps could not be written over.
    fmt::print(stderr, "\r\033[K{}", cut_to(line, (known ? size.ws_col : 80u) - 1));
    std::fflush(stderr);
    shown_ = true;
  } else if (const std::string stage = progress.step + " " + progress.kernel + " " + progress.stage; stage != stage_) {
    stage_ = stage;
    fmt::print(stderr, "{}\n", line);
  }
}

void ProgressLine::clear() {
  if (shown_) fmt::print(stderr, "\r\033[K");
  shown_ = false;
}

int end_of_tuning(const std::string& not_saved, bool file_named, bool json) {
  if (not_saved.empty()) return kOk;
  if (file_named) return fail(not_saved, json);
  if (!json) fmt::print("note: kept nowhere: {}; use --db FILE\n", not_saved);
  return kOk;
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
