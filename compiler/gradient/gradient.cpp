#include "compiler/gradient.h"

#include <algorithm>

#include "compiler/gradient/differentiate.h"
#include "compiler/gradient/split.h"
#include "ir/verify.h"

namespace tilewright {
namespace {

/// The parameters asked for, in the order of the request.
Result<std::vector<ValueId>> find_wanted(const Graph& graph, const std::vector<std::string>& names) {
  std::vector<ValueId> wanted;
  Diagnostics errors;
  if (names.empty()) {
    for (ValueId id : graph.params)
      if (is_float(graph.type(id).dtype)) wanted.push_back(id);
    if (wanted.empty()) errors.error("graph @{} has no float parameter to differentiate by", graph.name);
  }
  const auto complain = [&](const std::string& name, int line, std::string message) {
    errors.add({ErrorKind::invalid, std::move(message), name, line});
  };
  for (const std::string& name : names) {
    const auto found =
        std::find_if(graph.params.begin(), graph.params.end(), [&](ValueId id) { return graph[id].name == name; });
    if (found == graph.params.end()) {
      std::vector<std::string> known;
      for (ValueId id : graph.params) known.push_back("%" + graph[id].name);
      complain(name, 0,
               fmt::format("its gradient is asked for, but graph @{} has no such parameter; it has {}", graph.name,
                           fmt::join(known, ", ")));
    } else if (!is_float(graph.type(*found).dtype)) {
      complain(name, graph[*found].line,
               fmt::format("its gradient is asked for, but it is {}; only floats have gradients",
                           to_string(graph.type(*found))));
    } else if (std::find(wanted.begin(), wanted.end(), *found) != wanted.end()) {
      complain(name, graph[*found].line, "its gradient is asked for twice");
    } else {
      wanted.push_back(*found);
    }
  }
  if (!errors.empty()) return errors;
  return wanted;
}

}  // namespace

Result<Gradient> gradient(const Graph& graph, const GradientRequest& request) {
  if (Diagnostics wrong = verify(graph); !wrong.empty()) return wrong;
  auto wanted = find_wanted(graph, request.wrt);
  if (!wanted) return wanted.error();

  grad::JointGraph joint(graph);
  std::vector<ValueId> params;
  for (ValueId id : *wanted) params.push_back(joint.moved(id));
  const grad::ScoreProducts scores = grad::find_score_products(joint);
  grad::Differentiator differentiator(joint, scores, params);
  std::vector<ValueId> gradients_in;
  for (ValueId result : graph.results) {
    if (!is_float(graph.type(result).dtype)) continue;
    gradients_in.push_back(joint.param(graph.type(result), "d_" + graph[result].name));
    differentiator.seed(joint.moved(result), gradients_in.back());
  }
  if (auto done = differentiator.run(); !done) return done.error();

  std::vector<grad::BackwardResult> results;
  for (ValueId param : params) {
    const TensorType type = joint.type(param);
    const std::string name = "d_" + joint[param].name;
    const ValueId total = differentiator.gradient(param);
    const grad::JointGraph::Name scope(joint, name);
    results.push_back({total == kNoValue ? joint.zeros(type) : joint.cast(total, type.dtype), name});
  }
  Gradient out = grad::split(joint, graph, scores, gradients_in, results, request.recompute);
  for (const Graph* half : {&out.forward, &out.backward}) TW_CHECK(verify(*half).empty());
  return out;
}

}  // namespace tilewright
