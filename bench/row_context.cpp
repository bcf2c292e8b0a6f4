#include "bench/row_context.h"

namespace tilewright::bench {
namespace {

constexpr int64_t kLoopRows = 64, kLoopColumns = 1024;  // of a modification alone

bool is_for(CpuTemplate kernel, const Step& step) {
  const auto* loop = std::get_if<LoopStep>(&step.what);
  const bool product = loop && loop->kind == LoopKind::contract;
  switch (kernel) {
    case CpuTemplate::amx_backward:
    case CpuTemplate::backward: return std::holds_alternative<BackwardStep>(step.what);
    case CpuTemplate::matmul:
    case CpuTemplate::matvec: return product;
    case CpuTemplate::loop: return loop && !product;
    default: return std::holds_alternative<AttentionStep>(step.what);
  }
}

/// Unless it is there already.
void append_new(std::string& list, const std::string& item, std::string_view between) {
  if (list.find(item) == std::string::npos) list += fmt::format("{}{}", list.empty() ? "" : between, item);
}

}  // namespace

bool RowContext::expect(Row& row, const Kernel& kernel, const DimBindings& dims, CpuTemplate expected, int workers) {
  const auto memory = kernel.memory_estimate(dims, workers);
  TW_CHECK(memory.ok());
  row.scratch_bytes = memory->scratch;
  row.workspace_bytes = memory->workspace;
  const auto choices = kernel.choices(dims);
  TW_CHECK(choices.ok());
  const CompileStats& stats = kernel.stats();
  const auto& steps = kernel.program().steps;
  bool found = false;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (!is_for(expected, steps[i])) continue;
    const StepReport& report = stats.step_reports[i];
    const CpuSchedule& schedule = report.schedules[(*choices)[i]];
    const CpuTemplate chosen = schedule.kernel;
    append_new(row.kernel, std::string(to_string(chosen)), ", ");
    append_new(row.schedule, print(schedule), "; ");
    found = true;
    if (chosen == expected || !row.fall_back.empty()) continue;
    row.fall_back = fmt::format("expected the {} template, but {} ran", to_string(expected), to_string(chosen));
    for (const auto& refusal : report.refused)
      if (refusal.kernel == expected) row.fall_back += ", because " + refusal.reason;
  }
  if (!found && row.fall_back.empty()) {
    row.fall_back = fmt::format("expected the {} template, but the graph runs as plain loops", to_string(expected));
    if (!stats.not_fused.empty()) row.fall_back += ": " + stats.not_fused[0].reason;
  }
  return row.fall_back.empty();
}

CompileOptions RowContext::compile_options(const RowKernel& kernel) const {
  CompileOptions options;
  options.force_generic = options_.force_generic;
  options.precision = kernel.precision;
  return options;
}

Result<std::optional<Subject>> RowContext::subject(Row& row, const RowKernel& kernel, int workers) const {
  const auto compiled = engine.compile(kernel.graph, compile_options(kernel));
  if (!compiled) return compiled.error();
  bool runs = true;
  for (const CpuTemplate expected : kernel.expected) runs &= expect(row, *compiled, kernel.dims, expected, workers);
  if (runs && !options_.plan_only) {
    auto subject = yardstick(kernel);  // what was compiled is in the engine's cache
    if (!subject) return subject.error();
    return std::optional(std::move(*subject));
  }
  if (options_.plan_only) row.bar.reset();
  emit(row);
  return std::optional<Subject>();
}

Result<Subject> RowContext::yardstick(const RowKernel& kernel) const {
  return Subject::create(engine, kernel.graph, kernel.dims, compile_options(kernel));
}

Result<Done> RowContext::yardstick_once(std::optional<Subject>& subject, const RowKernel& kernel) const {
  if (subject) return Done{};
  auto created = yardstick(kernel);
  if (!created) return created.error();
  run_one(subject.emplace(std::move(*created)));
  return Done{};
}

bool RowContext::on_amx(Row& row) const {
  if (engine.target().isa == CpuIsa::amx || (options_.plan_only && engine.target().has_tiles())) return true;
  row.skipped = "this CPU lacks amx_bf16";
  emit(row);
  return false;
}

double RowContext::peak_of_one(Peak peak) const {
  if (peak == Peak::amx) return measure_amx_peak(engine.target(), *one, 0.02, TimeOf::thread);
  return measure_fma_peak(engine.target().isa, DType::f32, *one, 0.02, TimeOf::thread);
}

void set_time_limit(Row& row, std::string name, const Series& seconds) {
  row.limit = milliseconds(seconds);
  row.limit_name = std::move(name);
  row.limit_unit = "ms";
}

Result<Done> RowContext::share_of_peak(Row row, const RowKernel& kernel, double flops, Peak peak) const {
  if (row.unit.empty()) row.unit = "%";
  const auto prepared = subject(row, kernel);
  if (!prepared) return prepared.error();
  if (!*prepared) return Done{};
  const Subject& timed = **prepared;
  run_one(timed);
  const auto series =
      measure_interleaved({[&] { return run_one(timed); }, [&] { return peak_of_one(peak); }}, budget());
  const Series &seconds = series[0], &peaks = series[1];
  row.ms = milliseconds(seconds);
  row.work = flops;
  row.rate_unit = row.limit_unit = "GFLOP/s";
  row.limit = peaks.figure();
  row.limit_name = peak == Peak::amx ? "AMX peak" : "FMA peak";
  const double scale = row.unit == "x" ? 1 : 100;
  row.value = figure_of(seconds.values.size(),
                        [&](size_t i) { return scale * flops * 1e-9 / seconds.values[i] / peaks.values[i]; });
  emit(row);
  return Done{};
}

Result<Done> RowContext::two_threads(Row row, const RowKernel& kernel, double flops) const {
  row.unit = "x";
  const auto prepared = subject(row, kernel, 2);
  if (!prepared) return prepared.error();
  if (!*prepared) return Done{};
  const Subject& timed = **prepared;
  timed.run(two);
  const auto series = measure_interleaved({[&] { return timed.run(two); }, [&] { return timed.run(one); }}, budget());
  row.ms = milliseconds(series[0]);
  row.work = flops;
  row.rate_unit = "GFLOP/s";
  set_time_limit(row, "one thread", series[1]);
  row.value = figure_of(series[0].values.size(), [&](size_t i) { return series[1].values[i] / series[0].values[i]; });
  emit(row);
  return Done{};
}

void RowContext::share_of_reads(Row row, const Subject& subject, std::span<const MemoryRange> ranges,
                                bool threads) const {
  const auto& executor = threads ? two : one;
  const TimeOf clock = threads ? TimeOf::wall : TimeOf::thread;
  for (const MemoryRange& range : ranges) row.work += static_cast<double>(range.bytes);
  subject.run(executor);
  const auto series = measure_interleaved(
      {[&] { return subject.run(executor, clock); }, [&] { return time_read(ranges, *executor, clock); }}, budget());
  const auto &own = series[0].values, &reads = series[1].values;
  row.ms = milliseconds(series[0]);
  row.rate_unit = row.limit_unit = "GB/s";
  row.limit_name = "read loop";
  row.limit = figure_of(reads.size(), [&](size_t i) { return row.work / reads[i] * 1e-9; });
  row.value = figure_of(own.size(), [&](size_t i) { return 100 * reads[i] / own[i]; });
  row.unit = "%";
  emit(row);
}

void RowContext::cost_per_score(Row row, const Subject& subject, const Subject& plain) const {
  run_one(subject);
  const auto series = measure_interleaved({[&] { return run_one(subject); }, [&] { return run_one(plain); }}, budget());
  const auto &own = series[0].values, &base = series[1].values;
  row.ms = milliseconds(series[0]);
  row.work = subject.work().flops;
  row.rate_unit = "GFLOP/s";
  const double visited = subject.visited(), base_visited = plain.visited();
  if (row.limit_name.empty()) row.limit_name = "plain, per score";
  row.limit_unit = "ns";
  row.limit = series[1].figure(1e9 / base_visited);
  row.value = figure_of(own.size(), [&](size_t i) { return 100 * (own[i] / visited / (base[i] / base_visited) - 1); });
  row.unit = "%";
  row.note = fmt::format("{:.4f} ns per visited score", 1e9 * series[0].median() / visited);
  emit(row);
}

Result<Done> RowContext::cost_over_parts(Row row, const Subject& subject, const Subject& plain, Scores scores) const {
  // Values that stay in L2: the loop's arithmetic and gathers alone.
  const auto alone = yardstick({modification_graph(scores), {{"R", kLoopRows}, {"C", kLoopColumns}}, {}});
  if (!alone) return alone.error();
  run_one(subject);
  run_one(*alone);
  const double all = subject.work().all;
  constexpr int kRuns = 50;  // of the loop, each shorter than the clock's noise
  const auto series = measure_interleaved({[&] { return run_one(subject); }, [&] { return run_one(plain); },
                                           [&] {
                                             double sum = 0;
                                             for (int i = 0; i < kRuns; ++i) sum += run_one(*alone);
                                             return sum / (kRuns * kLoopRows * kLoopColumns);
                                           }},
                                          budget());
  const auto &own = series[0].values, &base = series[1].values, &each = series[2].values;
  const auto parts = [&](size_t i) { return base[i] + each[i] * all; };
  row.ms = milliseconds(series[0]);
  row.work = subject.work().flops;
  row.rate_unit = "GFLOP/s";
  row.limit = figure_of(own.size(), [&](size_t i) { return 1e3 * parts(i); });
  row.limit_name = "plain + loop";
  row.limit_unit = "ms";
  row.value = figure_of(own.size(), [&](size_t i) { return own[i] / parts(i); });
  row.unit = "x";
  row.note = fmt::format("plain {:.1f} ms, its loop alone {:.1f} ms", 1e3 * series[1].median(),
                         1e3 * series[2].median() * all);
  emit(row);
  return Done{};
}

}  // namespace tilewright::bench
