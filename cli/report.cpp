#include "cli/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "runtime/limits.h"

namespace tilewright::cli {
namespace {

/// f64 when a fused step computes in f64.
DType arithmetic(const Program& program) {
  for (const Step& step : program.steps) {
    const auto* attention = std::get_if<AttentionStep>(&step.what);
    const auto* backward = std::get_if<BackwardStep>(&step.what);
    const ScoreSpace* space = attention ? static_cast<const ScoreSpace*>(&attention->spec) : nullptr;
    if (backward) space = &backward->spec;
    if (space && space->accumulate == DType::f64) return DType::f64;
  }
  return DType::f32;
}

}  // namespace

bool Report::passed() const {
  return std::all_of(accuracy.begin(), accuracy.end(), [](const AccuracyReport& result) { return result.pass; });
}

double Report::gflops() const {
  const double time = seconds.median();
  return time > 0 ? work.flops / time * 1e-9 : 0;
}

Result<Done> measure(Report& report, std::span<const TensorView> inputs, std::span<const TensorView> outputs,
                     const RunOptions& options, Executor& executor, const bench::TimingBudget& budget) {
  const Kernel& kernel = *report.kernel;
  report.workers = executor.workers();
  const auto choices = kernel.choices(report.dims);
  if (!choices) return choices.error();
  report.choices = *choices;
  const auto memory = kernel.memory_estimate(report.dims, report.workers, options.workspace_limit);
  if (!memory) return memory.error();
  report.memory = *memory;
  report.work = count_work(kernel.program(), report.dims, inputs);
  Diagnostics errors;
  const auto run = [&] {
    return bench::seconds_of([&] {
      if (auto ok = kernel.run(inputs, outputs, options); !ok) errors = ok.error();
    });
  };
  const double warm_up = run();
  if (!errors.empty()) return errors;
  bench::TimingBudget repeats = budget;
  if (warm_up > budget.seconds) repeats.at_least = repeats.at_most = std::min(budget.at_least, 1);
  const DType dtype = arithmetic(kernel.program());
  CpuIsa isa = CpuIsa::avx2;
  for (const StepReport& step : kernel.stats().step_reports)
    for (const CpuSchedule& schedule : step.schedules) isa = schedule.isa;
  // Few runs of a long kernel get longer looks at the peak, before and after.
  const double look = std::clamp(warm_up * 0.05, 0.02, 0.2);
  const auto peak = [&] { return measure_fma_peak(isa, dtype, executor, look); };
  const double before = peak();
  auto series = bench::measure_interleaved({run, peak}, repeats);
  series[1].values.push_back(before);
  if (!errors.empty()) return errors;
  report.seconds = series[0];
  report.peak_gflops = series[1];
  return Done{};
}

std::vector<int64_t> block_rows(const Report& report) {
  std::set<int64_t> rows;
  for (const StepReport& step : report.kernel->stats().step_reports)
    for (const CpuSchedule& schedule : step.schedules)
      if (schedule.block_q > 1) rows.insert(schedule.block_q);
  if (rows.empty()) rows.insert(64);
  return {rows.begin(), rows.end()};
}

}  // namespace tilewright::cli
