// What masks and score modifications cost over plain attention: per score of the tiles that are visited, or beside the
// modification's own loop.
#include "bench/row_context.h"

namespace tilewright::bench {
namespace {

struct ScoreCase {
  std::string name;
  Scores scores;
};

/// Rows on one kernel of plain attention.
struct ScoreGroup {
  const char* name;
  DType dtype;
  int64_t head_dim;
  CpuTemplate expected;
  double target;
  std::vector<ScoreCase> cases;

  RowKernel kernel(Scores scores, int64_t length = 4096) const {
    return {attention_graph({dtype, 8, 8, head_dim}, scores), {{"B", 1}, {"Sq", length}, {"Sk", length}}, {expected}};
  }
};

enum class Against : uint8_t { score, parts };

Result<Done> score_rows(const RowContext& context, const ScoreGroup& group, Against against) {
  std::optional<Subject> plain;
  for (const ScoreCase& test : group.cases) {
    Row row{.group = group.name, .name = test.name, .bar = Bar{group.target, false}};
    if (!context.wanted(row) || (group.expected == CpuTemplate::amx_prefill && !context.on_amx(row))) continue;
    const auto subject = context.subject(row, group.kernel(test.scores));
    if (!subject) return subject.error();
    if (!*subject) continue;
    if (auto ok = context.yardstick_once(plain, group.kernel(Scores::plain)); !ok) return ok;
    if (against == Against::score)
      context.cost_per_score(row, **subject, *plain);
    else if (auto ok = context.cost_over_parts(row, **subject, *plain, test.scores); !ok)
      return ok;
  }
  return Done{};
}

/// What a visited score of a window costs in sequences longer than 2048 over one there: nothing, where time goes with
/// the blocks that are visited and not with all of them, of which S 8192 has 16 times as many.
Result<Done> scaling_rows(const RowContext& context, const ScoreGroup& group) {
  std::optional<Subject> base;
  for (const int64_t length : {4096, 8192}) {
    Row row{.group = group.name,
            .name = fmt::format("window 1024, S {} over 2048", length),
            .limit_name = "S 2048, per score",
            .bar = Bar{group.target, false}};
    if (!context.wanted(row)) continue;
    const auto subject = context.subject(row, group.kernel(Scores::window, length));
    if (!subject) return subject.error();
    if (!*subject) continue;
    if (auto ok = context.yardstick_once(base, group.kernel(Scores::window, 2048)); !ok) return ok;
    context.cost_per_score(row, **subject, *base);
  }
  return Done{};
}

}  // namespace

Result<Done> mask_rows(const RowContext& context) {
  const ScoreGroup f32{"masks, cost per visited score",
                       DType::f32,
                       64,
                       CpuTemplate::prefill,
                       10,
                       {{"ALiBi", Scores::alibi},
                        {"causal", Scores::causal},
                        {"window 1024", Scores::window},
                        {"9 packed documents", Scores::documents}}};
  if (auto ok = score_rows(context, f32, Against::score); !ok) return ok;
  const ScoreGroup scaling{
      "masks, cost per visited score of longer sequences", DType::f32, 64, CpuTemplate::prefill, 10, {}};
  if (auto ok = scaling_rows(context, scaling); !ok) return ok;
  for (const int64_t head_dim : {64, 128}) {
    ScoreGroup bf16{
        "masks on AMX, bf16, cost per visited score", DType::bf16, head_dim, CpuTemplate::amx_prefill, 15, {}};
    for (const ScoreCase& test : f32.cases)
      bf16.cases.push_back({fmt::format("{} d{}", test.name, head_dim), test.scores});
    if (auto ok = score_rows(context, bf16, Against::score); !ok) return ok;
  }
  const ScoreGroup wide{"masks on AMX, bf16, cost per visited score", DType::bf16, 256, CpuTemplate::amx_prefill, 15,
                        {{"softcap (tanh) d256", Scores::softcap}}};
  return score_rows(context, wide, Against::score);
}

Result<Done> modification_rows(const RowContext& context) {
  const ScoreGroup f32{"score code, over plain + its own loop",
                       DType::f32,
                       64,
                       CpuTemplate::prefill,
                       1.15,
                       {{"softcap (tanh)", Scores::softcap},
                        {"gather table[rel[q,kv],h]", Scores::gather},
                        {"dropout 0.1", Scores::dropout}}};
  if (auto ok = score_rows(context, f32, Against::parts); !ok) return ok;
  for (const int64_t head_dim : {64, 128}) {
    const ScoreGroup bf16{"score code on AMX, bf16, over plain + its own loop",
                          DType::bf16,
                          head_dim,
                          CpuTemplate::amx_prefill,
                          1.15,
                          {{fmt::format("softcap (tanh) d{}", head_dim), Scores::softcap},
                           {fmt::format("gather [rel[q,kv],h] d{}", head_dim), Scores::gather}}};
    if (auto ok = score_rows(context, bf16, Against::parts); !ok) return ok;
  }
  return Done{};
}

}  // namespace tilewright::bench
