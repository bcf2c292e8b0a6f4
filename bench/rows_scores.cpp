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
  std::optional<Subject> plain;
  for (const Case& test : {Case{"ALiBi", Scores::alibi}, Case{"causal", Scores::causal},
                           Case{"window 1024", Scores::window}, Case{"9 packed documents", Scores::documents}}) {
    Row row{.group = "masks, cost per visited score", .name = test.name, .bar = Bar{10, false}};
    if (!context.wanted(row)) continue;
    if (auto ok = context.compile_once(plain, attention_graph(kShape, Scores::plain), kDims); !ok) return ok;
    const auto subject = context.compile(attention_graph(kShape, test.scores), kDims);
    if (!subject) return subject.error();
    if (context.runs_on(row, *subject, {CpuTemplate::prefill})) context.cost_per_score(row, *subject, *plain);
  }
  return Done{};
}

Result<Done> modification_rows(const RowContext& context) {
  std::optional<Subject> plain;
  for (const Case& test : {Case{"softcap (tanh)", Scores::softcap}, Case{"gather table[rel[q,kv],h]", Scores::gather},
                           Case{"dropout 0.1", Scores::dropout}}) {
    Row row{.group = "score code, over plain + its own loop", .name = test.name, .bar = Bar{1.15, false}};
    if (!context.wanted(row)) continue;
    if (auto ok = context.compile_once(plain, attention_graph(kShape, Scores::plain), kDims); !ok) return ok;
    const auto subject = context.compile(attention_graph(kShape, test.scores), kDims);
    if (!subject) return subject.error();
    if (!context.runs_on(row, *subject, {CpuTemplate::prefill})) continue;
    if (auto ok = context.cost_over_parts(row, *subject, *plain, test.scores); !ok) return ok;
  }
  return Done{};
}

}  // namespace tilewright::bench
