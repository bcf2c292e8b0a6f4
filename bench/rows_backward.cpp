// The backward pass: speed against the FMA peak, what the gradient of a bias costs, threads, memory.
#include "bench/row_context.h"
#include "compiler/gradient.h"

namespace tilewright::bench {
namespace {

/// The backward graph of attention, with saved outputs, compiled with data; S queries and keys.
Result<Subject> backward_subject(const RowContext& context, const AttentionShape& shape, Scores scores, int64_t size,
                                 std::vector<std::string> wrt) {
  auto gradients = gradient(attention_graph(shape, scores), {std::move(wrt), false});
  if (!gradients) return gradients.error();
  return Subject::create(context.engine, std::move(gradients->backward), {{"B", 1}, {"Sq", size}, {"Sk", size}});
}

const std::vector<std::string> kOperands = {"q", "k", "v"};

Result<Done> speed(const RowContext& context) {
  const std::string group = "backward f32, 1 thread";
  struct Case {
    const char* name;
    int64_t heads, head_dim, size;
    Scores scores;
    double target;
  };
  for (const Case& test : {Case{"h8 d64 S4096 full", 8, 64, 4096, Scores::plain, 60},
                           Case{"h8 d64 S4096 causal", 8, 64, 4096, Scores::causal, 52},
                           Case{"h32 d128 S2048 full", 32, 128, 2048, Scores::plain, 60},
                           Case{"h32 d128 S2048 causal", 32, 128, 2048, Scores::causal, 52}}) {
    if (!context.wanted(group, test.name)) continue;
    const auto subject = backward_subject(context, {DType::f32, test.heads, test.heads, test.head_dim}, test.scores,
                                          test.size, kOperands);
    if (!subject) return subject.error();
    context.run_one(*subject);
    const auto series = measure_interleaved(
        {[&] { return context.run_one(*subject); }, [&] { return context.fma_peak_of_one(); }}, context.budget());
    // 2·B·H·Sq·avgSk·(3·Dqk + 2·Dv); causal is half of full.
    const double flops = 10.0 * static_cast<double>(test.heads * test.head_dim * test.size * test.size) *
                         (test.scores == Scores::causal ? 0.5 : 1);
    const double rate = flops / series[0].median() * 1e-9, peak = series[1].median();
    Row row{group,
            test.name,
            fmt::format("{:.1f} GFLOP/s", rate),
            fmt::format("FMA peak {:.1f}", peak),
            100 * rate / peak,
            test.target,
            true,
            "%",
            series[0].spread()};
    RowContext::expect(row, *subject, CpuTemplate::backward);
    context.emit(row);
  }
  return Done{};
}

Result<Done> bias_gradient(const RowContext& context) {
  const std::string group = "backward, gradient of a bias [1,H,S,S]", name = "h8 d64 S2048";
  if (!context.wanted(group, name)) return Done{};
  const AttentionShape shape{DType::f32, 8, 8, 64};
  const auto without = backward_subject(context, shape, Scores::bias, 2048, kOperands);
  if (!without) return without.error();
  const auto with = backward_subject(context, shape, Scores::bias, 2048, {"q", "k", "v", "bias"});
  if (!with) return with.error();
  context.run_one(*without);
  context.run_one(*with);
  const auto series = measure_interleaved(
      {[&] { return context.run_one(*with); }, [&] { return context.run_one(*without); }}, context.budget());
  const double more = series[0].median(), plain = series[1].median();
  Row row{group,
          name,
          fmt::format("{:.1f} ms", more * 1e3),
          fmt::format("without {:.1f} ms", plain * 1e3),
          100 * (more / plain - 1),
          25,
          false,
          "%",
          series[0].spread()};
  RowContext::expect(row, *with, CpuTemplate::backward);
  context.emit(row);
  return Done{};
}

Result<Done> threads(const RowContext& context) {
  const std::string group = "backward, two threads", name = "h8 d64 S4096 causal";
  if (!context.wanted(group, name)) return Done{};
  const auto subject = backward_subject(context, {DType::f32, 8, 8, 64}, Scores::causal, 4096, kOperands);
  if (!subject) return subject.error();
  subject->run(context.two);
  const auto series = measure_interleaved(
      {[&] { return subject->run(context.one); }, [&] { return subject->run(context.two); }}, context.budget());
  const double one = series[0].median(), two = series[1].median();
  Row row{group,
          name,
          fmt::format("{:.1f} ms", two * 1e3),
          fmt::format("one thread {:.1f} ms", one * 1e3),
          one / two,
          1.9,
          true,
          "x",
          series[1].spread()};
  RowContext::expect(row, *subject, CpuTemplate::backward);
  context.emit(row);
  return Done{};
}

Result<Done> memory(const RowContext& context) {
  const std::string group = "backward, memory beside inputs and outputs", name = "h1 d64 S65536 causal";
  if (!context.wanted(group, name)) return Done{};
  const auto subject = backward_subject(context, {DType::f32, 1, 1, 64}, Scores::causal, 65536, kOperands);
  if (!subject) return subject.error();
  const auto& executor = context.engine.executor();
  const auto estimate = subject->kernel().memory_estimate(subject->dims(), executor->workers());
  if (!estimate) return estimate.error();
  const double megabytes = static_cast<double>(estimate->scratch + estimate->workspace) / (1 << 20);
  Row row{group,
          name,
          fmt::format("{:.2f} MB, {:.2f} s", megabytes, subject->run(executor)),
          fmt::format("unfused {:.0f} MB", static_cast<double>(estimate->unfused) / (1 << 20)),
          megabytes,
          16,
          false,
          "MB",
          0};
  RowContext::expect(row, *subject, CpuTemplate::backward);
  context.emit(row);
  return Done{};
}

}  // namespace

Result<Done> backward_rows(const RowContext& context) {
  for (const auto rows : {speed, bias_gradient, threads, memory})
    if (auto ok = rows(context); !ok) return ok;
  return Done{};
}

}  // namespace tilewright::bench
