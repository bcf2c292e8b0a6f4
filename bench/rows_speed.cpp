// Speed against the FMA peak, threads against one thread.
#include "bench/row_context.h"

namespace tilewright::bench {
namespace {

struct Case {
  const char* name;
  int64_t heads, head_dim;
  Scores scores;
  double target;
};

DimBindings square(int64_t size) { return {{"B", 1}, {"Sq", size}, {"Sk", size}}; }

}  // namespace

Result<Done> speed_rows(const RowContext& context) {
  const std::string group = "speed f32, 1 thread";
  for (const Case& test :
       {Case{"h8 d64 S4096 full", 8, 64, Scores::plain, 75}, Case{"h8 d64 S4096 causal", 8, 64, Scores::causal, 70},
        Case{"h32 d128 S4096 full", 32, 128, Scores::plain, 75},
        Case{"h32 d128 S4096 causal", 32, 128, Scores::causal, 70}}) {
    if (!context.wanted(group, test.name)) continue;
    const auto subject = Subject::create(
        context.engine, attention_graph({DType::f32, test.heads, test.heads, test.head_dim}, test.scores),
        square(4096));
    if (!subject) return subject.error();
    context.run_one(*subject);
    const auto series = measure_interleaved(
        {[&] { return context.run_one(*subject); }, [&] { return context.fma_peak_of_one(); }}, context.budget());
    // By the FLOP rule: causal is half of full.
    const double flops =
        4.0 * static_cast<double>(test.heads * test.head_dim) * 4096 * 4096 * (test.scores == Scores::causal ? 0.5 : 1);
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
    RowContext::expect(row, *subject, CpuTemplate::prefill);
    context.emit(row);
  }
  return Done{};
}

Result<Done> thread_rows(const RowContext& context) {
  const std::string group = "two threads";
  for (const Case& test : {Case{"h8 d64 S4096 full", 8, 64, Scores::plain, 1.9},
                           Case{"h8 d64 S4096 causal", 8, 64, Scores::causal, 1.9}}) {
    if (!context.wanted(group, test.name)) continue;
    const auto subject = Subject::create(
        context.engine, attention_graph({DType::f32, test.heads, test.heads, test.head_dim}, test.scores),
        square(4096));
    if (!subject) return subject.error();
    subject->run(context.two);
    const auto series = measure_interleaved(
        {[&] { return subject->run(context.one); }, [&] { return subject->run(context.two); }}, context.budget());
    const double one = series[0].median(), two = series[1].median();
    Row row{group,
            test.name,
            fmt::format("{:.1f} ms", two * 1e3),
            fmt::format("one thread {:.1f} ms", one * 1e3),
            one / two,
            test.target,
            true,
            "x",
            series[1].spread()};
    RowContext::expect(row, *subject, CpuTemplate::prefill);
    context.emit(row);
  }
  return Done{};
}

}  // namespace tilewright::bench
