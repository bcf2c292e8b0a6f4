#include <algorithm>

#include "compiler/fuse/program_builder.h"
#include "compiler/passes.h"

namespace tilewright {
namespace fusion {
namespace {

/// Everything in the graph that is attention, and why the rest is not.
class Search {
 public:
  explicit Search(GraphFacts& facts) : facts_(facts), graph_(facts.graph), claimed_(facts.graph.nodes.size(), false) {}

  /// `normalised`: products behind a softmax; otherwise those behind other functions of a product.
  void run(bool normalised) {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const ValueId pv{static_cast<int32_t>(i)};
      if (info(graph_[pv].op).group != OpGroup::contract || claimed_[i]) continue;
      const auto weights = find_weights(facts_, pv);
      if (!weights || (weights->softmax != kNoValue) != normalised) continue;
      auto found = match_attention(facts_, pv, *weights);
      if (auto* match = std::get_if<AttentionMatch>(&found))
        take(pv, std::move(*match));
      else
        notes_.emplace_back(normalised ? weights->softmax : pv, std::get<FusionNote>(std::move(found)));
    }
  }

  std::vector<AttentionMatch>& matches() { return matches_; }

  /// In the graph's order; a softmax that no product takes is noted, too.
  std::vector<FusionNote> notes() {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const ValueId id{static_cast<int32_t>(i)};
      if (graph_[id].op != Op::softmax || claimed_[i]) continue;
      if (std::any_of(notes_.begin(), notes_.end(), [&](const auto& note) { return note.first == id; })) continue;
      notes_.emplace_back(id, FusionNote{graph_[id].name, graph_[id].line,
                                         "no product with V takes this softmax directly as its weights"});
    }
    std::stable_sort(notes_.begin(), notes_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<FusionNote> out;
    for (auto& [id, note] : notes_) {
      const auto same = [&note = note](const FusionNote& n) {
        return n.value == note.value && n.reason == note.reason;
      };
      if (std::none_of(out.begin(), out.end(), same)) out.push_back(std::move(note));
    }
    return out;
  }

 private:
  void take(ValueId pv, AttentionMatch match) {
    claimed_[GraphFacts::at(pv)] = true;
    claimed_[GraphFacts::at(match.weights)] = true;
    facts_.stored[GraphFacts::at(match.output)] = true;
    if (match.logsumexp != kNoValue) facts_.stored[GraphFacts::at(match.logsumexp)] = true;
    for (ValueId product : match.products) claimed_[GraphFacts::at(product)] = true;
    matches_.push_back(std::move(match));
  }

  GraphFacts& facts_;
  const Graph& graph_;
  std::vector<bool> claimed_;
  std::vector<AttentionMatch> matches_;
  std::vector<std::pair<ValueId, FusionNote>> notes_;
};

int count_ops(const Graph& graph) {
  int count = 0;
  for (const Node& node : graph.nodes) count += node.op != Op::param && node.op != Op::constant;
  return count;
}

bool has_sugar(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(),
                     [](const Node& node) { return info(node.op).group == OpGroup::sugar; });
}

}  // namespace
}  // namespace fusion

Result<Program> fuse(const Graph& canonical) {
  if (fusion::has_sugar(canonical)) {
    auto expanded = canonicalize(canonical);
    if (!expanded) return expanded.error();
    return fuse(*expanded);
  }
  fusion::GraphFacts facts(canonical);
  fusion::Search search(facts);
  search.run(true);
  search.run(false);
  for (fusion::AttentionMatch& match : search.matches()) {
    const bool only = search.matches().size() == 1;
    match.spec.name = only ? canonical.name : canonical.name + "_" + canonical[match.output].name;
    analyze_mask(match.spec);
  }
  auto program = fusion::ProgramBuilder(facts, search.matches()).build();
  if (!program) return program;
  program->not_fused = search.notes();
  program->graph_ops = fusion::count_ops(canonical);
  return program;
}

Result<Program> lower_unfused(const Graph& canonical) {
  if (fusion::has_sugar(canonical)) {
    auto expanded = canonicalize(canonical);
    if (!expanded) return expanded.error();
    return lower_unfused(*expanded);
  }
  fusion::GraphFacts facts(canonical);
  auto program = fusion::ProgramBuilder(facts, {}).build();
  if (program) program->graph_ops = fusion::count_ops(canonical);
  return program;
}

}  // namespace tilewright
