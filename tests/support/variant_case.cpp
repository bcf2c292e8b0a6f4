#include "tests/support/variant_case.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>

#include "ir/text.h"
#include "tests/support/random_graph.h"

namespace tilewright::testing {
namespace {

// 19, 20, 23, 24 and 26 parse, verify and interpret; their kernels come later.
const std::set<int> kLater = {19, 20, 23, 24, 26};

/// Rows of Q, K and V, of one product or of two.
bool is_operand(const std::string& name) {
  static const std::set<std::string> kNames = {"q", "k", "v", "q1", "k1", "q2", "k2", "qr", "qc", "kr", "ckv"};
  return kNames.contains(name);
}
/// Variant 23 has two head dims, and values that are keys.
bool has_any_head_dim(const std::string& name) { return name.size() == 1 || std::isdigit(name.back()); }

struct Spelling {
  DType stored;   ///< of Q, K, V and the result
  DType between;  ///< of the scores and all other floats
  bool cast;      ///< Q, K and V are cast up, the result down
};
Spelling spelling(Numbers numbers) {
  switch (numbers) {
    case Numbers::f64: return {DType::f64, DType::f64, false};
    case Numbers::f32: return {DType::f32, DType::f32, false};
    case Numbers::f16: return {DType::f16, DType::f32, false};
    case Numbers::bf16: return {DType::bf16, DType::f32, false};
    case Numbers::f16_cast: return {DType::f16, DType::f32, true};
    case Numbers::bf16_cast: break;
  }
  return {DType::bf16, DType::f32, true};
}

class Respeller {
 public:
  Respeller(const Graph& from, Numbers numbers, int64_t qk_dim, int64_t value_dim)
      : from_(from), how_(spelling(numbers)), qk_dim_(qk_dim), value_dim_(value_dim) {
    to_.name = from.name;
  }

  Graph graph() {
    for (size_t i = 0; i < from_.nodes.size(); ++i) copy(from_.nodes[i]);
    for (ValueId result : from_.results) {
      ValueId value = moved(result);
      if (how_.cast) value = cast(value, how_.stored);
      to_.results.push_back(value);
    }
    return std::move(to_);
  }

 private:
  ValueId moved(ValueId id) const { return id == kNoValue ? id : moved_[static_cast<size_t>(raw(id))]; }

  ValueId add(Node node) {
    auto type = infer_type(to_, node, node.type);
    if (!type) TW_CHECK(!"a respelled variant does not type");
    node.type = *type;
    const ValueId id{static_cast<int32_t>(to_.nodes.size())};
    if (node.op == Op::param) to_.params.push_back(id);
    to_.nodes.push_back(std::move(node));
    return id;
  }

  ValueId cast(ValueId value, DType dtype) {
    Node node;
    node.op = Op::cast;
    node.operands = {value};
    node.type.dtype = dtype;
    node.name = to_[value].name + "_" + std::string(to_string(dtype));
    return add(std::move(node));
  }

  /// Results of products that meet other floats.
  void lift(Node& node) {
    const auto is = [&](DType dtype) { return [this, dtype](ValueId x) { return to_.type(x).dtype == dtype; }; };
    if (std::none_of(node.operands.begin(), node.operands.end(), is(how_.between))) return;
    for (ValueId& operand : node.operands)
      if (is(how_.stored)(operand)) operand = cast(operand, how_.between);
  }

  void copy(Node node) {
    for (ValueId& operand : node.operands) operand = moved(operand);
    if (node.type.dtype == DType::f32) node.type.dtype = how_.between;
    const bool stored = node.op == Op::param && is_operand(node.name);
    if (stored) {
      node.type.dtype = how_.stored;
      if (has_any_head_dim(node.name)) node.type.shape.back() = node.name == "v" ? value_dim_ : qk_dim_;
    }
    if (node.op == Op::matmul && !how_.cast) {
      node.type.dtype = how_.stored;
      if (to_.type(node.operands[0]).dtype != how_.stored) node.operands[0] = cast(node.operands[0], how_.stored);
    }
    if (info(node.op).group == OpGroup::pointwise && how_.stored != how_.between) lift(node);
    const ValueId id = add(std::move(node));
    moved_.push_back(stored && how_.cast ? cast(id, how_.between) : id);
  }

  const Graph& from_;
  Spelling how_;
  int64_t qk_dim_, value_dim_;
  Graph to_;
  std::vector<ValueId> moved_;
};

// Keys that no query of batch b may see, whatever else is masked: semantics 4 promises that they are never read.
bool is_hidden(const Graph& graph, const std::vector<TestTensor>& inputs, int64_t b, int64_t kv, int64_t sk) {
  for (size_t i = 0; i < graph.params.size() && i < inputs.size(); ++i) {
    const std::string& name = graph[graph.params[i]].name;
    if (name == "len" && static_cast<double>(kv) >= inputs[i].get(b)) return true;
    if (name == "valid" && inputs[i].get(b * sk + kv) == 0) return true;
  }
  return false;
}

void spoil_hidden_keys(const Graph& graph, const DimBindings& dims, std::vector<TestTensor>& inputs) {
  const auto sk = dims.find("Sk"), batches = dims.find("B");
  if (sk == dims.end() || batches == dims.end()) return;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::string& name = graph[graph.params[i]].name;
    if (name != "k" && name != "v") continue;
    TestTensor& tensor = inputs[i];
    const int64_t width = tensor.shape().back();
    for (int64_t row = 0; width > 0 && row < tensor.size() / width; ++row)
      if (is_hidden(graph, inputs, row / sk->second / tensor.shape()[1], row % sk->second, sk->second))
        for (int64_t d = 0; d < width; ++d) tensor.set(row * width + d, std::numeric_limits<double>::quiet_NaN());
  }
}

void fill_parameter(const std::string& name, TestTensor& tensor, const DimBindings& dims, std::mt19937_64& random) {
  const auto size = [&](const char* dim) {
    const auto found = dims.find(dim);
    return found == dims.end() ? int64_t{0} : found->second;
  };
  const DType dtype = tensor.view().dtype;
  Fill how;
  if (dtype == DType::boolean) how = {Fill::Kind::coin, 0.6};
  if (is_integer(dtype)) how = {Fill::Kind::integer_between, 1, 0, 2};
  if (name == "len" || name == "prefix" || name == "ctx") how.high = size("Sk") + 2;
  if (name == "rel" || name == "dist") how = {Fill::Kind::integer_between, 1, -2, size("T") + 1};
  if (name == "doc") how = {Fill::Kind::ascending, 1, 0, 3};
  fill(tensor, how, random);
  if ((name == "len" || name == "ctx") && tensor.size() > 1) tensor.set(0, 0);
  if (name == "valid" || name == "blk" || name == "anc") {  // whole rows off
    const int64_t width = tensor.shape().back();
    for (int64_t i = 0; i < std::min(width, tensor.size()); ++i) tensor.set(i, 0);
  }
  if (name == "slope")
    for (int64_t i = 0; i < tensor.size(); ++i) tensor.set(i, std::ldexp(1, -static_cast<int>(i) - 1));
}

}  // namespace

std::string_view to_string(Numbers numbers) {
  constexpr std::string_view kNames[] = {"f64", "f32", "f16", "bf16", "f16 cast", "bf16 cast"};
  return kNames[static_cast<size_t>(numbers)];
}

std::vector<Variant> all_variants(const std::string& folder) {
  std::vector<Variant> list;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".attn") continue;
    Variant variant;
    variant.stem = entry.path().stem().string();
    variant.number = std::stoi(variant.stem);
    std::ostringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    auto graph = parse_graph(text.str());
    TW_CHECK(graph.ok());
    variant.graph = std::move(*graph);
    list.push_back(std::move(variant));
  }
  std::sort(list.begin(), list.end(), [](const Variant& a, const Variant& b) { return a.number < b.number; });
  return list;
}

std::vector<Variant> variants(const std::string& folder) {
  std::vector<Variant> list = all_variants(folder);
  std::erase_if(list, [](const Variant& variant) { return kLater.count(variant.number) > 0; });
  return list;
}

Graph respell(const Graph& graph, Numbers numbers, int64_t qk_dim, int64_t value_dim) {
  return Respeller(graph, numbers, qk_dim, value_dim).graph();
}

DimBindings bind_sizes(const Graph& graph, const Sizes& sizes) {
  DimBindings dims;
  for (ValueId id : graph.params)
    for (const Dim& dim : graph.type(id).shape)
      for (const auto& [name, coefficient] : dim.terms()) dims[name] = 3;
  const auto set = [&](const char* name, int64_t size) {
    if (auto found = dims.find(name); found != dims.end()) found->second = size;
  };
  const bool one_length = dims.count("Sq") == 0;
  set("B", sizes.batch);
  set("Sq", sizes.sq);
  set("Sk", sizes.sk);
  set("N", one_length ? sizes.sk : 2);  // tokens of a window, or the batches that rows are counted over
  set("T", 25);
  set("NQ", sizes.sq / 32 + 1);
  set("NK", sizes.sk / 32 + 1);
  return dims;
}

std::vector<TestTensor> variant_inputs(const Graph& graph, const DimBindings& dims, std::mt19937_64& random,
                                       Hidden hidden) {
  std::vector<TestTensor> inputs;
  for (ValueId id : graph.params) {
    const TensorType& type = graph.type(id);
    inputs.emplace_back(type.dtype, concrete_shape(type, dims), static_cast<Layout>(random() % 4), random);
    fill_parameter(graph[id].name, inputs.back(), dims, random);
  }
  if (hidden == Hidden::nan) spoil_hidden_keys(graph, dims, inputs);
  return inputs;
}

}  // namespace tilewright::testing
