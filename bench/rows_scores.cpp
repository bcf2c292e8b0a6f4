// What masks and score modifications cost per score of the tiles that are visited, over plain attention.
#include "bench/row_context.h"

namespace tilewright::bench {
namespace {

struct Case {
  const char* name;
  Scores scores;
};

const AttentionShape kShape{DType::f32, 8, 8, 64};
const DimBindings kDims = {{"B", 1}, {"Sq", 4096}, {"Sk", 4096}};

}  // namespace

Result<Done> mask_rows(const RowContext& context) {
  const std::string group = "masks, cost per visited score";
  const auto plain = context.compile(attention_graph(kShape, Scores::plain), kDims);
  if (!plain) return plain.error();
  for (const Case& test : {Case{"ALiBi", Scores::alibi}, Case{"causal", Scores::causal},
                           Case{"window 1024", Scores::window}, Case{"9 packed documents", Scores::documents}}) {
    if (!context.wanted(group, test.name)) continue;
    const auto subject = context.compile(attention_graph(kShape, test.scores), kDims);
    if (!subject) return subject.error();
    context.run_one(*subject);
    const auto series = measure_interleaved(
        {[&] { return context.run_one(*subject); }, [&] { return context.run_one(*plain); }}, context.budget());
    const double each = series[0].median() / subject->visited(), base = series[1].median() / plain->work().all;
    Row row{group,
            test.name,
            fmt::format("{:.3f} ns", each * 1e9),
            fmt::format("plain {:.3f} ns", base * 1e9),
            100 * (each / base - 1),
            10,
            false,
            "%",
            series[0].spread()};
    RowContext::expect(row, *subject, CpuTemplate::prefill);
    context.emit(row);
  }
  return Done{};
}

Result<Done> modification_rows(const RowContext& context) {
  const std::string group = "score code, over plain + its own loop";
  const auto plain = context.compile(attention_graph(kShape, Scores::plain), kDims);
  if (!plain) return plain.error();
  for (const Case& test : {Case{"softcap (tanh)", Scores::softcap}, Case{"gather table[rel[q,kv],h]", Scores::gather},
                           Case{"dropout 0.1", Scores::dropout}}) {
    if (!context.wanted(group, test.name)) continue;
    const auto subject = context.compile(attention_graph(kShape, test.scores), kDims);
    if (!subject) return subject.error();
    // Values that stay in L2: the loop's arithmetic and gathers alone.
    const auto alone = context.compile(modification_graph(test.scores), {{"R", 64}, {"C", 1024}});
    if (!alone) return alone.error();
    context.run_one(*subject);
    context.run_one(*alone);
    const auto series =
        measure_interleaved({[&] { return context.run_one(*subject); }, [&] { return context.run_one(*plain); },
                             [&] {
                               double sum = 0;
                               for (int i = 0; i < 50; ++i) sum += context.run_one(*alone);
                               return sum / (50 * 64 * 1024);
                             }},
                            context.budget());
    const double scores = subject->work().all;
    const double parts = series[1].median() + series[2].median() * scores;
    Row row{group,
            test.name,
            fmt::format("{:.1f} ms", series[0].median() * 1e3),
            fmt::format("{:.1f} + {:.1f} ms", series[1].median() * 1e3, series[2].median() * scores * 1e3),
            series[0].median() / parts,
            1.15,
            false,
            "x",
            series[0].spread()};
    RowContext::expect(row, *subject, CpuTemplate::prefill);
    context.emit(row);
  }
  return Done{};
}

}  // namespace tilewright::bench
