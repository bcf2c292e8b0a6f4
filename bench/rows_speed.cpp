// Speed against the FMA peak, threads against one thread.
#include "bench/row_context.h"

namespace tilewright::bench {
namespace {

struct ForwardCase {
  const char* name;
  int64_t heads, head_dim;
  Scores scores;
  double target;
};

Graph forward_graph(const ForwardCase& test) {
  return attention_graph({DType::f32, test.heads, test.heads, test.head_dim}, test.scores);
}

/// By the FLOP rule: causal is half of full.
double forward_flops(const ForwardCase& test) {
  return 4.0 * static_cast<double>(test.heads * test.head_dim) * 4096 * 4096 *
         (test.scores == Scores::causal ? 0.5 : 1);
}

const DimBindings kSquare = {{"B", 1}, {"Sq", 4096}, {"Sk", 4096}};

}  // namespace

Result<Done> speed_rows(const RowContext& context) {
  for (const ForwardCase& test : {ForwardCase{"h8 d64 S4096 full", 8, 64, Scores::plain, 75},
                                  ForwardCase{"h8 d64 S4096 causal", 8, 64, Scores::causal, 70},
                                  ForwardCase{"h32 d128 S4096 full", 32, 128, Scores::plain, 75},
                                  ForwardCase{"h32 d128 S4096 causal", 32, 128, Scores::causal, 70}}) {
    const Row row{.group = "speed f32, 1 thread", .name = test.name, .bar = Bar{test.target}};
    if (!context.wanted(row)) continue;
    if (auto ok = context.share_of_peak(row, forward_graph(test), kSquare, forward_flops(test), {CpuTemplate::prefill});
        !ok)
      return ok;
  }
  return Done{};
}

Result<Done> thread_rows(const RowContext& context) {
  for (const ForwardCase& test : {ForwardCase{"h8 d64 S4096 full", 8, 64, Scores::plain, 1.9},
                                  ForwardCase{"h8 d64 S4096 causal", 8, 64, Scores::causal, 1.9}}) {
    const Row row{.group = "two threads", .name = test.name, .bar = Bar{test.target}};
    if (!context.wanted(row)) continue;
    if (auto ok = context.two_threads(row, forward_graph(test), kSquare, forward_flops(test), {CpuTemplate::prefill});
        !ok)
      return ok;
  }
  return Done{};
}

}  // namespace tilewright::bench
