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
  /// A graph with data, compiled as the options say.
  Result<Subject> compile(Graph graph, DimBindings dims) const {
    CompileOptions options;
    options.force_generic = options_.force_generic;
    return Subject::create(engine, std::move(graph), std::move(dims), options);
  }
  using Templates = std::vector<CpuTemplate>;
  /// Fills kernel and, where not every step that such a template is for runs on it, or there is no such step,
  /// fall_back. False: the row is void.
  static bool expect(Row& row, const Subject& subject, CpuTemplate kernel);
  /// The same for several; a void row is emitted, nothing need be measured for it.
  bool runs_on(Row& row, const Subject& subject, const Templates& expected) const;

  /// Measures and emits a row whose group, name and target are set: the share of the FMA peak of one thread, at `flops`
  /// a run.
  Result<Done> share_of_peak(Row row, Graph graph, DimBindings dims, double flops, const Templates& expected) const;
  /// Likewise: how many times as fast as one thread two are.
  Result<Done> two_threads(Row row, Graph graph, DimBindings dims, const Templates& expected) const;

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
