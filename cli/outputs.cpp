#include "cli/outputs.h"

#include "runtime/npy.h"

namespace tilewright::cli {

Result<std::vector<OutputFile>> find_outputs(const Graph& graph, const std::vector<std::string>& options) {
  std::vector<OutputFile> found;
  for (const std::string& option : options) {
    const auto parts = split_assignment("--output", option);
    if (!parts) return parts.error();
    std::optional<OutputFile> match;
    const auto look_at = [&](const std::string& name, bool is_param, size_t position, std::string& names) {
      names += (names.empty() ? "%" : ", %") + name;
      if (name == parts->first && !match) match = OutputFile{is_param, position, parts->second};
    };
    std::string results, params;
    for (size_t i = 0; i < graph.results.size(); ++i) look_at(graph[graph.results[i]].name, false, i, results);
    for (size_t i = 0; i < graph.params.size(); ++i)
      if (const Node& param = graph[graph.params[i]]; param.inout) look_at(param.name, true, i, params);
    if (!match)
      return params.empty()
                 ? invalid("--output names %{}, which is no result; the graph returns {}", parts->first, results)
                 : invalid(
                       "--output names %{}, which is no result and no inout parameter; the graph "
                       "returns {} and writes {}",
                       parts->first, results, params);
    found.push_back(std::move(*match));
  }
  return found;
}

Result<Done> write_outputs(std::span<const OutputFile> files, std::span<const TensorView> inputs,
                           std::span<const TensorView> results) {
  for (const OutputFile& file : files)
    if (auto ok = write_npy(file.path, (file.is_param ? inputs : results)[file.position]); !ok) return ok;
  return Done{};
}

}  // namespace tilewright::cli
