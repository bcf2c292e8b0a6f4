// The backward pass: speed against the FMA peak, what the gradient of a bias costs, threads, memory.
#include <algorithm>

#include "bench/process_memory.h"
#include "bench/row_context.h"
#include "compiler/gradient.h"

namespace tilewright::bench {
namespace {

const RowContext::Templates kExpected = {CpuTemplate::backward};

/// The backward graph of attention, with saved outputs.
Result<Graph> backward_graph(const AttentionShape& shape, Scores scores,
                             std::vector<std::string> wrt = {"q", "k", "v"}) {
  auto gradients = gradient(attention_graph(shape, scores), {std::move(wrt), false});
  if (!gradients) return gradients.error();
  return std::move(gradients->backward);
}

DimBindings square_dims(int64_t size) { return {{"B", 1}, {"Sq", size}, {"Sk", size}}; }

struct BackwardCase {
  const char* name;
  int64_t heads, head_dim, size;
  Scores scores;
  double target;
  Result<Graph> graph() const { return backward_graph({DType::f32, heads, heads, head_dim}, scores); }
  /// 2·B·H·Sq·avgSk·(3·Dqk + 2·Dv); causal is half of full.
  double flops() const {
    return 10.0 * static_cast<double>(heads * head_dim * size * size) * (scores == Scores::causal ? 0.5 : 1);
  }
};

Result<Done> backward_speed(const RowContext& context) {
  for (const BackwardCase& test : {BackwardCase{"h8 d64 S4096 full", 8, 64, 4096, Scores::plain, 60},
                                   BackwardCase{"h8 d64 S4096 causal", 8, 64, 4096, Scores::causal, 52},
                                   BackwardCase{"h32 d128 S2048 full", 32, 128, 2048, Scores::plain, 60},
                                   BackwardCase{"h32 d128 S2048 causal", 32, 128, 2048, Scores::causal, 52}}) {
    const Row row{.group = "backward f32, 1 thread", .name = test.name, .bar = Bar{test.target}};
    if (!context.wanted(row)) continue;
    auto graph = test.graph();
    if (!graph) return graph.error();
    if (auto ok = context.share_of_peak(row, std::move(*graph), square_dims(test.size), test.flops(), kExpected); !ok)
      return ok;
  }
  return Done{};
}

Result<Done> backward_threads(const RowContext& context) {
  for (const BackwardCase& test : {BackwardCase{"h8 d64 S4096 full", 8, 64, 4096, Scores::plain, 1.9},
                                   BackwardCase{"h8 d64 S4096 causal", 8, 64, 4096, Scores::causal, 1.9}}) {
    const Row row{.group = "backward, two threads", .name = test.name, .bar = Bar{test.target}};
    if (!context.wanted(row)) continue;
    auto graph = test.graph();
    if (!graph) return graph.error();
    if (auto ok = context.two_threads(row, std::move(*graph), square_dims(test.size), test.flops(), kExpected); !ok)
      return ok;
  }
  return Done{};
}

Result<Done> bias_gradient(const RowContext& context) {
  Row row{
      .group = "backward, gradient of a bias [1,H,S,S]", .name = "h8 d64 S2048", .unit = "%", .bar = Bar{25, false}};
  if (!context.wanted(row)) return Done{};
  std::vector<Subject> subjects;  // without and with it
  for (const bool wanted : {false, true}) {
    std::vector<std::string> wrt = {"q", "k", "v"};
    if (wanted) wrt.push_back("bias");
    auto graph = backward_graph({DType::f32, 8, 8, 64}, Scores::bias, std::move(wrt));
    if (!graph) return graph.error();
    auto subject = context.compile(std::move(*graph), square_dims(2048));
    if (!subject) return subject.error();
    if (!context.runs_on(row, *subject, kExpected)) return Done{};
    context.run_one(*subject);
    subjects.push_back(std::move(*subject));
  }
  const auto series = measure_interleaved(
      {[&] { return context.run_one(subjects[0]); }, [&] { return context.run_one(subjects[1]); }}, context.budget());
  const auto &without = series[0].values, &with = series[1].values;
  row.ms = milliseconds(series[1]);
  row.work = BackwardCase{"", 8, 64, 2048, Scores::bias, 0}.flops();
  row.rate_unit = "GFLOP/s";
  set_time_limit(row, "without", series[0]);
  row.value = figure_of(with.size(), [&](size_t i) { return 100 * (with[i] / without[i] - 1); });
  context.emit(row);
  return Done{};
}

Result<Done> backward_memory(const RowContext& context) {
  Row row{.group = "backward, memory beside inputs and outputs",
          .name = "h1 d64 S65536 causal",
          .unit = "MB",
          .bar = Bar{16, false}};
  if (!context.wanted(row)) return Done{};
  auto graph = backward_graph({DType::f32, 1, 1, 64}, Scores::causal);
  if (!graph) return graph.error();
  const auto subject = context.compile(std::move(*graph), square_dims(65536));
  if (!subject) return subject.error();
  const auto& executor = context.engine.executor();
  if (!context.runs_on(row, *subject, kExpected, executor->workers())) return Done{};
  const auto estimate = subject->kernel().memory_estimate(subject->dims(), executor->workers());
  if (!estimate) return estimate.error();
  const auto megabytes = [](int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  double seconds = 0;
  const auto rise = peak_rise([&] { seconds = subject->run(executor); });
  // The larger of what was promised and what was touched.
  const int64_t promised = estimate->scratch + estimate->workspace;
  if (!rise) row.fall_back = "this system does not tell how much memory a process touched";
  row.value = Figure::exactly(megabytes(std::max(promised, rise.value_or(0))));
  row.ms = Figure::exactly(seconds * 1e3);
  row.work = BackwardCase{"", 1, 64, 65536, Scores::causal, 0}.flops();
  row.rate_unit = "GFLOP/s";
  row.note = fmt::format("touched {:.2f} MB, estimate {:.2f} MB, unfused {:.0f} MB", megabytes(rise.value_or(0)),
                         megabytes(promised), megabytes(estimate->unfused));
  context.emit(row);
  return Done{};
}

}  // namespace

Result<Done> backward_rows(const RowContext& context) {
  for (const auto rows : {backward_speed, bias_gradient, backward_threads, backward_memory})
    if (auto ok = rows(context); !ok) return ok;
  return Done{};
}

}  // namespace tilewright::bench
