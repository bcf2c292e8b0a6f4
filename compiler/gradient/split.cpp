#include "compiler/gradient/split.h"

#include <algorithm>
#include <map>
#include <set>

#include "ir/bind.h"

namespace tilewright::grad {
namespace {

size_t at(ValueId id) { return static_cast<size_t>(raw(id)); }

/// Appends nodes to a graph. Of several that want the same name the last one gets it, the others get a suffix.
class Appender {
 public:
  explicit Appender(Graph& graph) : graph_(graph), stems_(graph.nodes.size()) {
    for (const Node& node : graph.nodes) names_.insert(node.name);
  }

  ValueId add(Node node, const std::string& stem) {
    node.line = 0;
    node.name.clear();
    const ValueId id{static_cast<int32_t>(graph_.nodes.size())};
    if (node.op == Op::param) graph_.params.push_back(id);
    graph_.nodes.push_back(std::move(node));
    stems_.push_back(stem);
    return id;
  }

  ValueId add(Op op, ValueId operand, Attributes attributes, const TensorType& declared, const std::string& stem) {
    Node node;
    node.op = op;
    node.operands = {operand};
    node.attributes = std::move(attributes);
    auto type = infer_type(graph_, node, declared);
    TW_CHECK(type.ok());
    node.type = std::move(*type);
    return add(std::move(node), stem);
  }

  void name(ValueId id, const std::string& stem) {
    std::string name = stem;
    for (int i = 1; !names_.insert(name).second; ++i) name = fmt::format("{}_{}", stem, i);
    graph_[id].name = std::move(name);
  }

  /// Names what has none; inline constants stay without.
  void name_all() {
    for (size_t i = graph_.nodes.size(); i-- > 0;)
      if (graph_.nodes[i].name.empty() && graph_.nodes[i].op != Op::constant)
        name(ValueId{static_cast<int32_t>(i)}, stems_[i]);
  }

 private:
  Graph& graph_;
  std::set<std::string> names_;
  std::vector<std::string> stems_;
};

class Splitter {
 public:
  Splitter(const JointGraph& joint, const Graph& given, const ScoreProducts& scores, bool recompute)
      : joint_(joint), given_(given), scores_(scores), recompute_(recompute) {
    const Graph& g = joint.graph();
    images_.assign(g.nodes.size(), kNoValue);
    for (size_t i = given.nodes.size(); i-- > 0;) {
      const ValueId to = joint.moved(ValueId{static_cast<int32_t>(i)});
      if (to != kNoValue) images_[at(to)] = ValueId{static_cast<int32_t>(i)};
    }
    for (ValueId result : given.results) images_[at(joint.moved(result))] = result;
    // Results of the forward are there for nothing.
    for (ValueId result : joint.results()) stored_.emplace(result, result);
    for (size_t i = 0; i < joint.forward_size(); ++i) {
      const ValueId id{static_cast<int32_t>(i)};
      if (!is_kept_product(id)) continue;
      const ValueId form = stored_form(id);
      stored_.emplace(id, form);
      stored_.emplace(form, form);
    }
    on_gradients_.assign(g.nodes.size(), false);
  }

  Gradient run(const std::vector<ValueId>& gradients_in, const std::vector<BackwardResult>& results) {
    for (ValueId id : gradients_in) on_gradients_[at(id)] = true;
    for (size_t i = joint_.forward_size(); i < on_gradients_.size(); ++i)
      for (ValueId operand : joint_.graph().nodes[i].operands)
        if (operand != kNoValue && on_gradients_[at(operand)]) on_gradients_[i] = true;
    mark_live(results);
    Gradient out;
    out.forward = given_;
    save(out);
    out.backward.name = given_.name + "_backward";
    out.backward.precision = given_.precision;
    Appender append(out.backward);
    copy_params(append, out.saved, gradients_in, results);
    copy_nodes(append);
    add_results(append, out.backward, results);
    append.name_all();
    return out;
  }

 private:
  /// The value that backward reads in place of `id`: itself, or the end of a chain of views and casts that is a result
  /// of the forward; kNoValue when `id` is computed again.
  ValueId store(ValueId id) const {
    const Node& node = joint_[id];
    if (recompute_ || node.op == Op::param || node.op == Op::constant || on_gradients_[at(id)]) return kNoValue;
    // An extremum is computed again with its operand, so that it is equal to an element of it to the bit.
    if (node.op == Op::reduce_max || node.op == Op::reduce_min) return kNoValue;
    if (auto known = stored_.find(id); known != stored_.end()) return known->second;
    return node.op == Op::logsumexp ? id : kNoValue;
  }

  bool is_kept_product(ValueId id) const {
    return joint_.live(id) && info(joint_[id].op).group == OpGroup::contract && !scores_.is_score[at(id)];
  }

  /// Where a product is kept. Its readers alone decide in which form it exists in memory: a result of the graph that is
  /// views and casts of it; else what a single narrowing makes of it; an attention's output as the next layer reads it.
  ValueId stored_form(ValueId product) const {
    const bool is_attention = scores_.from_weights[at(joint_[product].operands[0])];
    ValueId form = product;
    bool extends = true;
    for (ValueId x = product; joint_.users(x).size() == 1;) {
      x = joint_.users(x)[0];
      const Node& user = joint_[x];
      const bool cast = is_float_cast(user), view = user.op == Op::transpose || user.op == Op::reshape;
      if (!cast && !view) break;
      if (joint_.is_result(x)) return x;
      const bool widens = size_of(user.type.dtype) > size_of(joint_.type(user.operands[0]).dtype);
      extends = extends && !widens && (cast || is_attention);
      if (extends) form = x;
    }
    return form;
  }

  bool is_float_cast(const Node& node) const { return node.op == Op::cast && is_view_or_cast(joint_.graph(), node); }

  void mark_live(const std::vector<BackwardResult>& results) {
    live_.assign(joint_.graph().nodes.size(), false);
    for (const BackwardResult& result : results) live_[at(result.value)] = true;
    for (size_t i = live_.size(); i-- > 0;) {
      if (!live_[i]) continue;
      const ValueId id{static_cast<int32_t>(i)};
      if (const ValueId stored = store(id); stored != kNoValue) {
        reads_.insert(stored);
        continue;
      }
      for (ValueId operand : joint_[id].operands)
        if (operand != kNoValue) live_[at(operand)] = true;
    }
  }

  /// The value in the given graph; one that is not there is appended.
  ValueId image(Graph& forward, Appender& append, ValueId id) {
    if (images_[at(id)] != kNoValue) return images_[at(id)];
    Node node = joint_[id];
    for (ValueId& operand : node.operands)
      if (operand != kNoValue) operand = image(forward, append, operand);
    return images_[at(id)] = append.add(std::move(node), joint_[id].op == Op::constant ? "" : joint_.stem(id));
  }

  void save(Gradient& out) {
    Graph& forward = out.forward;
    Appender append(forward);
    for (ValueId id : reads_) {
      const ValueId there = image(forward, append, id);
      if (std::find(forward.results.begin(), forward.results.end(), there) == forward.results.end())
        forward.results.push_back(there);
    }
    append.name_all();
    for (ValueId there : forward.results)
      for (ValueId id : reads_)
        if (images_[at(id)] == there && !saved_.count(id)) {
          saved_.emplace(id, kNoValue);
          order_.push_back(id);
          out.saved.push_back(forward[there].name);
        }
  }

  void copy_params(Appender& append, const std::vector<std::string>& saved, const std::vector<ValueId>& gradients_in,
                   const std::vector<BackwardResult>& results) {
    std::vector<TensorType> types;
    std::set<std::string> needed;
    const auto need = [&](const Dim& dim) {
      for (const auto& [name, coefficient] : dim.terms()) needed.insert(name);
    };
    for (size_t i = 0; i < live_.size(); ++i) {
      const Node& node = joint_.graph().nodes[i];
      if (!live_[i]) continue;
      for (const Dim& dim : node.type.shape) need(dim);
      for (const Dim& dim : {node.attributes.dim, node.attributes.begin, node.attributes.end}) need(dim);
    }
    for (const BackwardResult& result : results)
      for (const Dim& dim : joint_.shape(result.value)) need(dim);
    for (ValueId id : order_) types.push_back(joint_.type(id));
    for (ValueId id : gradients_in) types.push_back(joint_.type(id));
    // Params that backward reads, and those without which a dim would have no size.
    const std::vector<ValueId>& params = joint_.graph().params;
    const size_t own = given_.params.size();
    std::vector<bool> wanted(own, false);
    for (size_t i = 0; i < own; ++i)
      if ((wanted[i] = live_[at(params[i])])) types.push_back(joint_.type(params[i]));
    for (size_t i = 0; i < own; ++i) {
      if (wanted[i] || !lacks_size(types, needed, joint_.shape(params[i]))) continue;
      wanted[i] = true;
      types.push_back(joint_.type(params[i]));
      i = static_cast<size_t>(-1);  // it may bring a name that another param solves
    }
    const auto add = [&](ValueId id, const std::string& name) {
      Node node;
      node.type = joint_.type(id);
      const ValueId param = append.add(std::move(node), name);
      append.name(param, name);
      return param;
    };
    moved_.assign(live_.size(), kNoValue);
    for (size_t i = 0; i < own; ++i)
      if (wanted[i]) moved_[at(params[i])] = add(params[i], joint_[params[i]].name);
    for (size_t i = 0; i < order_.size(); ++i) saved_[order_[i]] = add(order_[i], saved[i]);
    for (ValueId id : gradients_in) moved_[at(id)] = add(id, joint_.stem(id));
  }

  /// True when a needed dim, or one of a known type, has no size yet and occurs in `shape`.
  static bool lacks_size(const std::vector<TensorType>& types, const std::set<std::string>& needed,
                         const Shape& shape) {
    std::set<std::string> missing = needed;
    for (const TensorType& type : types)
      for (const Dim& dim : type.shape)
        for (const auto& [name, coefficient] : dim.terms()) missing.erase(name);
    for (const std::string& name : unsolvable_dims(types)) missing.insert(name);
    for (const Dim& dim : shape)
      for (const auto& [name, coefficient] : dim.terms())
        if (missing.count(name)) return true;
    return false;
  }

  void copy_nodes(Appender& append) {
    for (size_t i = 0; i < live_.size(); ++i) {
      const ValueId id{static_cast<int32_t>(i)};
      if (!live_[i] || moved_[i] != kNoValue) continue;
      if (const ValueId stored = store(id); stored != kNoValue) {
        moved_[i] = undo_views(append, id, stored);
        continue;
      }
      Node node = joint_[id];
      for (ValueId& operand : node.operands)
        if (operand != kNoValue) operand = moved_[at(operand)];
      moved_[i] = append.add(std::move(node), joint_.stem(id));
    }
  }

  /// `id` from the result `stored` that a chain of views and casts made of it.
  ValueId undo_views(Appender& append, ValueId id, ValueId stored) {
    std::vector<ValueId> chain;
    for (ValueId x = stored; x != id; x = joint_[x].operands[0]) chain.push_back(x);
    ValueId value = saved_.at(stored);
    for (ValueId x : chain) {
      const Node& node = joint_[x];
      const TensorType& before = joint_.type(node.operands[0]);
      Attributes inverse;
      inverse.perm.resize(node.attributes.perm.size());
      for (size_t i = 0; i < node.attributes.perm.size(); ++i)
        inverse.perm[static_cast<size_t>(node.attributes.perm[i])] = static_cast<int64_t>(i);
      value = append.add(node.op, value, std::move(inverse), before, joint_.stem(id));
    }
    return value;
  }

  /// Each result is a value of its own, called d_<param>.
  void add_results(Appender& append, Graph& backward, const std::vector<BackwardResult>& results) {
    for (const BackwardResult& result : results) {
      ValueId value = moved_[at(result.value)];
      const Node& node = backward[value];
      if (node.op == Op::constant || !node.name.empty()) value = append.add(Op::reshape, value, {}, node.type, "");
      append.name(value, result.name);
      backward.results.push_back(value);
    }
  }

  const JointGraph& joint_;
  const Graph& given_;
  const ScoreProducts& scores_;
  const bool recompute_;
  std::vector<ValueId> images_;            ///< joint → forward
  std::map<ValueId, ValueId> stored_;      ///< joint → what is read in its place
  std::vector<bool> on_gradients_, live_;  ///< by joint node
  std::set<ValueId> reads_;                ///< joint values that the forward returns
  std::map<ValueId, ValueId> saved_;       ///< of these, the backward's param
  std::vector<ValueId> order_;             ///< of saved_
  std::vector<ValueId> moved_;             ///< joint → backward
};

}  // namespace

Gradient split(const JointGraph& joint, const Graph& given, const ScoreProducts& scores,
               const std::vector<ValueId>& gradients_in, const std::vector<BackwardResult>& results, bool recompute) {
  return Splitter(joint, given, scores, recompute).run(gradients_in, results);
}

}  // namespace tilewright::grad
