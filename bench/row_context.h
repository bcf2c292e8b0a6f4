// What the groups of rows share.
#pragma once

#include "bench/rows.h"
#include "bench/subject.h"
#include "bench/timing.h"
#include "runtime/limits.h"

namespace tilewright::bench {

/// What a rate is a share of.
enum class Peak : uint8_t { fma, amx };

/// What a row runs.
struct RowKernel {
  Graph graph;
  DimBindings dims;
  std::vector<CpuTemplate> expected;  ///< of steps that such templates are for; another one makes the row void
  /// Rows about f32 mean FMA, on every machine, unless they are about something else.
  PrecisionPolicy precision = PrecisionPolicy::f32_fma;
};

class RowContext {
 public:
  RowContext(const Engine& with, const RowOptions& options, const std::function<void(const Row&)>& sink)
      : engine(with), one(make_thread_pool(1)), two(make_thread_pool(2)), options_(options), sink_(sink) {}

  const Engine& engine;
  const std::shared_ptr<Executor> one, two;

  /// The same rows by another engine.
  RowContext on(const Engine& other) const { return {other, options_, sink_}; }

  bool wanted(const Row& row) const { return row.key().find(options_.filter) != std::string::npos; }
  bool plan_only() const { return options_.plan_only; }
  void emit(const Row& row) const { sink_(row); }
  /// Emits the row as skipped where this machine has no AMX; true: it has.
  bool on_amx(Row& row) const;
  TimingBudget budget() const { return {options_.seconds, 3, 200}; }
  /// Rows of one thread count the thread's own time, so that a busy machine disturbs them less.
  double run_one(const Subject& subject) const { return subject.run(one, TimeOf::thread); }
  /// GFLOP/s, in f32 of the FMA units and in bf16 of AMX.
  double peak_of_one(Peak peak) const;

  /// Fills template, schedule and memory and, where not every step that such a template is for runs on it, or there is
  /// no such step, fall_back. False: the row is void.
  static bool expect(Row& row, const Kernel& kernel, const DimBindings& dims, CpuTemplate expected, int workers = 1);
  /// The kernel compiled, and data for it. nullopt: nothing need be measured, and the row is emitted: it is void, or no
  /// more than what would run was asked for.
  Result<std::optional<Subject>> subject(Row& row, const RowKernel& kernel, int workers = 1) const;
  /// A kernel that a row is compared with.
  Result<Subject> yardstick(const RowKernel& kernel) const;
  /// The same for several rows, made for the first of them.
  Result<Done> yardstick_once(std::optional<Subject>& subject, const RowKernel& kernel) const;

  /// Measures and emits a row whose group, name and bar are set: the share of a peak of one thread, at `flops` a run,
  /// in percent or, where the row's unit says x, as a multiple.
  Result<Done> share_of_peak(Row row, const RowKernel& kernel, double flops, Peak peak = Peak::fma) const;
  /// Likewise: how many times as fast as one thread two are.
  Result<Done> two_threads(Row row, const RowKernel& kernel, double flops) const;
  /// Likewise, of a subject that runs on what the row is about: the share that reading `ranges` once in a plain loop
  /// takes of a run.
  void share_of_reads(Row row, const Subject& subject, std::span<const MemoryRange> ranges, bool threads) const;
  /// Likewise: what a score of the tiles that `subject` visits costs over one of `plain`, in percent.
  void cost_per_score(Row row, const Subject& subject, const Subject& plain) const;
  /// Likewise: the time over that of `plain` and the modification's own loop over as many values, added.
  Result<Done> cost_over_parts(Row row, const Subject& subject, const Subject& plain, Scores scores) const;

 private:
  CompileOptions compile_options(const RowKernel& kernel) const;

  RowOptions options_;
  const std::function<void(const Row&)>& sink_;
};

/// ms of a row, from seconds.
inline Figure milliseconds(const Series& seconds) { return seconds.figure(1e3); }
/// The limit of a row that is a time, too.
void set_time_limit(Row& row, std::string name, const Series& seconds);

Result<Done> limit_rows(const RowContext& context);
Result<Done> speed_rows(const RowContext& context);
Result<Done> thread_rows(const RowContext& context);
Result<Done> backward_rows(const RowContext& context);
Result<Done> mask_rows(const RowContext& context);
Result<Done> modification_rows(const RowContext& context);
Result<Done> rotation_rows(const RowContext& context);
Result<Done> decode_rows(const RowContext& context);
Result<Done> matmul_rows(const RowContext& context);
Result<Done> compile_rows(const RowContext& context);
Result<Done> memory_rows(const RowContext& context);

}  // namespace tilewright::bench
