#include "compiler/fuse/row_region.h"

#include <algorithm>

#include "compiler/fuse/epilogue.h"

namespace tilewright::fusion {
namespace {

class RegionWalk {
 public:
  RegionWalk(const GraphFacts& facts, ValueId product, const std::vector<ValueId>& path)
      : facts_(facts), graph_(facts.graph), product_(product), path_(path), epilogue_(facts.graph.nodes.size(), false) {
    out_.absorbed.assign(graph_.nodes.size(), false);
    out_.in_memory.assign(graph_.nodes.size(), false);
  }

  RowRegion run() {
    mark_epilogues();
    collect(path_.back());
    bool along_row = false;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      along_row = along_row || (out_.absorbed[i] && is_float(node.type.dtype) &&
                                (node.op == Op::concat || info(node.op).group == OpGroup::reduce));
    }
    // Users come after what they use, so that a value that stays in memory takes what it is made of along.
    for (size_t i = graph_.nodes.size(); i-- > 0;) {
      const ValueId id{static_cast<int32_t>(i)};
      if (!out_.absorbed[i] || is_repeatable(id)) continue;
      if (is_read_elsewhere(id)) out_.absorbed[i] = false;
    }
    if (!path_is_private()) out_.absorbed.assign(graph_.nodes.size(), false);
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      const bool works = !facts_.cheap[i] && !is_simple_view(node.op) && !is_float_cast(graph_, node) &&
                         node.op != Op::load && info(node.op).group != OpGroup::leaf && is_float(node.type.dtype);
      if (out_.absorbed[i] && works) out_.has_work = true;
      out_.in_memory[i] = seen_work_[i] && !out_.absorbed[i];
    }
    if (!along_row) out_.shared = kNoValue;
    return std::move(out_);
  }

 private:
  /// Products compute their epilogues; a row starts behind those.
  void mark_epilogues() {
    const std::vector<bool> none(graph_.nodes.size(), false);
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (info(graph_.nodes[i].op).group != OpGroup::contract) continue;
      const auto epilogue = find_epilogue(facts_, ValueId{static_cast<int32_t>(i)}, none, none);
      for (size_t value = 0; epilogue && value < none.size(); ++value)
        epilogue_[value] = epilogue_[value] || epilogue->members[value];
    }
    seen_work_ = epilogue_;
  }

  void collect(ValueId id) {
    const size_t i = GraphFacts::at(id);
    const Node& node = graph_[id];
    if (out_.absorbed[i] || facts_.stored[i] || epilogue_[i] || node.op == Op::param) return;
    const OpGroup group = info(node.op).group;
    const bool sum = node.op == Op::reduce_sum || node.op == Op::reduce_mean;
    if (group != OpGroup::leaf && group != OpGroup::pointwise && group != OpGroup::view && !sum) return;
    out_.absorbed[i] = true;
    if (group == OpGroup::pointwise) seen_work_[i] = !facts_.cheap[i] && !is_repeatable(id);
    for (ValueId operand : node.operands)
      if (operand != kNoValue) collect(operand);
  }

  /// Rows of a table at cheap positions: several readers each load them.
  bool is_repeatable(ValueId id) const {
    if (facts_.cheap[GraphFacts::at(id)]) return true;
    const Node& node = graph_[id];
    if (node.op == Op::param) return true;
    const bool table = node.op == Op::load || is_simple_view(node.op) || is_integer(node.type.dtype);
    if (!table || info(node.op).group == OpGroup::reduce || info(node.op).group == OpGroup::contract) return false;
    return std::all_of(node.operands.begin(), node.operands.end(), [&](ValueId x) { return is_repeatable(x); });
  }

  bool is_path(ValueId id) const { return std::find(path_.begin(), path_.end(), id) != path_.end(); }

  bool is_read_elsewhere(ValueId id) {
    const size_t i = GraphFacts::at(id);
    const auto elsewhere = [&](ValueId user) {
      return user != product_ && !out_.absorbed[GraphFacts::at(user)] && !is_path(user);
    };
    const auto& users = facts_.users[i];
    const auto other = std::find_if(users.begin(), users.end(), elsewhere);
    if (other == users.end() && facts_.result_uses[i] == 0) return false;
    if (out_.shared == kNoValue) {
      out_.shared = id;
      out_.other = other == users.end() ? kNoValue : *other;
    }
    return true;
  }

  bool path_is_private() {
    return std::none_of(path_.begin(), path_.end(), [&](ValueId id) { return is_read_elsewhere(id); });
  }

  const GraphFacts& facts_;
  const Graph& graph_;
  const ValueId product_;
  const std::vector<ValueId>& path_;
  std::vector<bool> epilogue_, seen_work_;
  RowRegion out_;
};

}  // namespace

RowRegion find_row_region(const GraphFacts& facts, ValueId product, const std::vector<ValueId>& path) {
  return RegionWalk(facts, product, path).run();
}

}  // namespace tilewright::fusion
