// Type rules of leaves and pointwise ops, and the dispatch over all groups.
#include <cmath>

#include "ir/infer_rules.h"
#include "ir/tensor_view.h"

namespace tilewright {
namespace infer {

std::string label(const Graph& graph, ValueId id) {
  const Node& node = graph[id];
  if (!node.name.empty() || node.op != Op::constant) return "%" + node.name;
  if (node.type.dtype == DType::boolean) return node.attributes.literal.integer ? "true" : "false";
  return is_float(node.type.dtype) ? fmt::format("{}", node.attributes.literal.real)
                                   : fmt::format("{}", node.attributes.literal.integer);
}

std::string described(const Graph& graph, ValueId id) {
  return fmt::format("{} is {}", label(graph, id), to_string(graph.type(id)));
}

namespace {

Result<TensorType> constant(const Rule& rule) {
  const TensorType& declared = rule.declared;
  const Scalar& literal = rule.node.attributes.literal;
  if (declared.rank() != 0) return invalid("a constant is a scalar, but it is annotated {}", to_string(declared));
  if (is_float(declared.dtype)) {
    const double largest = declared.dtype == DType::f16    ? 65504.0
                           : declared.dtype == DType::bf16 ? 3.3895313892515355e38
                           : declared.dtype == DType::f32  ? 3.4028234663852886e38
                                                           : HUGE_VAL;
    if (std::isfinite(literal.real) && std::abs(literal.real) > largest)
      return invalid("constant {} does not fit {}, whose largest value is {}", literal.real, to_string(declared.dtype),
                     largest);
    return declared;
  }
  const int64_t low = declared.dtype == DType::i64       ? INT64_MIN
                      : declared.dtype == DType::i32     ? INT32_MIN
                      : declared.dtype == DType::boolean ? 0
                                                         : INT8_MIN;
  const int64_t high = declared.dtype == DType::i64       ? INT64_MAX
                       : declared.dtype == DType::i32     ? INT32_MAX
                       : declared.dtype == DType::boolean ? 1
                                                          : INT8_MAX;
  if (literal.integer < low || literal.integer > high)
    return invalid("constant {} does not fit {}, which holds {} to {}", literal.integer, to_string(declared.dtype), low,
                   high);
  return declared;
}

/// The broadcast of operands [first, last), or the pair that does not broadcast.
Result<Shape> broadcast_operands(const Rule& rule, size_t first) {
  Shape shape;
  for (size_t i = first; i < rule.node.operands.size(); ++i) {
    const Shape& next = rule.type(i).shape;
    if (auto both = broadcast(shape, next)) {
      shape = *both;
      continue;
    }
    const size_t rank = std::max(shape.size(), next.size());
    for (size_t back = 1; back <= std::min(shape.size(), next.size()); ++back) {
      const Dim &x = shape[shape.size() - back], &y = next[next.size() - back];
      if (x == y || x.is_constant(1) || y.is_constant(1)) continue;
      const std::string before =
          i == first + 1 ? rule.what(first) : "the operands before it broadcast to " + to_string(shape);
      return invalid("{} does not broadcast: {}, {}; on axis {} the sizes {} and {} are neither equal nor 1",
                     info(rule.node.op).name, before, rule.what(i), rank - back, to_string(x), to_string(y));
    }
  }
  return shape;
}

bool wants_float(Op op) {
  switch (op) {
    case Op::exp:
    case Op::exp2:
    case Op::log:
    case Op::tanh:
    case Op::sigmoid:
    case Op::erf:
    case Op::sqrt:
    case Op::rsqrt:
    case Op::floor: return true;
    default: return false;
  }
}

/// What the op takes, in words, when it does not take `dtype`; empty when it does.
std::string_view refused_dtype(Op op, DType dtype) {
  if (wants_float(op)) return is_float(dtype) ? "" : "floats";
  switch (op) {
    case Op::shl:
    case Op::shr: return is_integer(dtype) ? "" : "integers";
    case Op::logical_and:
    case Op::logical_or:
    case Op::logical_xor:
    case Op::logical_not: return is_float(dtype) ? "bools or integers" : "";
    case Op::random_bits: return dtype == DType::i64 ? "" : "i64";
    case Op::eq:
    case Op::ne:
    case Op::select:
    case Op::cast: return "";
    default: return dtype == DType::boolean ? "numbers" : "";
  }
}

bool is_comparison(Op op) { return op >= Op::eq && op <= Op::ge; }

}  // namespace

Result<TensorType> leaf(const Rule& rule) {
  const TensorType& declared = rule.declared;
  switch (rule.node.op) {
    case Op::constant: return constant(rule);
    case Op::index:
      if (declared.dtype != DType::i64 && declared.dtype != DType::i32)
        return invalid("index gives i64 or i32, but it is annotated {}", to_string(declared));
      if (rule.node.attributes.axis < 0 || rule.node.attributes.axis >= declared.rank())
        return invalid("index: axis {} is not an axis of {}, which has rank {}", rule.node.attributes.axis,
                       to_string(declared), declared.rank());
      return declared;
    case Op::dim: return TensorType{DType::i64, {}};
    default: return declared;
  }
}

Result<TensorType> pointwise(const Rule& rule) {
  const Op op = rule.node.op;
  const size_t first = op == Op::select ? 1 : 0;
  if (op == Op::select && rule.type(0).dtype != DType::boolean)
    return invalid("select needs a bool condition, but {}", rule.what(0));
  for (size_t i = first; i < rule.node.operands.size(); ++i) {
    if (rule.type(i).dtype != rule.type(first).dtype)
      return invalid("{} needs operands of one dtype, but {} and {}; insert a cast", info(op).name, rule.what(first),
                     rule.what(i));
    if (const std::string_view wanted = refused_dtype(op, rule.type(i).dtype); !wanted.empty())
      return invalid("{} takes {}, but {}", info(op).name, wanted, rule.what(i));
  }
  auto shape = broadcast_operands(rule, 0);
  if (!shape) return shape.error();
  const DType dtype = is_comparison(op) ? DType::boolean
                      : op == Op::cast  ? rule.declared.dtype
                                        : rule.type(first).dtype;
  return TensorType{dtype, std::move(*shape)};
}

namespace {

/// Indices are integers, and constant ones lie inside `table`, which is called `name`.
Result<Done> check_indices(const Rule& rule, const TensorType& table, std::string_view name) {
  const std::string_view op = info(rule.node.op).name;
  for (size_t i = 1; i < rule.node.operands.size(); ++i) {
    if (!is_integer(rule.type(i).dtype)) return invalid("{} takes integer indices, but {}", op, rule.what(i));
    const Node& index = rule.graph[rule.operand(i)];
    if (index.op != Op::constant) continue;
    const int64_t value = index.attributes.literal.integer;
    const Dim& size = table.shape[i - 1];
    if (value < 0 || (size.is_constant() && value >= size.constant()))
      return invalid("{}: constant index {} on axis {} is outside {}, which is {}", op, value, i - 1, name,
                     to_string(table));
  }
  return Done{};
}

}  // namespace

Result<TensorType> load(const Rule& rule) {
  const TensorType& table = rule.type(0);
  const auto count = static_cast<int64_t>(rule.node.operands.size()) - 1;
  if (count != table.rank())
    return invalid("load needs one index per axis, found {}: {}, which has rank {}", count, rule.what(0), table.rank());
  if (auto fits = check_indices(rule, table, "%" + rule.graph[rule.operand(0)].name); !fits) return fits.error();
  auto shape = broadcast_operands(rule, 1);
  if (!shape) return shape.error();
  return TensorType{table.dtype, std::move(*shape)};
}

Result<TensorType> scatter_add(const Rule& rule) {
  const TensorType& updates = rule.type(0);
  const TensorType table{updates.dtype, rule.declared.shape};
  const auto count = static_cast<int64_t>(rule.node.operands.size()) - 1;
  if (count != table.rank())
    return invalid(
        "scatter_add needs one index per axis of the result, found {}: it is annotated {}, which has rank {}", count,
        to_string(rule.declared), table.rank());
  if (size_of(updates.dtype) < 4)
    return invalid("scatter_add sums in memory and takes f64, f32, i64 or i32, but {}; insert a cast", rule.what(0));
  if (auto fits = check_indices(rule, table, "the result"); !fits) return fits.error();
  for (size_t i = 1; i < rule.node.operands.size(); ++i)
    if (broadcast(rule.type(i).shape, updates.shape) != updates.shape)
      return invalid("scatter_add: an index does not broadcast to the updates: {}, {}", rule.what(i), rule.what(0));
  return table;
}

}  // namespace infer

namespace {

Result<TensorType> apply_rule(const infer::Rule& rule) {
  switch (info(rule.node.op).group) {
    case OpGroup::leaf: return infer::leaf(rule);
    case OpGroup::pointwise: return rule.node.op == Op::load ? infer::load(rule) : infer::pointwise(rule);
    case OpGroup::view: return infer::view(rule);
    case OpGroup::reduce: return rule.node.op == Op::scatter_add ? infer::scatter_add(rule) : infer::reduce(rule);
    case OpGroup::contract: return infer::contract(rule);
    case OpGroup::sugar: break;
  }
  return infer::sugar(rule);
}

}  // namespace

Result<TensorType> infer_type(const Graph& graph, const Node& node, const TensorType& declared) {
  const OpInfo& op = info(node.op);
  const auto count = static_cast<int>(node.operands.size());
  if (count < op.min_operands || count > op.max_operands) {
    if (op.min_operands == op.max_operands)
      return invalid("{} takes {} operand{}, found {}", op.name, op.min_operands, op.min_operands == 1 ? "" : "s",
                     count);
    return invalid("{} takes {} to {} operands, found {}", op.name, op.min_operands, op.max_operands, count);
  }
  const bool may_lack = node.op == Op::softmax || node.op == Op::logsumexp || op.group == OpGroup::sugar;
  for (size_t i = 0; i < node.operands.size(); ++i) {
    const int32_t id = raw(node.operands[i]);
    if (id == raw(kNoValue) && may_lack && i > 0) continue;
    if (id < 0 || id >= static_cast<int32_t>(graph.nodes.size()))
      return invalid("{}: operand {} is no value of the graph", op.name, i);
  }
  auto type = apply_rule({graph, node, declared});
  if (!type) return type;
  if (type->rank() > kMaxRank)
    return invalid("{} gives {} of rank {}, but at most {} axes are supported", op.name, to_string(*type), type->rank(),
                   kMaxRank);
  for (const Dim& dim : type->shape)
    if (dim.is_constant() && dim.constant() < 0)
      return invalid("{} gives {}, whose size {} is negative", op.name, to_string(*type), dim.constant());
  return type;
}

}  // namespace tilewright
