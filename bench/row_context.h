// What the groups of rows share.
#pragma once

#include "bench/rows.h"
#include "bench/subject.h"
#include "bench/timing.h"
#include "runtime/limits.h"

namespace tilewright::bench {

class RowContext {
 public:
  RowContext(const Engine& with, const RowOptions& options, const std::function<void(const Row&)>& sink)
      : engine(with), one(make_thread_pool(1)), two(make_thread_pool(2)), options_(options), sink_(sink) {}

  const Engine& engine;
  const std::shared_ptr<Executor> one, two;

  bool wanted(const std::string& group, const std::string& name) const {
    return (group + "/" + name).find(options_.filter) != std::string::npos;
  }
  void emit(const Row& row) const { sink_(row); }
  TimingBudget budget() const { return {options_.seconds, 3, 200}; }
  /// Rows of one thread count the thread's own time, so that a busy machine disturbs them less.
  double run_one(const Subject& subject) const { return subject.run(one, TimeOf::thread); }
  double fma_peak_of_one() const {
    return measure_fma_peak(engine.target().isa, DType::f32, *one, 0.02, TimeOf::thread);
  }
  /// Fills kernel and fall_back.
  static void expect(Row& row, const Subject& subject, CpuTemplate kernel) {
    row.kernel = to_string(subject.chosen());
    if (subject.chosen() == kernel) return;
    row.fall_back = fmt::format("expected the {} template", to_string(kernel));
    for (const StepReport& step : subject.kernel().stats().step_reports)
      for (const auto& refusal : step.refused)
        if (refusal.kernel == kernel) row.fall_back += ", which refused: " + refusal.reason;
  }

 private:
  RowOptions options_;
  const std::function<void(const Row&)>& sink_;
};

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
