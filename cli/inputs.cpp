#include "cli/inputs.h"

#include <algorithm>
#include <map>

#include "runtime/convert.h"
#include "runtime/npy.h"

namespace tilewright::cli {
namespace {

Diagnostic about(const std::string& value, std::string message) {
  return {ErrorKind::invalid, std::move(message), value, 0};
}

bool convertible(DType from, DType to) { return from == to || (is_float(from) && is_float(to)); }

Result<std::map<std::string, NpyArray>> read_files(const Graph& graph, const std::vector<std::string>& files) {
  std::map<std::string, NpyArray> arrays;
  for (const std::string& option : files) {
    const auto parts = split_assignment("--input", option);
    if (!parts) return parts.error();
    const auto& [name, path] = *parts;
    const auto param = std::find_if(graph.params.begin(), graph.params.end(),
                                    [&, &wanted = name](ValueId id) { return graph[id].name == wanted; });
    if (param == graph.params.end()) {
      std::string names;
      for (const ValueId id : graph.params) names += (names.empty() ? "%" : ", %") + graph[id].name;
      return invalid("--input names %{}, which is no parameter; the graph has {}", name, names);
    }
    if (arrays.contains(name)) return about(name, "this input is given twice");
    auto array = read_npy(path);
    if (!array) return array.error();
    const TensorType& type = graph.type(*param);
    if (!convertible(array->dtype, type.dtype))
      return about(name, fmt::format("{} holds {}, which does not convert to {}", path, to_string(array->dtype),
                                     to_string(type.dtype)));
    if (static_cast<int64_t>(array->shape.size()) != type.rank())
      return about(name, fmt::format("{} has rank {}, expected {} for {}", path, array->shape.size(), type.rank(),
                                     to_string(type)));
    arrays.emplace(name, std::move(*array));
  }
  return arrays;
}

/// Dims that the arrays' shapes give; what does not fit is found when the kernel checks its arguments.
Result<Done> solve_dims(const Graph& graph, const std::map<std::string, NpyArray>& arrays, DimBindings& dims) {
  std::map<std::string, std::string> origin;
  for (const auto& [name, size] : dims) origin[name] = "--dim";
  for (bool progress = true; progress;) {
    progress = false;
    for (const ValueId id : graph.params) {
      const auto array = arrays.find(graph[id].name);
      if (array == arrays.end()) continue;
      const Shape& shape = graph.type(id).shape;
      for (size_t axis = 0; axis < shape.size(); ++axis) {
        std::vector<std::pair<std::string, int64_t>> open;
        Dim rest = shape[axis];
        for (const auto& [name, coefficient] : shape[axis].terms())
          if (!dims.contains(name)) {
            open.emplace_back(name, coefficient);
            rest = rest - Dim::named(name, coefficient);
          }
        const int64_t size = array->second.shape[axis];
        const auto known = rest.evaluate(dims);
        if (!known) continue;
        if (open.empty() && *known != size) {
          std::string from;
          for (const auto& [name, coefficient] : shape[axis].terms())
            from += fmt::format("{}{} = {} from {}", from.empty() ? " (" : ", ", name, dims[name], origin[name]);
          return about(graph[id].name, fmt::format("axis {} of its file has size {}, expected {}{}", axis, size,
                                                   to_string(shape[axis]), from.empty() ? "" : from + ")"));
        }
        if (open.size() != 1) continue;
        const auto& [name, coefficient] = open[0];
        if ((size - *known) % coefficient != 0 || (size - *known) / coefficient < 0)
          return about(graph[id].name,
                       fmt::format("axis {} of its file has size {}, which no size of {} makes equal to {}", axis, size,
                                   name, to_string(shape[axis])));
        dims[name] = (size - *known) / coefficient;
        origin[name] = "%" + graph[id].name;
        progress = true;
      }
    }
  }
  return Done{};
}

}  // namespace

Result<RunInputs> gather_inputs(const Graph& graph, const std::vector<std::string>& files,
                                const std::vector<std::string>& dim_options, uint64_t seed, Executor& executor) {
  RunInputs out;
  auto dims = parse_dims(dim_options);
  if (!dims) return dims.error();
  out.dims = std::move(*dims);
  auto arrays = read_files(graph, files);
  if (!arrays) return arrays.error();
  if (auto ok = solve_dims(graph, *arrays, out.dims); !ok) return ok.error();
  DimBindings unknown = out.dims;
  for (const ValueId id : graph.params)
    for (const Dim& dim : graph.type(id).shape)
      for (const auto& [name, coefficient] : dim.terms()) unknown.erase(name);
  if (!unknown.empty())
    return invalid("--dim names {}, which is no dim of the graph's parameters", unknown.begin()->first);
  out.defaulted = add_default_dims(graph, out.dims);

  for (const ValueId id : graph.params) {
    const auto array = arrays->find(graph[id].name);
    if (array == arrays->end()) {
      auto made = make_input(graph, id, out.dims, seed, executor);
      if (!made) return made.error();
      out.tensors.push_back(std::move(*made));
      continue;
    }
    auto tensor = make_tensor(graph.type(id).dtype, array->second.shape);
    if (!tensor) return tensor.error();
    convert(array->second.view(), tensor->view);
    out.tensors.push_back(std::move(*tensor));
  }
  return out;
}

}  // namespace tilewright::cli
