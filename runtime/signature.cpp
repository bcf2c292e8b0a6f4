#include "runtime/signature.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <set>

#include "ir/bind.h"

namespace tilewright {

bool byte_range(const TensorView& view, ByteRange& range) {
  int64_t low = 0, high = 0;
  const int64_t element = size_of(view.dtype);
  for (int i = 0; i < view.rank; ++i) {
    if (view.shape[i] == 0) {
      range = {};
      return true;
    }
  }
  for (int i = 0; i < view.rank; ++i) {
    int64_t reach = 0;
    if (__builtin_mul_overflow(view.shape[i] - 1, view.strides[i], &reach) ||
        __builtin_mul_overflow(reach, element, &reach) ||
        __builtin_add_overflow(reach < 0 ? low : high, reach, reach < 0 ? &low : &high))
      return false;
  }
  const auto base = reinterpret_cast<uintptr_t>(view.data);
  range = {base + static_cast<uintptr_t>(low), base + static_cast<uintptr_t>(high + element)};
  return true;
}

namespace {

bool overlap(const ByteRange& a, const ByteRange& b) {
  return a.begin != a.end && b.begin != b.end && a.begin < b.end && b.begin < a.end;
}

bool count_overflows(const TensorView& view) {
  int64_t count = size_of(view.dtype);
  bool empty = false, overflow = false;
  for (int i = 0; i < view.rank; ++i) {
    empty |= view.shape[i] == 0;
    overflow |= __builtin_mul_overflow(count, std::max<int64_t>(view.shape[i], 1), &count);
  }
  return overflow && !empty;
}

bool is_empty(const TensorView& view) {
  return std::any_of(view.shape.begin(), view.shape.begin() + view.rank, [](int64_t size) { return size == 0; });
}

/// Sufficient: each axis steps beyond everything that the faster axes reach.
bool elements_are_distinct(const TensorView& view) {
  std::array<std::pair<int64_t, int64_t>, kMaxRank> axes;  // |stride|, size
  size_t count = 0;
  for (int i = 0; i < view.rank; ++i) {
    if (view.shape[i] <= 1) continue;
    size_t place = count++;
    for (; place > 0 && axes[place - 1].first > std::abs(view.strides[i]); --place) axes[place] = axes[place - 1];
    axes[place] = {std::abs(view.strides[i]), view.shape[i]};
  }
  int64_t reach = 0;
  for (size_t i = 0; i < count; ++i) {
    if (axes[i].first <= reach) return false;
    reach += axes[i].first * (axes[i].second - 1);
  }
  return true;
}

std::string list_names(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += fmt::format("{}%{}", text.empty() ? "" : ", ", name);
  return text;
}

Diagnostic about(const std::string& name, std::string message) {
  return {ErrorKind::invalid, std::move(message), name, 0};
}

std::vector<DimFormula> formulas(const Shape& shape, std::span<const std::string> names) {
  std::vector<DimFormula> out;
  for (const Dim& dim : shape) out.emplace_back(dim, names);
  return out;
}

/// Checks of one caller-owned view that need no dims.
Result<Done> check_memory(const std::string& name, const TensorView& view) {
  if (count_overflows(view)) return about(name, "its size in bytes overflows 64 bits");
  ByteRange range;
  if (!byte_range(view, range)) return about(name, "its strides reach beyond 64-bit offsets");
  if (!view.data && !is_empty(view))
    return about(name, fmt::format("its data is null, but it has {} elements", view.element_count()));
  if (reinterpret_cast<uintptr_t>(view.data) % static_cast<uintptr_t>(size_of(view.dtype)) != 0)
    return about(name, fmt::format("its data is not aligned to its {}-byte elements", size_of(view.dtype)));
  return Done{};
}

}  // namespace

Signature::Signature(const Graph& graph) {
  std::set<std::string> names;
  const auto collect = [&](const TensorType& type) {
    for (const Dim& dim : type.shape)
      for (const auto& [name, coefficient] : dim.terms()) names.insert(name);
  };
  for (const Node& node : graph.nodes) {
    collect(node.type);
    for (const Dim* dim : {&node.attributes.begin, &node.attributes.end, &node.attributes.dim})
      for (const auto& [name, coefficient] : dim->terms()) names.insert(name);
  }
  dims_.assign(names.begin(), names.end());
  for (const ValueId id : graph.params) {
    param_types_.push_back(graph.type(id));
    param_names_.push_back(graph[id].name);
    inout_.push_back(graph[id].inout);
    param_shapes_.push_back(formulas(graph.type(id).shape, dims_));
  }
  for (size_t i = 0; i < graph.results.size(); ++i) {
    const ValueId id = graph.results[i];
    result_types_.push_back(graph.type(id));
    result_names_.push_back(graph[id].name.empty() ? fmt::format("result{}", i) : graph[id].name);
    result_shapes_.push_back(formulas(graph.type(id).shape, dims_));
  }

  written_.assign(param_types_.size(), false);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    ValueId id{static_cast<int32_t>(i)};
    if (!updates_in_place(graph, id)) continue;
    while (graph[id].op == Op::update) id = graph[id].operands[0];
    const auto param = std::find(graph.params.begin(), graph.params.end(), id);
    written_[static_cast<size_t>(param - graph.params.begin())] = true;
  }

  std::vector<bool> known(dims_.size(), false);
  for (bool progress = true; progress;) {
    progress = false;
    for (size_t param = 0; param < param_types_.size(); ++param)
      for (size_t axis = 0; axis < param_shapes_[param].size(); ++axis) {
        DimFormula rest = param_shapes_[param][axis];
        const auto open =
            std::partition(rest.terms.begin(), rest.terms.end(), [&](const auto& term) { return known[term.first]; });
        if (rest.terms.end() - open != 1) continue;
        const auto [dim, coefficient] = *open;
        rest.terms.erase(open);
        solutions_.push_back({dim, param, axis, coefficient, std::move(rest)});
        known[dim] = progress = true;
      }
  }
  solvable_ = std::find(known.begin(), known.end(), false) == known.end();
}

bool Signature::solve(std::span<const TensorView> inputs, std::span<int64_t> values) const {
  if (!solvable_) return false;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].dtype != param_types_[i].dtype || inputs[i].rank != param_types_[i].rank()) return false;
  for (const Solution& solution : solutions_) {
    const int64_t size = inputs[solution.param].shape[solution.axis];
    int64_t rest = 0;
    if (!solution.rest.evaluate_checked(values, rest) || __builtin_sub_overflow(size, rest, &rest)) return false;
    if (rest % solution.coefficient != 0 || rest / solution.coefficient < 0) return false;
    values[solution.dim] = rest / solution.coefficient;
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    for (size_t axis = 0; axis < param_shapes_[i].size(); ++axis) {
      int64_t expected = 0;
      if (!param_shapes_[i][axis].evaluate_checked(values, expected) || expected < 0 ||
          expected != inputs[i].shape[axis])
        return false;
    }
  return true;
}

Diagnostics Signature::explain(std::span<const TensorView> inputs) const {
  auto bound = bind_dims(param_types_, param_names_, inputs);
  if (!bound) return bound.error();
  Diagnostics errors;
  for (const std::string& name : dims_)
    if (!bound->contains(name)) errors.error("dim {} is in no parameter's shape, so its size is unknown", name);
  TW_CHECK(!errors.empty());
  return errors;
}

Result<Done> Signature::bind(std::span<const TensorView> inputs, std::span<int64_t> values) const {
  if (inputs.size() < param_types_.size())
    return about(param_names_[inputs.size()], fmt::format("this input is missing: {} are given, the signature has {}",
                                                          inputs.size(), param_types_.size()));
  if (inputs.size() > param_types_.size())
    return invalid("{} inputs are given, the signature has {}: {}", inputs.size(), param_types_.size(),
                   list_names(param_names_));
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].rank < 0 || inputs[i].rank > kMaxRank)
      return about(param_names_[i], fmt::format("rank is {}, expected {}", inputs[i].rank, param_types_[i].rank()));
  if (!solve(inputs, values)) return explain(inputs);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (auto ok = check_memory(param_names_[i], inputs[i]); !ok) return ok;
  return Done{};
}

Result<Done> Signature::check_outputs(std::span<const TensorView> inputs, std::span<const TensorView> outputs,
                                      std::span<const int64_t> values) const {
  if (auto ok = check_written(inputs); !ok) return ok;
  if (outputs.size() != result_types_.size())
    return invalid("{} outputs are given, the graph returns {}: {}", outputs.size(), result_types_.size(),
                   list_names(result_names_));
  for (size_t i = 0; i < outputs.size(); ++i) {
    const TensorView& view = outputs[i];
    const TensorType& type = result_types_[i];
    const std::string& name = result_names_[i];
    if (view.dtype != type.dtype)
      return about(name,
                   fmt::format("the output's dtype is {}, expected {}", to_string(view.dtype), to_string(type.dtype)));
    if (view.rank != type.rank())
      return about(name,
                   fmt::format("the output's rank is {}, expected {} for {}", view.rank, type.rank(), to_string(type)));
    for (size_t axis = 0; axis < type.shape.size(); ++axis) {
      int64_t expected = 0;
      if (!result_shapes_[i][axis].evaluate_checked(values, expected) || expected < 0)
        return about(name,
                     fmt::format("axis {} is {}, which these inputs make negative", axis, to_string(type.shape[axis])));
      if (view.shape[axis] != expected)
        return about(name, fmt::format("the output's axis {} has size {}, expected {}{}", axis, view.shape[axis],
                                       to_string(type.shape[axis]),
                                       type.shape[axis].is_constant() ? "" : fmt::format(" = {}", expected)));
    }
    if (auto ok = check_memory(name, view); !ok) return ok;
    if (!is_empty(view) && !elements_are_distinct(view))
      return about(name, "the output's strides make elements overlap, each element needs its own place");
    ByteRange range, other;
    byte_range(view, range);
    for (size_t j = 0; j < i; ++j)
      if (byte_range(outputs[j], other) && overlap(range, other))
        return about(name, fmt::format("the output overlaps the output %{} in memory", result_names_[j]));
    for (size_t j = 0; j < inputs.size(); ++j)
      if (!inout_[j] && byte_range(inputs[j], other) && overlap(range, other))
        return about(name, fmt::format("the output overlaps the input %{} in memory, which only an inout parameter may",
                                       param_names_[j]));
  }
  return Done{};
}

Result<Done> Signature::check_written(std::span<const TensorView> inputs) const {
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!written_[i] || is_empty(inputs[i])) continue;
    if (!elements_are_distinct(inputs[i]))
      return about(param_names_[i],
                   "this inout parameter is written, but its strides make elements overlap, each needs its own place");
    ByteRange range, other;
    byte_range(inputs[i], range);
    for (size_t j = 0; j < inputs.size(); ++j)
      if (j != i && byte_range(inputs[j], other) && overlap(range, other))
        return about(
            param_names_[i],
            fmt::format("this inout parameter is written, but overlaps the input %{} in memory", param_names_[j]));
  }
  return Done{};
}

bool Signature::has_inout() const { return std::find(inout_.begin(), inout_.end(), true) != inout_.end(); }

bool Signature::aliases_inout(std::span<const TensorView> inputs, const TensorView& output) const {
  ByteRange range, other;
  byte_range(output, range);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inout_[i] && byte_range(inputs[i], other) && overlap(range, other)) return true;
  return false;
}

Result<std::vector<int64_t>> Signature::from_bindings(const DimBindings& bindings) const {
  std::vector<int64_t> values;
  for (const std::string& name : dims_) {
    const auto found = bindings.find(name);
    if (found == bindings.end()) return invalid("dim {} has no size", name);
    if (found->second < 0) return invalid("dim {} has the negative size {}", name, found->second);
    values.push_back(found->second);
  }
  const auto check = [&](const std::string& name, const TensorType& type,
                         const std::vector<DimFormula>& shape) -> Result<Done> {
    int64_t bytes = size_of(type.dtype);
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      int64_t size = 0;
      const bool fits = shape[axis].evaluate_checked(values, size);
      if (fits && size < 0)
        return about(name,
                     fmt::format("axis {} is {}, which these dims make {}", axis, to_string(type.shape[axis]), size));
      if (!fits || __builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes))
        return about(name, "its size in bytes overflows 64 bits");
    }
    return Done{};
  };
  for (size_t i = 0; i < param_types_.size(); ++i)
    if (auto ok = check(param_names_[i], param_types_[i], param_shapes_[i]); !ok) return ok.error();
  for (size_t i = 0; i < result_types_.size(); ++i)
    if (auto ok = check(result_names_[i], result_types_[i], result_shapes_[i]); !ok) return ok.error();
  return values;
}

DimBindings Signature::to_bindings(std::span<const int64_t> values) const {
  DimBindings bindings;
  for (size_t i = 0; i < dims_.size(); ++i) bindings[dims_[i]] = values[i];
  return bindings;
}

std::vector<int64_t> Signature::result_shape(size_t result, std::span<const int64_t> values) const {
  std::vector<int64_t> shape;
  for (const DimFormula& dim : result_shapes_[result]) shape.push_back(dim.evaluate(values));
  return shape;
}

}  // namespace tilewright
