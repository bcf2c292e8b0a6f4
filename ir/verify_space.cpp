#include "ir/verify_space.h"

#include <algorithm>

#include "ir/bind.h"
#include "ir/lexer.h"

namespace tilewright {

void SpaceVerifier::check_space() {
  check_tensors();
  check_extents();
}

void SpaceVerifier::check_tensors() {
  if (!is_name(space_.name)) fail("the name is not made of letters, digits, _ and .");
  std::set<std::string> names;
  std::vector<TensorType> types;
  for (const SpecTensor& t : space_.tensors) {
    if (!is_name(t.name)) fail("the tensor name \"{}\" is not made of letters, digits, _ and .", t.name);
    if (!names.insert(t.name).second) fail("the tensor %{} is listed twice", t.name);
    if (t.type.rank() > kMaxRank)
      fail("%{} has rank {}, but at most {} axes are supported", t.name, t.type.rank(), kMaxRank);
    types.push_back(t.type);
  }
  for (const std::string& name : unsolvable_dims(types)) fail("dim {} cannot be determined from any tensor", name);
  for (const TensorType& type : types)
    for (const Dim& dim : type.shape)
      for (const auto& [name, coefficient] : dim.terms()) dims_.insert(name);
}

void SpaceVerifier::check_dim(const Dim& dim, std::string_view where) {
  for (const auto& [name, coefficient] : dim.terms())
    if (!dims_.count(name)) fail("{}: dim {} is in no tensor's shape", where, name);
}

void SpaceVerifier::check_extents() {
  for (const Dim& dim : space_.batch) check_dim(dim, "batch");
  for (const Dim& dim : space_.heads) check_dim(dim, "heads");
  check_dim(space_.q_len, "q_len");
  check_dim(space_.kv_len, "kv_len");
  if (space_.accumulate != DType::f32 && space_.accumulate != DType::f64)
    fail("accumulate is {}, but must be f32 or f64", to_string(space_.accumulate));
  if (space_.accumulate == DType::f64 && space_.precision != PrecisionPolicy::f32)
    fail("precision is {}, but products are accumulated in f64, which no policy narrows", to_string(space_.precision));
  if (space_.head_group < 1) fail("group {} is not a positive number", space_.head_group);
  const auto heads = product(space_.heads);
  if (space_.head_group > 0 && heads && heads->is_constant() && heads->constant() % space_.head_group != 0)
    fail("{} query heads are not a multiple of group {}", heads->constant(), space_.head_group);
  if (space_.dots.empty()) fail("there is no dot term");
  for (const DotTerm& dot : space_.dots) check_columns("head dim", dot.head_dim);
}

void SpaceVerifier::check_product(std::string_view query_name, std::string_view key_name, const DotTerm& term) {
  const bool query = check_operand(query_name, term.query, term.query_row, kBHQ, term.head_dim);
  const bool key = check_operand(key_name, term.key, term.key_row, kBHKV, term.head_dim);
  if (key && !term.key_row) check_grouping(key_name, term.key);
  if (key && term.key_row) check_grouping("the", fmt::format("{} row", key_name), term.key_row->values);
  if (term.query_row || term.key_row) return;  // computed rows are of `accumulate`, whatever they read
  if (query && key && tensor(term.query).type.dtype != tensor(term.key).type.dtype)
    fail("{} %{} is {}, but {} %{} is {}", query_name, tensor(term.query).name, to_string(tensor(term.query).type),
         key_name, tensor(term.key).name, to_string(tensor(term.key).type));
}

void SpaceVerifier::check_masks() {
  check_expr("keep", space_.keep, DType::boolean, kBHQKV);
  const KvRange& range = space_.kv_range;
  if (!space_.keep_kv.empty()) check_expr("keep_kv", space_.keep_kv, DType::boolean, kBHKV);
  if (!range.begin.empty()) check_expr("kv_range begin", range.begin, DType::i64, kRows);
  if (!range.end.empty()) check_expr("kv_range end", range.end, DType::i64, kRows);
  if (!range.skip.empty()) check_expr("block skip", range.skip, DType::boolean, kBlock);
  if (!range.full.empty()) check_expr("block full", range.full, DType::boolean, kBlock);
}

void SpaceVerifier::check_input(std::string_view what, const Access& access) {
  if (!is_float(tensor(access).type.dtype))
    fail("{} %{} is {}, but must hold floats", what, tensor(access).name, to_string(tensor(access).type));
  if (tensor(access).output) fail("{} %{} is an output", what, tensor(access).name);
}

bool SpaceVerifier::check_access(std::string_view what, const Access& access, uint32_t axes, int64_t columns) {
  if (!known(access.tensor)) {
    fail("{} names no tensor", what);
    return false;
  }
  const SpecTensor& t = tensor(access);
  if (static_cast<int64_t>(access.axes.size()) != t.type.rank()) {
    fail("{} gives {} indices, but %{} is {}", what, access.axes.size(), t.name, to_string(t.type));
    return false;
  }
  const size_t before = errors_.list.size();
  for (size_t i = 0; i < access.axes.size(); ++i) {
    const std::string where = fmt::format("{} %{} axis {}", what, t.name, i);
    if (!check_expr(where, access.axes[i], DType::i64, axes)) continue;
    for (const Axis axis : {Axis::q, Axis::kv, Axis::d})
      if (!is_affine(access.axes[i], axis))
        fail("{}: {} does not enter affinely, so that it has no stride", where, to_string(axis));
    const Dim& size = t.type.shape[i];
    const ExprNode& root = access.axes[i].root_node();
    if (root.kind == ExprKind::index && root.axis == Axis::d && size.is_constant() && size.constant() < columns)
      fail("{}: {} columns are read, but %{} is {}", where, columns, t.name, to_string(t.type));
  }
  return errors_.list.size() == before;
}

bool SpaceVerifier::is_affine(const Expr& expr, Axis axis) {
  const std::vector<uint32_t> depends = dependencies(expr);
  for (size_t i = 0; i < expr.nodes().size(); ++i) {
    const ExprNode& node = expr.nodes()[i];
    if (!(depends[i] & bit(axis)) || node.kind == ExprKind::index) continue;
    if (node.kind != ExprKind::op) return false;
    if (node.op == Op::add || node.op == Op::sub || node.op == Op::neg) continue;
    if (node.op != Op::mul) return false;
    const bool constant_factor = std::any_of(node.args.begin(), node.args.end(), [&](ExprId arg) {
      return expr[arg].kind == ExprKind::constant || expr[arg].kind == ExprKind::dim;
    });
    if (!constant_factor) return false;
  }
  return true;
}

void SpaceVerifier::check_grouping(std::string_view what, const Access& access) {
  const std::string name = "%" + tensor(access).name;
  for (const Expr& expr : access.axes)
    if (!check_grouping(what, name, expr)) return;
  for (const Expr& expr : access.axes)
    if (expr.root_node().kind == ExprKind::index && expr.root_node().axis == Axis::h && space_.head_group > 1)
      fail_grouping(what, name);
}

bool SpaceVerifier::check_grouping(std::string_view what, std::string_view name, const Expr& expr) {
  if (space_.head_group == 1) return true;
  for (const ExprNode& node : expr.nodes())
    for (size_t k = 0; k < node.args.size(); ++k) {
      const ExprNode& arg = expr[node.args[k]];
      const bool is_head = arg.kind == ExprKind::index && arg.axis == Axis::h;
      if (!is_head || divides_by_group(expr, node, k)) continue;
      fail_grouping(what, name);
      return false;
    }
  return true;
}

bool SpaceVerifier::divides_by_group(const Expr& expr, const ExprNode& node, size_t k) const {
  if (node.kind != ExprKind::op || node.op != Op::div || k != 0) return false;
  const ExprNode& divisor = expr[node.args[1]];
  return divisor.kind == ExprKind::constant && divisor.literal.integer > 0 &&
         divisor.literal.integer % space_.head_group == 0;
}

void SpaceVerifier::fail_grouping(std::string_view what, std::string_view name) {
  fail("{} {} depends on h other than through div(h, {})", what, name, space_.head_group);
}

bool SpaceVerifier::check_expr(std::string_view where, const Expr& expr, DType dtype, uint32_t axes) {
  return check_nodes(where, expr) && check_root(where, expr, expr.root(), dtype, axes);
}

bool SpaceVerifier::check_nodes(std::string_view where, const Expr& expr) {
  const size_t before = errors_.list.size();
  for (size_t i = 0; i < expr.nodes().size() && errors_.list.size() == before; ++i) check_node(where, expr, i);
  return errors_.list.size() == before;
}

bool SpaceVerifier::check_root(std::string_view where, const Expr& expr, ExprId root, DType dtype, uint32_t axes) {
  if (raw(root) < 0 || static_cast<size_t>(raw(root)) >= expr.nodes().size()) {
    fail("{} is missing", where);
    return false;
  }
  const size_t before = errors_.list.size();
  if (compute_type(expr[root].dtype) != compute_type(dtype))
    fail("{} is {}, but must be {}", where, to_string(expr[root].dtype), to_string(dtype));
  const uint32_t used = dependencies(expr)[static_cast<size_t>(raw(root))];
  for (int i = 0; i <= static_cast<int>(Axis::kv_hi); ++i)
    if (used & ~axes & bit(static_cast<Axis>(i)))
      fail("{} must not depend on {}", where, to_string(static_cast<Axis>(i)));
  if (used & ~axes & kDependsOnScore) fail("{} must not depend on the score", where);
  if ((axes & kDependsOnScore) && (used & ~axes & kDependsOnT))
    fail("{} reads t, which only a backward pass has", where);
  return errors_.list.size() == before;
}

void SpaceVerifier::check_node(std::string_view where, const Expr& expr, size_t i) {
  const ExprNode& node = expr.nodes()[i];
  for (const ExprId arg : node.args)
    if (raw(arg) < 0 || static_cast<size_t>(raw(arg)) >= i)
      return fail("{}: an operand does not come before its use", where);
  switch (node.kind) {
    case ExprKind::op: return check_op(where, expr, node);
    case ExprKind::dim: return check_dim(node.dim, where);
    case ExprKind::load:
    case ExprKind::load_min:
    case ExprKind::load_max: return check_load(where, expr, node);
    case ExprKind::score:
      if (compute_type(node.dtype) != space_.accumulate)
        fail("{}: {} is {}, but accumulate is {}", where, node.product == 0 ? "s" : "t", to_string(node.dtype),
             to_string(space_.accumulate));
      return;
    default: return;
  }
}

void SpaceVerifier::check_op(std::string_view where, const Expr& expr, const ExprNode& node) {
  const OpInfo& op = info(node.op);
  const auto count = static_cast<int>(node.args.size());
  if (op.group != OpGroup::pointwise || node.op == Op::load) return fail("{}: {} is no pointwise op", where, op.name);
  if (count != op.min_operands)
    return fail("{}: {} takes {} operands, found {}", where, op.name, op.min_operands, count);
  const size_t first = node.op == Op::select ? 1 : 0;
  if (first == 1 && expr[node.args[0]].dtype != DType::boolean) return fail("{}: select needs a bool condition", where);
  const DType dtype = expr[node.args[first]].dtype;
  for (size_t i = first; i < node.args.size(); ++i)
    if (compute_type(expr[node.args[i]].dtype) != compute_type(dtype))
      return fail("{}: {} needs operands of one dtype, but they are {} and {}", where, op.name, to_string(dtype),
                  to_string(expr[node.args[i]].dtype));
  if (node.op == Op::random_bits && dtype != DType::i64)
    return fail("{}: random_bits needs i64 operands, but they are {}", where, to_string(dtype));
  const bool comparison = node.op >= Op::eq && node.op <= Op::ge;
  const DType result = comparison ? DType::boolean : dtype;
  if (node.op != Op::cast && compute_type(node.dtype) != compute_type(result))
    fail("{}: {} of {} gives {}, but it is declared {}", where, op.name, to_string(dtype), to_string(result),
         to_string(node.dtype));
}

void SpaceVerifier::check_load(std::string_view where, const Expr& expr, const ExprNode& node) {
  if (!known(node.tensor)) return fail("{}: a load names no tensor", where);
  const SpecTensor& t = space_.tensors[static_cast<size_t>(node.tensor)];
  const int64_t indices = static_cast<int64_t>(node.args.size()) / (node.kind == ExprKind::load ? 1 : 2);
  if (indices != t.type.rank())
    return fail("{}: a load gives {} indices, but %{} is {}", where, indices, t.name, to_string(t.type));
  if (node.dtype != t.type.dtype)
    fail("{}: a load is {}, but %{} is {}", where, to_string(node.dtype), t.name, to_string(t.type));
  if (t.output) fail("{}: %{} is an output and cannot be loaded", where, t.name);
  for (const ExprId arg : node.args)
    if (!is_integer(expr[arg].dtype))
      return fail("{}: an index into %{} is {}", where, t.name, to_string(expr[arg].dtype));
}

void SpaceVerifier::check_columns(std::string_view what, int64_t columns) {
  if (columns < 1) fail("{} {} is not a positive number", what, columns);
}

void SpaceVerifier::check_output(std::string_view what, const Access& access) {
  if (!tensor(access).output) fail("{} %{} is not marked out", what, tensor(access).name);
  if (!is_float(tensor(access).type.dtype))
    fail("{} %{} is {}, but must hold floats", what, tensor(access).name, to_string(tensor(access).type));
}

}  // namespace tilewright
