#include "compiler/fuse/match_backward.h"

#include <algorithm>
#include <set>

#include "compiler/fuse/backward_attempt.h"

namespace tilewright::fusion {
namespace {

bool includes(const std::vector<ValueId>& all, const std::vector<ValueId>& some) {
  return std::includes(all.begin(), all.end(), some.begin(), some.end());
}

/// Exits of the same products over the same axes.
struct Cluster {
  std::vector<const ScoreExit*> exits;
  std::vector<ValueId> products;
  bool nonlinear = false;
  std::vector<BackwardMatch> matches;  ///< one per generation of exits that do not read each other

  bool takes(const ScoreExit& exit, const std::vector<ValueId>& reached) const {
    const ScoreExit& mine = *exits[0];
    return mine.lead == exit.lead && mine.q_len == exit.q_len && mine.kv_len == exit.kv_len &&
           (includes(products, reached) || includes(reached, products));
  }
};

class Finder {
 public:
  Finder(const GraphFacts& facts, const std::vector<bool>& absorbed, bool lone_products)
      : facts_(facts),
        graph_(facts.graph),
        lone_products_(lone_products),
        reach_(score_reach(facts, absorbed)),
        exits_(score_exits(facts, absorbed, reach_)) {}

  BackwardSearch run() {
    gather();
    for (Cluster& cluster : clusters_)
      if (!read(cluster)) cluster.matches.clear();
    while (refuse_one()) {
    }
    for (Cluster& cluster : clusters_)
      for (BackwardMatch& match : cluster.matches) out_.matches.push_back(std::move(match));
    return std::move(out_);
  }

 private:
  const ScoreReach& reach(const ScoreExit& exit) const { return reach_[GraphFacts::at(exit.value)]; }

  static bool is_function(const ScoreReach& reach) { return reach.nonlinear || reach.products.size() > 1; }

  /// Exits that a backward pass can compute; the others need their value in memory.
  bool is_summed(const ScoreExit& exit) const {
    if (!is_function(reach(exit))) return false;
    if (exit.user == kNoValue) return true;
    const Node& user = graph_[exit.user];
    if (info(user.op).group == OpGroup::contract)
      return !is_function(reach_[GraphFacts::at(user.operands[1 - exit.operand])]);
    return user.op == Op::concat || (is_sum(user.op) && exit.operand == 0);
  }

  void gather() {
    for (const ScoreExit& exit : exits_) {
      const ScoreReach& from = reach(exit);
      if (!is_summed(exit)) continue;
      const auto fits = [&](const Cluster& cluster) { return cluster.takes(exit, from.products); };
      auto cluster = std::find_if(clusters_.begin(), clusters_.end(), fits);
      if (cluster == clusters_.end()) {
        clusters_.push_back({{}, from.products});
        cluster = clusters_.end() - 1;
      }
      cluster->exits.push_back(&exit);
      cluster->nonlinear = cluster->nonlinear || from.nonlinear;
      if (from.products.size() > cluster->products.size()) cluster->products = from.products;
    }
  }

  /// By exit: 1 + that of the latest exit whose sum it reads.
  std::vector<int> generations(const Cluster& cluster) const {
    std::vector<int> generation(cluster.exits.size(), 0);
    std::vector<int> upstream(graph_.nodes.size(), -1);
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      for (ValueId operand : graph_.nodes[i].operands)
        if (operand != kNoValue) upstream[i] = std::max(upstream[i], upstream[GraphFacts::at(operand)]);
      const int own = upstream[i] + 1;
      for (size_t k = 0; k < cluster.exits.size(); ++k)
        if (cluster.exits[k]->user == ValueId{static_cast<int32_t>(i)}) {
          generation[k] = own;
          upstream[i] = own;
        }
    }
    for (size_t k = 0; k < cluster.exits.size(); ++k)
      if (cluster.exits[k]->user == kNoValue) generation[k] = upstream[GraphFacts::at(cluster.exits[k]->value)] + 1;
    return generation;
  }

  bool read(Cluster& cluster) {
    if (!cluster.nonlinear) return false;
    const bool sums = std::any_of(cluster.exits.begin(), cluster.exits.end(),
                                  [&](const ScoreExit* exit) { return exit->user != kNoValue; });
    if (!sums || (!lone_products_ && cluster.exits.size() == 1 && cluster.products.size() == 1)) return false;
    const std::vector<int> generation = generations(cluster);
    const int last = *std::max_element(generation.begin(), generation.end());
    for (int g = 0; g <= last; ++g) {
      std::vector<const ScoreExit*> exits;
      for (size_t i = 0; i < cluster.exits.size(); ++i)
        if (generation[i] == g) exits.push_back(cluster.exits[i]);
      if (exits.empty()) continue;
      auto found = read(exits);
      if (const auto* note = std::get_if<FusionNote>(&found)) {
        out_.notes.emplace_back(exits[0]->value, *note);
        return false;
      }
      cluster.matches.push_back(std::get<BackwardMatch>(std::move(found)));
    }
    return looks_like_backward(cluster);
  }

  /// As in match_attention: more axes are head axes when the keys do not tell them apart.
  std::variant<BackwardMatch, FusionNote> read(const std::vector<const ScoreExit*>& exits) const {
    const size_t lead = exits[0]->lead.size();
    const size_t most = std::max<size_t>(std::min<size_t>(lead, 1), lead ? lead - 1 : 0);
    std::optional<std::variant<BackwardMatch, FusionNote>> first;
    for (size_t heads = std::min<size_t>(lead, 1); heads <= most; ++heads) {
      BackwardAttempt attempt(facts_, exits, heads);
      auto found = attempt.run();
      if (std::holds_alternative<BackwardMatch>(found) && attempt.keys_depend_on_heads()) return found;
      if (!first) first = std::move(found);
    }
    return std::move(*first);
  }

  /// Not a gated layer or attention without a normaliser: something is summed over queries, or over keys with the keys
  /// themselves, and keys are no weights that all batches share.
  bool looks_like_backward(const Cluster& cluster) const {
    return std::any_of(cluster.matches.begin(), cluster.matches.end(), [&](const BackwardMatch& match) {
      const BackwardSpec& spec = match.spec;
      const Node& dot = graph_[match.products[0]];
      if (dot.type.rank() == 2 && (spec.q_len.is_constant() || spec.kv_len.is_constant())) return false;
      for (ValueId operand : dot.operands)
        if (graph_.type(operand).rank() == 2 && dot.type.rank() > 2) return false;
      if (!spec.columns.empty()) return true;
      if (cluster.exits.size() == 1 && !spec.output_gradient) return false;
      return (match.sums && spec.output_gradient) ||
             std::any_of(spec.rows.begin(), spec.rows.end(),
                         [&](const BackwardProduct& row) { return row.operand.tensor == spec.dots[0].key.tensor; });
    });
  }

  /// Refuses a cluster that would recompute products whose scores have to exist in memory anyway, or that reads what
  /// depends on what it writes.
  bool refuse_one() {
    std::set<const ScoreExit*> taken;
    for (const Cluster& cluster : clusters_)
      if (!cluster.matches.empty()) taken.insert(cluster.exits.begin(), cluster.exits.end());
    for (Cluster& cluster : clusters_) {
      for (const BackwardMatch& match : cluster.matches) {
        const auto in_memory = std::find_if(exits_.begin(), exits_.end(), [&](const ScoreExit& exit) {
          const auto& reached = reach(exit).products;
          return !taken.count(&exit) && std::any_of(match.products.begin(), match.products.end(), [&](ValueId dot) {
            return std::binary_search(reached.begin(), reached.end(), dot);
          });
        });
        if (in_memory != exits_.end())
          return refuse(cluster, in_memory->user == kNoValue ? in_memory->value : in_memory->user,
                        fmt::format("reads the scores %{} from memory, so that the backward pass does, too",
                                    graph_[in_memory->value].name));
        if (const ValueId output = cyclic_output(match); output != kNoValue)
          return refuse(cluster, output, "what the same backward pass reads depends on it");
      }
    }
    return false;
  }

  bool refuse(Cluster& cluster, ValueId value, std::string reason) {
    out_.notes.emplace_back(value, FusionNote{graph_[value].name, graph_[value].line, std::move(reason)});
    cluster.matches.clear();
    return true;
  }

  /// An output that an input depends on, with all accepted matches run as whole steps.
  ValueId cyclic_output(const BackwardMatch& match) const {
    std::vector<bool> seen(graph_.nodes.size(), false);
    std::vector<ValueId> stack;
    const auto push_inputs = [&](const BackwardMatch& of) {
      for (size_t i = 0; i < of.tensors.size(); ++i)
        if (!of.spec.tensors[i].output) stack.push_back(of.tensors[i]);
    };
    const auto writes = [](const BackwardMatch& of, ValueId value) {
      for (size_t i = 0; i < of.tensors.size(); ++i)
        if (of.spec.tensors[i].output && of.tensors[i] == value) return true;
      return false;
    };
    push_inputs(match);
    while (!stack.empty()) {
      const ValueId id = stack.back();
      stack.pop_back();
      if (id == kNoValue || seen[GraphFacts::at(id)]) continue;
      seen[GraphFacts::at(id)] = true;
      if (writes(match, id)) return id;
      const BackwardMatch* writer = nullptr;
      for (const Cluster& cluster : clusters_)
        for (const BackwardMatch& other : cluster.matches)
          if (writes(other, id)) writer = &other;
      if (writer)
        push_inputs(*writer);
      else
        stack.insert(stack.end(), graph_[id].operands.begin(), graph_[id].operands.end());
    }
    return kNoValue;
  }

  const GraphFacts& facts_;
  const Graph& graph_;
  const bool lone_products_;
  const std::vector<ScoreReach> reach_;
  const std::vector<ScoreExit> exits_;
  std::vector<Cluster> clusters_;
  BackwardSearch out_;
};

}  // namespace

BackwardSearch find_backward(const GraphFacts& facts, const std::vector<bool>& absorbed, bool lone_products) {
  return Finder(facts, absorbed, lone_products).run();
}

}  // namespace tilewright::fusion
