#include <fmt/format.h>

#include <algorithm>

#include "bench/subject.h"
#include "cli/tune.h"
#include "compiler/gradient.h"

namespace tilewright::cli {
namespace {

using bench::AttentionShape;
using bench::Scores;

std::string_view name_of(Scores scores) {
  switch (scores) {
    case Scores::causal: return "causal";
    case Scores::alibi: return "ALiBi";
    case Scores::window: return "window";
    case Scores::documents: return "documents";
    case Scores::softcap: return "softcap";
    case Scores::gather: return "gather";
    case Scores::dropout: return "dropout";
    case Scores::bias: return "bias";
    case Scores::plain: break;
  }
  return "full";
}

struct Attention {
  AttentionShape shape;
  int64_t batch, q_len, kv_len;
  Scores scores;
  bool backward = false;
};

std::string name_of(const Attention& a) {
  const std::string heads = a.shape.heads == a.shape.kv_heads ? fmt::format("h{}", a.shape.heads)
                                                              : fmt::format("{}/{}", a.shape.heads, a.shape.kv_heads);
  const std::string lengths =
      a.q_len == a.kv_len ? fmt::format("S{}", a.q_len) : fmt::format("Sq{} Sk{}", a.q_len, a.kv_len);
  return fmt::format("{}{} {} d{} B{} {} {}", a.backward ? "backward " : "", to_string(a.shape.dtype), heads,
                     a.shape.head_dim, a.batch, lengths, name_of(a.scores));
}

Graph product(int64_t n, int64_t k) {
  GraphBuilder b("product");
  const ValueId x = b.param("a", {DType::f32, {Dim::named("M"), k}}), w = b.param("b", {DType::f32, {k, n}});
  b.result(b.named(b.matmul(x, w), "c"));
  return b.take();
}

}  // namespace

std::vector<SuiteShape> suite_shapes(const std::string& filter) {
  constexpr DType f32 = DType::f32, bf16 = DType::bf16;
  const Attention attentions[] = {
      {{f32, 8, 8, 64}, 1, 256, 256, Scores::plain},
      {{f32, 8, 8, 64}, 1, 1024, 1024, Scores::causal},
      {{f32, 8, 8, 64}, 1, 4096, 4096, Scores::plain},
      {{f32, 8, 8, 64}, 1, 4096, 4096, Scores::causal},
      {{f32, 8, 8, 64}, 1, 4096, 4096, Scores::window},
      {{f32, 8, 8, 64}, 1, 4096, 4096, Scores::softcap},
      {{f32, 8, 8, 64}, 1, 2048, 2048, Scores::bias},
      {{f32, 8, 8, 32}, 1, 2048, 2048, Scores::causal},
      {{f32, 8, 8, 80}, 1, 2048, 2048, Scores::plain},
      {{f32, 8, 8, 96}, 1, 2048, 2048, Scores::causal},
      {{f32, 8, 8, 128}, 1, 512, 512, Scores::causal},
      {{f32, 32, 32, 128}, 1, 4096, 4096, Scores::plain},
      {{f32, 32, 32, 128}, 1, 4096, 4096, Scores::causal},
      {{f32, 32, 8, 128}, 1, 2048, 2048, Scores::causal},
      {{f32, 8, 4, 256}, 1, 2048, 2048, Scores::causal},
      {{bf16, 8, 8, 64}, 1, 4096, 4096, Scores::causal},
      {{bf16, 32, 8, 128}, 1, 2048, 2048, Scores::causal},
      {{f32, 32, 8, 128}, 1, 1, 8192, Scores::plain},
      {{bf16, 32, 8, 128}, 1, 1, 8192, Scores::plain},
      {{bf16, 32, 8, 128}, 8, 1, 8192, Scores::plain},
      {{f32, 8, 8, 64}, 1, 1, 1024, Scores::plain},
      {{f32, 8, 8, 64}, 1, 2048, 2048, Scores::plain, true},
      {{f32, 8, 8, 128}, 1, 2048, 2048, Scores::causal, true},
  };
  std::vector<SuiteShape> shapes;
  const auto wanted = [&](const std::string& name) { return name.find(filter) != std::string::npos; };
  for (const Attention& a : attentions) {
    const std::string name = name_of(a);
    if (!wanted(name)) continue;
    Graph graph = attention_graph(a.shape, a.scores);
    if (a.backward) {
      auto passes = gradient(graph, {{"q", "k", "v"}, true});
      TW_CHECK(passes.ok());
      graph = std::move(passes->backward);
    }
    shapes.push_back({name, std::move(graph), {{"B", a.batch}, {"Sq", a.q_len}, {"Sk", a.kv_len}}});
  }
  for (const auto& [m, n, k] :
       {std::array<int64_t, 3>{1024, 1024, 1024}, {1024, 4096, 4096}, {64, 4096, 4096}, {1, 4096, 4096}})
    if (const std::string name = fmt::format("product {}x{}x{}", m, n, k); wanted(name))
      shapes.push_back({name, product(n, k), {{"M", m}}});
  return shapes;
}

void SuiteTable::add(const std::string& shape, const TunedStep& step) {
  lines_.push_back({fmt::format("{}: {}", shape, to_string(step.rules().schedule.kernel)), step.speedup(), step.noise,
                    step.gflops(step.rules()), step.gflops(step.best()),
                    step.chosen == 0 ? "rules" : print(step.best().schedule)});
}

std::string SuiteTable::summary() const {
  std::string out;
  for (const Line& line : lines_)
    out += fmt::format("  {:<48}{:>9.1f}{:>9.1f} GFLOP/s{:>7.3f} x  noise {:.1f} %  {}\n", line.name, line.rules_gflops,
                       line.tuned_gflops, line.gain, 100 * line.noise, line.schedule);
  if (lines_.empty()) return out;
  std::vector<double> gains;
  for (const Line& line : lines_) gains.push_back(line.gain);
  std::ranges::sort(gains, std::greater<>());
  const size_t third = (gains.size() + 2) / 3;
  const auto mean = [&](size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += gains[i];
    return sum / static_cast<double>(count);
  };
  return out + fmt::format(
                   "{} searches: the rules lose {:.1f} % to the tuned choice on average, {:.1f} % at worst; over "
                   "the worst third tuned is {:.3f} x the rules\n",
                   gains.size(), 100 * (1 - 1 / mean(gains.size())), 100 * (1 - 1 / gains[0]), mean(third));
}

Json SuiteTable::json() const {
  Json out = Json::array();
  for (const Line& line : lines_)
    out.push_back({{"name", line.name},
                   {"gain", line.gain},
                   {"noise", line.noise},
                   {"rules_gflops", line.rules_gflops},
                   {"tuned_gflops", line.tuned_gflops},
                   {"schedule", line.schedule}});
  return out;
}

}  // namespace tilewright::cli
