// The backward pass: speed against the FMA peak, what the gradient of a bias costs, threads, memory.
#include <algorithm>

#include "bench/process_memory.h"
#include "bench/row_context.h"
#include "compiler/gradient.h"

namespace tilewright::bench {
namespace {

const std::vector<CpuTemplate> kExpected = {CpuTemplate::backward};

/// The backward graph of attention, with saved outputs.
Result<Graph> backward_graph(const AttentionShape& shape, Scores scores,
                             std::vector<std::string> wrt = {"q", "k", "v"}) {
  auto gradients = gradient(attention_graph(shape, scores), {std::move(wrt), false});
  if (!gradients) return gradients.error();
  return std::move(gradients->backward);
}

DimBindings square_dims(int64_t size) { return {{"B", 1}, {"Sq", size}, {"Sk", size}}; }

/// 2·B·H·Sq·avgSk·(3·Dqk + 2·Dv); causal is half of full.
double backward_flops(int64_t heads, int64_t head_dim, int64_t size, Scores scores) {
  return 10.0 * static_cast<double>(heads * head_dim * size * size) * (scores == Scores::causal ? 0.5 : 1);
}

struct BackwardCase {
  const char* name;
  int64_t heads, head_dim, size;
  Scores scores;
  double target;
  double flops() const { return backward_flops(heads, head_dim, size, scores); }
};

/// Rows that differ in shapes only.
struct BackwardGroup {
  const char* name;
  DType dtype;
  PrecisionPolicy precision;
  CpuTemplate expected;
  bool amx;
  std::vector<BackwardCase> cases;

  Result<RowKernel> kernel(const BackwardCase& test) const {
    auto graph = backward_graph({dtype, test.heads, test.heads, test.head_dim}, test.scores);
    if (!graph) return graph.error();
    return RowKernel{std::move(*graph), square_dims(test.size), {expected}, precision};
  }
};

/// Calls measure(row, kernel, flops) for the rows that are wanted and that this machine can run.
template <class Measure>
Result<Done> each_backward(const RowContext& context, const BackwardGroup& group, const char* unit,
                           const Measure& measure) {
  for (const BackwardCase& test : group.cases) {
    Row row{.group = group.name, .name = test.name, .unit = unit, .bar = Bar{test.target}};
    if (!context.wanted(row) || (group.amx && !context.on_amx(row))) continue;
    const auto kernel = group.kernel(test);
    if (!kernel) return kernel.error();
    if (auto ok = measure(row, *kernel, test.flops()); !ok) return ok;
  }
  return Done{};
}

Result<Done> backward_share_rows(const RowContext& context, const BackwardGroup& group, Peak peak, const char* unit) {
  return each_backward(context, group, unit, [&](const Row& row, const RowKernel& kernel, double flops) {
    return context.share_of_peak(row, kernel, flops, peak);
  });
}

/// The same shapes at other bars: d64 full and causal, d128 full and causal.
std::vector<BackwardCase> backward_cases(double full64, double causal64, double full128, double causal128) {
  return {{"h8 d64 S4096 full", 8, 64, 4096, Scores::plain, full64},
          {"h8 d64 S4096 causal", 8, 64, 4096, Scores::causal, causal64},
          {"h32 d128 S2048 full", 32, 128, 2048, Scores::plain, full128},
          {"h32 d128 S2048 causal", 32, 128, 2048, Scores::causal, causal128}};
}

Result<Done> backward_speed(const RowContext& context) {
  const BackwardGroup f32{"backward f32, 1 thread", DType::f32, PrecisionPolicy::f32_fma,
                          CpuTemplate::backward,    false,      backward_cases(60, 52, 60, 52)};
  const BackwardGroup bf16{"backward bf16 on AMX, 1 thread", DType::bf16, PrecisionPolicy::f32,
                           CpuTemplate::amx_backward,        true,        backward_cases(24, 24, 24, 24)};
  const BackwardGroup x6{"backward f32 on AMX, 1 thread, times the FMA peak",
                         DType::f32,
                         PrecisionPolicy::f32,
                         CpuTemplate::amx_backward,
                         true,
                         backward_cases(1, 1, 1, 1)};
  if (auto ok = backward_share_rows(context, f32, Peak::fma, "%"); !ok) return ok;
  if (auto ok = backward_share_rows(context, bf16, Peak::amx, "%"); !ok) return ok;
  return backward_share_rows(context, x6, Peak::fma, "x");
}

Result<Done> backward_threads(const RowContext& context) {
  const BackwardGroup f32{"backward, two threads",
                          DType::f32,
                          PrecisionPolicy::f32_fma,
                          CpuTemplate::backward,
                          false,
                          {{"h8 d64 S4096 full", 8, 64, 4096, Scores::plain, 1.9},
                           {"h8 d64 S4096 causal", 8, 64, 4096, Scores::causal, 1.9}}};
  return each_backward(context, f32, "x", [&](const Row& row, const RowKernel& kernel, double flops) {
    return context.two_threads(row, kernel, flops);
  });
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
    auto subject = context.subject(row, {std::move(*graph), square_dims(2048), kExpected});
    if (!subject) return subject.error();
    if (!*subject) return Done{};
    context.run_one(**subject);
    subjects.push_back(std::move(**subject));
  }
  const auto series = measure_interleaved(
      {[&] { return context.run_one(subjects[0]); }, [&] { return context.run_one(subjects[1]); }}, context.budget());
  const auto &without = series[0].values, &with = series[1].values;
  row.ms = milliseconds(series[1]);
  row.work = backward_flops(8, 64, 2048, Scores::bias);
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
  const auto& executor = context.engine.executor();
  const auto prepared = context.subject(row, {std::move(*graph), square_dims(65536), kExpected}, executor->workers());
  if (!prepared) return prepared.error();
  if (!*prepared) return Done{};
  const auto& subject = *prepared;
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
  row.work = backward_flops(1, 64, 65536, Scores::causal);
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
