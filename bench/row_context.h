// What the groups of rows share.
#pragma once

#include "bench/rows.h"
#include "bench/subject.h"
#include "bench/timing.h"
#include "runtime/limits.h"

namespace tilewright::bench {

/// What a rate is a share of.
enum class Peak : uint8_t { fma, amx };

class RowContext {
 public:
  RowContext(const Engine& with, const RowOptions& options, const std::function<void(const Row&)>& sink)
      : engine(with), one(make_thread_pool(1)), two(make_thread_pool(2)), options_(options), sink_(sink) {}

  const Engine& engine;
  const std::shared_ptr<Executor> one, two;

  bool wanted(const std::string& group, const std::string& name) const {
    return (group + "/" + name).find(options_.filter) != std::string::npos;
  }
  bool wanted(const Row& row) const { return wanted(row.group, row.name); }
  void emit(const Row& row) const { sink_(row); }
  /// Emits the row as skipped where this machine has no AMX; true: it has.
  bool on_amx(Row& row) const;
  TimingBudget budget() const { return {options_.seconds, 3, 200}; }
  /// Rows of one thread count the thread's own time, so that a busy machine disturbs them less.
  double run_one(const Subject& subject) const { return subject.run(one, TimeOf::thread); }
  /// GFLOP/s, in f32 of the FMA units and in bf16 of AMX.
  double peak_of_one(Peak peak) const;
  /// A graph with data, compiled as the options say.
  Result<Subject> compile(Graph graph, DimBindings dims) const {
    CompileOptions options;
    options.force_generic = options_.force_generic;
    return Subject::create(engine, std::move(graph), std::move(dims), options);
  }
  /// Into a subject that several rows share, when the first of them is wanted.
  Result<Done> compile_once(std::optional<Subject>& subject, Graph graph, DimBindings dims) const;
  using Templates = std::vector<CpuTemplate>;
  /// Fills kernel, schedule and memory and, where not every step that such a template is for runs on it, or there is no
  /// such step, fall_back. False: the row is void.
  static bool expect(Row& row, const Subject& subject, CpuTemplate kernel, int workers = 1);
  /// The same for several; a void row is emitted, nothing need be measured for it.
  bool runs_on(Row& row, const Subject& subject, const Templates& expected, int workers = 1) const;

  /// Measures and emits a row whose group, name and bar are set: the share of a peak of one thread, at `flops` a run,
  /// in percent or, where the row's unit says x, as a multiple.
  Result<Done> share_of_peak(Row row, Graph graph, DimBindings dims, double flops, const Templates& expected,
                             Peak peak = Peak::fma) const;
  /// Likewise: how many times as fast as one thread two are.
  Result<Done> two_threads(Row row, Graph graph, DimBindings dims, double flops, const Templates& expected) const;
  /// Likewise, of a subject that runs on what the row is about: the share that reading `ranges` once in a plain loop
  /// takes of a run.
  void share_of_reads(Row row, const Subject& subject, std::span<const MemoryRange> ranges, bool threads) const;
  /// Likewise: what a score of the tiles that `subject` visits costs over one of `plain`, in percent.
  void cost_per_score(Row row, const Subject& subject, const Subject& plain) const;
  /// Likewise: the time over that of `plain` and the modification's own loop over as many values, added.
  Result<Done> cost_over_parts(Row row, const Subject& subject, const Subject& plain, Scores scores) const;

 private:
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
