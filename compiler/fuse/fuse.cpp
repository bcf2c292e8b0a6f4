#include <algorithm>

#include "compiler/arithmetic.h"
#include "compiler/fuse/match_attention.h"
#include "compiler/fuse/match_backward.h"
#include "compiler/fuse/program_builder.h"
#include "compiler/passes.h"

namespace tilewright {
namespace fusion {
namespace {

/// Everything in the graph that is attention, and why the rest is not.
class Search {
 public:
  explicit Search(GraphFacts& facts)
      : facts_(facts), graph_(facts.graph), claimed_(facts.graph.nodes.size(), false), absorbed_(claimed_) {}

  /// `normalised`: products behind a softmax; otherwise those behind other functions of a product.
  void run(bool normalised) {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const ValueId pv{static_cast<int32_t>(i)};
      if (info(graph_[pv].op).group != OpGroup::contract || claimed_[i]) continue;
      const auto weights = find_weights(facts_, pv);
      if (!weights || (weights->softmax != kNoValue) != normalised) continue;
      auto found = match_attention(facts_, pv, *weights);
      auto* match = std::get_if<AttentionMatch>(&found);
      if (weights->shared && (!match || match->spec.keep.is_constant_true())) continue;
      if (match)
        take(pv, std::move(*match));
      else
        notes_.emplace_back(normalised ? weights->softmax : pv, std::get<FusionNote>(std::move(found)));
    }
  }

  /// `lone_products`: see find_backward.
  void run_backward(bool lone_products) {
    BackwardSearch found = find_backward(facts_, absorbed_, lone_products);
    for (auto& note : found.notes) notes_.push_back(std::move(note));
    for (BackwardMatch& match : found.matches) {
      for (ValueId product : match.products) claimed_[GraphFacts::at(product)] = true;
      for (ValueId user : match.users) claimed_[GraphFacts::at(user)] = absorbed_[GraphFacts::at(user)] = true;
      for (size_t i = 0; i < match.tensors.size(); ++i)
        if (match.spec.tensors[i].output) facts_.stored[GraphFacts::at(match.tensors[i])] = true;
      fused_.push_back({BackwardStep{std::move(match.spec)}, std::move(match.tensors)});
    }
  }

  std::vector<FusedStep>& fused() { return fused_; }
  std::vector<FusionNote>& kept_rows() { return kept_rows_; }

  /// Of the products that are not attention. What an attention reads stays in memory.
  std::vector<Epilogue> epilogues() {
    std::vector<bool> claimed = claimed_, read(claimed_.size(), false);
    for (const FusedStep& fused : fused_)
      for (ValueId tensor : fused.tensors) read[GraphFacts::at(tensor)] = true;
    std::vector<Epilogue> found;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (info(graph_.nodes[i].op).group != OpGroup::contract) continue;
      auto epilogue = find_epilogue(facts_, ValueId{static_cast<int32_t>(i)}, claimed, read);
      if (!epilogue) continue;
      for (size_t value = 0; value < claimed.size(); ++value)
        claimed[value] = claimed[value] || epilogue->members[value];
      facts_.stored[GraphFacts::at(epilogue->output)] = true;
      found.push_back(std::move(*epilogue));
    }
    return found;
  }

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
    for (ValueId id : {pv, match.weights, match.logsumexp_node})
      if (id != kNoValue) claimed_[GraphFacts::at(id)] = absorbed_[GraphFacts::at(id)] = true;
    facts_.stored[GraphFacts::at(match.output)] = true;
    if (match.logsumexp != kNoValue) facts_.stored[GraphFacts::at(match.logsumexp)] = true;
    for (ValueId product : match.products) claimed_[GraphFacts::at(product)] = true;
    for (FusionNote& note : match.kept_rows) kept_rows_.push_back(std::move(note));
    fused_.push_back({AttentionStep{std::move(match.spec)}, std::move(match.tensors)});
  }

  GraphFacts& facts_;
  const Graph& graph_;
  std::vector<bool> claimed_;
  std::vector<bool> absorbed_;  ///< products, softmaxes and LSEs that fused steps compute
  std::vector<FusedStep> fused_;
  std::vector<std::pair<ValueId, FusionNote>> notes_;
  std::vector<FusionNote> kept_rows_;
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
  search.run_backward(false);
  search.run(false);
  search.run_backward(true);
  for (fusion::FusedStep& fused : search.fused()) {
    const auto output = std::find_if(fused.spec_tensors().begin(), fused.spec_tensors().end(),
                                     [](const SpecTensor& tensor) { return tensor.output; });
    const bool only = search.fused().size() == 1;
    const std::string name = only ? canonical.name : canonical.name + "_" + output->name;
    const auto complete = [&](auto& spec) {
      spec.name = name;
      if (multiplies_f32(spec)) spec.precision = canonical.precision.value_or(PrecisionPolicy::f32);
      analyze_mask(spec);
    };
    if (auto* attention = std::get_if<AttentionStep>(&fused.what))
      complete(attention->spec);
    else
      complete(std::get<BackwardStep>(fused.what).spec);
  }
  const std::vector<fusion::Epilogue> epilogues = search.epilogues();
  auto program = fusion::ProgramBuilder(facts, search.fused(), epilogues).build();
  if (!program) return program;
  program->not_fused = search.notes();
  program->kept_rows = std::move(search.kept_rows());
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
  auto program = fusion::ProgramBuilder(facts, {}, {}).build();
  if (program) program->graph_ops = fusion::count_ops(canonical);
  return program;
}

}  // namespace tilewright
