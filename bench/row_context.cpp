#include "bench/row_context.h"

namespace tilewright::bench {
namespace {

bool is_for(CpuTemplate kernel, const Step& step) {
  const auto* loop = std::get_if<LoopStep>(&step.what);
  const bool product = loop && loop->kind == LoopKind::contract;
  switch (kernel) {
    case CpuTemplate::backward: return std::holds_alternative<BackwardStep>(step.what);
    case CpuTemplate::matmul:
    case CpuTemplate::matvec: return product;
    case CpuTemplate::loop: return loop && !product;
    default: return std::holds_alternative<AttentionStep>(step.what);
  }
}

}  // namespace

bool RowContext::expect(Row& row, const Subject& subject, CpuTemplate kernel) {
  const auto choices = subject.kernel().choices(subject.dims());
  TW_CHECK(choices.ok());
  const CompileStats& stats = subject.kernel().stats();
  const auto& steps = subject.kernel().program().steps;
  bool found = false;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (!is_for(kernel, steps[i])) continue;
    const StepReport& report = stats.step_reports[i];
    const CpuTemplate chosen = report.schedules[(*choices)[i]].kernel;
    if (row.kernel.find(to_string(chosen)) == std::string::npos)
      row.kernel += fmt::format("{}{}", row.kernel.empty() ? "" : ", ", to_string(chosen));
    found = true;
    if (chosen == kernel || !row.fall_back.empty()) continue;
    row.fall_back = fmt::format("expected the {} template, but {} ran", to_string(kernel), to_string(chosen));
    for (const auto& refusal : report.refused)
      if (refusal.kernel == kernel) row.fall_back += ", because " + refusal.reason;
  }
  if (!found && row.fall_back.empty()) {
    row.fall_back = fmt::format("expected the {} template, but the graph runs as plain loops", to_string(kernel));
    if (!stats.not_fused.empty()) row.fall_back += ": " + stats.not_fused[0].reason;
  }
  return row.fall_back.empty();
}

bool RowContext::runs_on(Row& row, const Subject& subject, const Templates& expected) const {
  bool all = true;
  for (CpuTemplate kernel : expected) all &= expect(row, subject, kernel);
  if (!all) emit(row);
  return all;
}

Result<Done> RowContext::share_of_peak(Row row, Graph graph, DimBindings dims, double flops,
                                       const Templates& expected) const {
  const auto subject = compile(std::move(graph), std::move(dims));
  if (!subject) return subject.error();
  row.unit = "%";
  if (!runs_on(row, *subject, expected)) return Done{};
  run_one(*subject);
  const auto series =
      measure_interleaved({[&] { return run_one(*subject); }, [&] { return fma_peak_of_one(); }}, budget());
  const double rate = flops / series[0].median() * 1e-9, peak = series[1].median();
  row.measured = fmt::format("{:.1f} GFLOP/s", rate);
  row.limit = fmt::format("FMA peak {:.1f}", peak);
  row.value = 100 * rate / peak;
  row.spread = series[0].spread();
  emit(row);
  return Done{};
}

Result<Done> RowContext::two_threads(Row row, Graph graph, DimBindings dims, const Templates& expected) const {
  const auto subject = compile(std::move(graph), std::move(dims));
  if (!subject) return subject.error();
  row.unit = "x";
  if (!runs_on(row, *subject, expected)) return Done{};
  subject->run(two);
  const auto series =
      measure_interleaved({[&] { return subject->run(one); }, [&] { return subject->run(two); }}, budget());
  row.measured = fmt::format("{:.1f} ms", series[1].median() * 1e3);
  row.limit = fmt::format("one thread {:.1f} ms", series[0].median() * 1e3);
  row.value = series[0].median() / series[1].median();
  row.spread = series[1].spread();
  emit(row);
  return Done{};
}

}  // namespace tilewright::bench
