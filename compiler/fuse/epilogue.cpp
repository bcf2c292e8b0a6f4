#include "compiler/fuse/epilogue.h"

#include <algorithm>

namespace tilewright::fusion {
namespace {

constexpr size_t kMostOps = 64;

bool contains(const std::vector<ValueId>& values, ValueId id) {
  return std::find(values.begin(), values.end(), id) != values.end();
}

/// Grows from the product towards its readers.
class Growth {
 public:
  Growth(const GraphFacts& facts, ValueId contract, const std::vector<bool>& claimed, const std::vector<bool>& read)
      : facts_(facts), graph_(facts.graph), claimed_(claimed), read_(read), region_{contract} {}

  std::optional<Epilogue> run() {
    size_t best = 1;
    while (region_.size() <= kMostOps) {
      const std::vector<ValueId> open = open_values();
      if (open.size() == 1 && is_float(graph_.type(open[0]).dtype)) best = region_.size(), output_ = open[0];
      const bool needed = std::any_of(open.begin(), open.end(), [&](ValueId id) { return is_needed(id); });
      const ValueId next = needed ? kNoValue : next_reader(open);
      if (next == kNoValue || !joins(next)) break;
      region_.push_back(next);
    }
    if (best == 1) return std::nullopt;
    Epilogue found{region_[0], output_, std::vector<bool>(graph_.nodes.size(), false)};
    for (size_t i = 1; i < best; ++i) found.members[GraphFacts::at(region_[i])] = true;
    return found;
  }

 private:
  /// Must be in memory whatever happens.
  bool is_needed(ValueId id) const { return facts_.result_uses[GraphFacts::at(id)] > 0 || read_[GraphFacts::at(id)]; }

  std::vector<ValueId> open_values() const {
    std::vector<ValueId> open;
    for (ValueId id : region_) {
      const auto& users = facts_.users[GraphFacts::at(id)];
      const bool read = std::any_of(users.begin(), users.end(), [&](ValueId user) { return !contains(region_, user); });
      if (read || is_needed(id)) open.push_back(id);
    }
    return open;
  }

  /// The first one in the graph's order, so that whatever else it reads of the region has joined before.
  ValueId next_reader(const std::vector<ValueId>& open) const {
    ValueId next = kNoValue;
    for (ValueId id : open)
      for (ValueId user : facts_.users[GraphFacts::at(id)])
        if (!contains(region_, user) && (next == kNoValue || raw(user) < raw(next))) next = user;
    return next;
  }

  bool joins(ValueId id) const {
    const Node& node = graph_[id];
    return info(node.op).group == OpGroup::pointwise && node.op != Op::load && !facts_.stored[GraphFacts::at(id)] &&
           !claimed_[GraphFacts::at(id)] && node.type.shape == graph_.type(region_[0]).shape;
  }

  const GraphFacts& facts_;
  const Graph& graph_;
  const std::vector<bool>&claimed_, &read_;
  std::vector<ValueId> region_;
  ValueId output_ = kNoValue;
};

}  // namespace

std::optional<Epilogue> find_epilogue(const GraphFacts& facts, ValueId contract, const std::vector<bool>& claimed,
                                      const std::vector<bool>& read) {
  if (claimed[GraphFacts::at(contract)] || facts.stored[GraphFacts::at(contract)]) return std::nullopt;
  return Growth(facts, contract, claimed, read).run();
}

}  // namespace tilewright::fusion
