#include <algorithm>
#include <map>
#include <set>

#include "ir/bind.h"
#include "ir/lexer.h"
#include "ir/verify.h"

namespace tilewright {
namespace {

class GraphVerifier {
 public:
  explicit GraphVerifier(const Graph& graph) : graph_(graph) {}

  Diagnostics run() {
    if (!is_name(graph_.name))
      errors_.error("the graph's name \"{}\" is not made of letters, digits, _ and .", graph_.name);
    for (size_t i = 0; i < graph_.nodes.size(); ++i) check_node(i);
    check_params();
    check_dim_names();
    check_results();
    check_updates();
    return std::move(errors_);
  }

 private:
  void complain(const Node& node, std::string message) {
    errors_.add({ErrorKind::invalid, std::move(message), node.name, node.line});
  }

  void check_node(size_t i) {
    const Node& node = graph_.nodes[i];
    check_name(node);
    for (size_t k = 0; k < node.operands.size(); ++k) {
      const int32_t id = raw(node.operands[k]);
      if (id == raw(kNoValue) || (id >= 0 && static_cast<size_t>(id) < i)) continue;
      return complain(node, fmt::format("{}: operand {} is not defined before it is used", info(node.op).name, k));
    }
    const auto type = infer_type(graph_, node, node.type);
    if (!type) {
      for (Diagnostic why : type.error().list) {
        why.value = node.name;
        why.line = node.line;
        errors_.add(std::move(why));
      }
    } else if (*type != node.type) {
      complain(node, fmt::format("{} gives {}, but it is annotated {}", info(node.op).name, to_string(*type),
                                 to_string(node.type)));
    }
  }

  void check_name(const Node& node) {
    if (node.name.empty()) {
      if (node.op != Op::constant) complain(node, fmt::format("a value of op {} has no name", info(node.op).name));
      return;
    }
    if (!is_name(node.name)) complain(node, "the name is not made of letters, digits, _ and .");
    const auto [first, fresh] = names_.emplace(node.name, node.line);
    if (fresh) return;
    complain(node, first->second > 0 ? fmt::format("the name is taken: it is defined on line {}", first->second)
                                     : "the name is taken by another value");
  }

  void check_params() {
    std::set<int32_t> listed;
    for (const ValueId id : graph_.params) {
      if (!exists(id) || graph_[id].op != Op::param)
        errors_.error("the signature lists value {}, which is not a param", raw(id));
      else if (!listed.insert(raw(id)).second)
        complain(graph_[id], "the signature lists this param twice");
    }
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      if (node.op == Op::param && !listed.count(static_cast<int32_t>(i)))
        complain(node, "this param is missing in the signature");
      if (node.op != Op::param && node.inout) complain(node, "only a param can be inout");
    }
  }

  /// Names must be solvable from the params' shapes, because binding has nothing else to go by.
  void check_dim_names() {
    std::vector<TensorType> types;
    std::set<std::string> known;
    for (const ValueId id : graph_.params) {
      if (!exists(id)) continue;
      types.push_back(graph_.type(id));
      for (const Dim& dim : graph_.type(id).shape)
        for (const auto& [name, coefficient] : dim.terms()) known.insert(name);
    }
    for (const std::string& name : unsolvable_dims(types))
      errors_.error("dim {} cannot be determined: no param has an axis from which it follows", name);
    std::set<std::string> reported;
    for (const Node& node : graph_.nodes) {
      const Attributes& at = node.attributes;
      std::vector<Dim> dims = node.type.shape;
      if (node.op == Op::slice) dims.insert(dims.end(), {at.begin, at.end});
      if (node.op == Op::dim) dims.push_back(at.dim);
      for (const Dim& dim : dims)
        for (const auto& [name, coefficient] : dim.terms())
          if (!known.count(name) && reported.insert(name).second)
            complain(node, fmt::format("dim {} is in no param's shape, so that its size is unknown", name));
    }
  }

  void check_results() {
    if (graph_.results.empty()) errors_.error("graph @{} returns nothing", graph_.name);
    for (const ValueId id : graph_.results) {
      if (!exists(id))
        errors_.error("graph @{} returns value {}, which does not exist", graph_.name, raw(id));
      else if (graph_[id].op == Op::constant && graph_[id].name.empty())
        errors_.error("graph @{} returns a literal; return a named value", graph_.name);
    }
  }

  /// An inout param is overwritten by the update that takes it: nothing may read the rows as they were before.
  void check_updates() {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const ValueId id{static_cast<int32_t>(i)};
      if (!updates_in_place(graph_, id)) continue;
      const ValueId before = graph_.nodes[i].operands[0];
      const auto reads = [&](const Node& node) {
        return static_cast<size_t>(std::count(node.operands.begin(), node.operands.end(), before));
      };
      for (const Node& node : graph_.nodes)
        if (reads(node) > (&node == &graph_.nodes[i] ? 1 : 0))
          complain(node, fmt::format("reads %{}, which %{} overwrites in place; read %{} instead", graph_[before].name,
                                     graph_.nodes[i].name, graph_.nodes[i].name));
      if (std::find(graph_.results.begin(), graph_.results.end(), before) != graph_.results.end())
        errors_.error("graph @{} returns %{}, which %{} overwrites in place; return %{} instead", graph_.name,
                      graph_[before].name, graph_.nodes[i].name, graph_.nodes[i].name);
    }
  }

  bool exists(ValueId id) const { return raw(id) >= 0 && static_cast<size_t>(raw(id)) < graph_.nodes.size(); }

  const Graph& graph_;
  Diagnostics errors_;
  std::map<std::string, int> names_;
};

}  // namespace

Diagnostics verify(const Graph& graph) { return GraphVerifier(graph).run(); }

}  // namespace tilewright
