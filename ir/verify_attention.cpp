#include <algorithm>
#include <set>

#include "ir/bind.h"
#include "ir/lexer.h"
#include "ir/verify.h"

namespace tilewright {
namespace {

constexpr uint32_t kBHQ = bit(Axis::b) | bit(Axis::h) | bit(Axis::q);
constexpr uint32_t kBHKV = bit(Axis::b) | bit(Axis::h) | bit(Axis::kv);
constexpr uint32_t kBHQKV = kBHQ | kBHKV;
constexpr uint32_t kRows = bit(Axis::b) | bit(Axis::h) | bit(Axis::q_lo) | bit(Axis::q_hi);
constexpr uint32_t kBlock = kRows | bit(Axis::kv_lo) | bit(Axis::kv_hi);

class SpecVerifier {
 public:
  explicit SpecVerifier(const AttentionSpec& spec) : spec_(spec) {}

  Diagnostics run() {
    check_tensors();
    check_extents();
    if (!errors_.empty()) return std::move(errors_);
    check_operands();
    check_expr("score", spec_.score, spec_.accumulate, kBHQKV | kDependsOnScore);
    check_expr("keep", spec_.keep, DType::boolean, kBHQKV);
    const KvRange& range = spec_.kv_range;
    if (!spec_.keep_kv.empty()) check_expr("keep_kv", spec_.keep_kv, DType::boolean, kBHKV);
    if (!range.begin.empty()) check_expr("kv_range begin", range.begin, DType::i64, kRows);
    if (!range.end.empty()) check_expr("kv_range end", range.end, DType::i64, kRows);
    if (!range.skip.empty()) check_expr("block skip", range.skip, DType::boolean, kBlock);
    if (!range.full.empty()) check_expr("block full", range.full, DType::boolean, kBlock);
    if (spec_.sink) check_expr("sink", *spec_.sink, spec_.accumulate, kBHQ);
    if (spec_.normaliser == Normaliser::none && (spec_.sink || spec_.logsumexp))
      fail("normaliser none has neither a sink nor a logsumexp");
    check_outputs();
    return std::move(errors_);
  }

 private:
  template <class... Args>
  void fail(fmt::format_string<Args...> text, Args&&... args) {
    errors_.add({ErrorKind::invalid, fmt::format(text, std::forward<Args>(args)...), spec_.name, 0});
  }

  const SpecTensor& tensor(const Access& access) const { return spec_.tensors[static_cast<size_t>(access.tensor)]; }
  bool known(int index) const { return index >= 0 && static_cast<size_t>(index) < spec_.tensors.size(); }

  void check_tensors() {
    if (!is_name(spec_.name)) fail("the name is not made of letters, digits, _ and .");
    std::set<std::string> names;
    std::vector<TensorType> types;
    for (const SpecTensor& t : spec_.tensors) {
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

  void check_dim(const Dim& dim, std::string_view where) {
    for (const auto& [name, coefficient] : dim.terms())
      if (!dims_.count(name)) fail("{}: dim {} is in no tensor's shape", where, name);
  }

  void check_extents() {
    for (const Dim& dim : spec_.batch) check_dim(dim, "batch");
    for (const Dim& dim : spec_.heads) check_dim(dim, "heads");
    check_dim(spec_.q_len, "q_len");
    check_dim(spec_.kv_len, "kv_len");
    if (spec_.accumulate != DType::f32 && spec_.accumulate != DType::f64)
      fail("accumulate is {}, but must be f32 or f64", to_string(spec_.accumulate));
    if (spec_.head_group < 1) fail("group {} is not a positive number", spec_.head_group);
    const auto heads = product(spec_.heads);
    if (spec_.head_group > 0 && heads && heads->is_constant() && heads->constant() % spec_.head_group != 0)
      fail("{} query heads are not a multiple of group {}", heads->constant(), spec_.head_group);
    if (spec_.dots.empty()) fail("there is no dot term");
    for (const DotTerm& dot : spec_.dots)
      if (dot.head_dim < 1) fail("head dim {} is not a positive number", dot.head_dim);
    if (spec_.value_dim < 1) fail("value dim {} is not a positive number", spec_.value_dim);
  }

  void check_operands() {
    for (const DotTerm& dot : spec_.dots) {
      const bool query = check_access("query", dot.query, kBHQ | bit(Axis::d), dot.head_dim);
      const bool key = check_access("key", dot.key, kBHKV | bit(Axis::d), dot.head_dim);
      if (key) check_grouping("key", dot.key);
      if (query) check_input("query", dot.query);
      if (key) check_input("key", dot.key);
      if (query && key && tensor(dot.query).type.dtype != tensor(dot.key).type.dtype)
        fail("query %{} is {}, but key %{} is {}", tensor(dot.query).name, to_string(tensor(dot.query).type),
             tensor(dot.key).name, to_string(tensor(dot.key).type));
    }
    if (!check_access("value", spec_.value, kBHKV | bit(Axis::d), spec_.value_dim)) return;
    check_grouping("value", spec_.value);
    check_input("value", spec_.value);
  }

  void check_input(std::string_view what, const Access& access) {
    if (!is_float(tensor(access).type.dtype))
      fail("{} %{} is {}, but must hold floats", what, tensor(access).name, to_string(tensor(access).type));
    if (tensor(access).output) fail("{} %{} is an output", what, tensor(access).name);
  }

  /// False when the access is too broken to look further.
  bool check_access(std::string_view what, const Access& access, uint32_t axes, int64_t columns) {
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

  /// The coefficient of `axis` is a constant at every node the root reaches.
  static bool is_affine(const Expr& expr, Axis axis) {
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

  /// K and V see h only divided by a multiple of the group.
  void check_grouping(std::string_view what, const Access& access) {
    if (spec_.head_group == 1) return;
    for (const Expr& expr : access.axes)
      for (const ExprNode& node : expr.nodes())
        for (size_t k = 0; k < node.args.size(); ++k) {
          const ExprNode& arg = expr[node.args[k]];
          const bool is_head = arg.kind == ExprKind::index && arg.axis == Axis::h;
          if (is_head && !divides_by_group(expr, node, k)) return fail_grouping(what, access);
        }
    for (const Expr& expr : access.axes)
      if (expr.root_node().kind == ExprKind::index && expr.root_node().axis == Axis::h) fail_grouping(what, access);
  }

  bool divides_by_group(const Expr& expr, const ExprNode& node, size_t k) const {
    if (node.kind != ExprKind::op || node.op != Op::div || k != 0) return false;
    const ExprNode& divisor = expr[node.args[1]];
    return divisor.kind == ExprKind::constant && divisor.literal.integer > 0 &&
           divisor.literal.integer % spec_.head_group == 0;
  }

  void fail_grouping(std::string_view what, const Access& access) {
    fail("{} %{} depends on h other than through div(h, {})", what, tensor(access).name, spec_.head_group);
  }

  bool check_expr(std::string_view where, const Expr& expr, DType dtype, uint32_t axes) {
    if (expr.empty() || raw(expr.root()) < 0 || static_cast<size_t>(raw(expr.root())) >= expr.nodes().size()) {
      fail("{} is missing", where);
      return false;
    }
    const size_t before = errors_.list.size();
    for (size_t i = 0; i < expr.nodes().size() && errors_.list.size() == before; ++i) check_node(where, expr, i);
    if (errors_.list.size() != before) return false;
    if (compute_type(expr.root_node().dtype) != compute_type(dtype))
      fail("{} is {}, but must be {}", where, to_string(expr.root_node().dtype), to_string(dtype));
    const uint32_t used = dependencies(expr)[static_cast<size_t>(raw(expr.root()))];
    for (int i = 0; i <= static_cast<int>(Axis::kv_hi); ++i)
      if (used & ~axes & bit(static_cast<Axis>(i)))
        fail("{} must not depend on {}", where, to_string(static_cast<Axis>(i)));
    if (used & ~axes & kDependsOnScore) fail("{} must not depend on the score", where);
    return errors_.list.size() == before;
  }

  void check_node(std::string_view where, const Expr& expr, size_t i) {
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
        if (compute_type(node.dtype) != spec_.accumulate)
          fail("{}: s is {}, but accumulate is {}", where, to_string(node.dtype), to_string(spec_.accumulate));
        return;
      default: return;
    }
  }

  void check_op(std::string_view where, const Expr& expr, const ExprNode& node) {
    const OpInfo& op = info(node.op);
    const auto count = static_cast<int>(node.args.size());
    if (op.group != OpGroup::pointwise || node.op == Op::load) return fail("{}: {} is no pointwise op", where, op.name);
    if (count != op.min_operands)
      return fail("{}: {} takes {} operands, found {}", where, op.name, op.min_operands, count);
    const size_t first = node.op == Op::select ? 1 : 0;
    if (first == 1 && expr[node.args[0]].dtype != DType::boolean)
      return fail("{}: select needs a bool condition", where);
    const DType dtype = expr[node.args[first]].dtype;
    for (size_t i = first; i < node.args.size(); ++i)
      if (compute_type(expr[node.args[i]].dtype) != compute_type(dtype))
        return fail("{}: {} needs operands of one dtype, but they are {} and {}", where, op.name, to_string(dtype),
                    to_string(expr[node.args[i]].dtype));
    const bool comparison = node.op >= Op::eq && node.op <= Op::ge;
    const DType result = comparison ? DType::boolean : dtype;
    if (node.op != Op::cast && compute_type(node.dtype) != compute_type(result))
      fail("{}: {} of {} gives {}, but it is declared {}", where, op.name, to_string(dtype), to_string(result),
           to_string(node.dtype));
  }

  void check_load(std::string_view where, const Expr& expr, const ExprNode& node) {
    if (!known(node.tensor)) return fail("{}: a load names no tensor", where);
    const SpecTensor& t = spec_.tensors[static_cast<size_t>(node.tensor)];
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

  void check_outputs() {
    if (check_access("output", spec_.output, kBHQ | bit(Axis::d), spec_.value_dim))
      check_output("output", spec_.output);
    if (spec_.logsumexp && check_access("logsumexp", *spec_.logsumexp, kBHQ, 0))
      check_output("logsumexp", *spec_.logsumexp);
    for (size_t i = 0; i < spec_.tensors.size(); ++i) {
      const auto index = static_cast<int>(i);
      const bool written = spec_.output.tensor == index || (spec_.logsumexp && spec_.logsumexp->tensor == index);
      if (spec_.tensors[i].output && !written) fail("the output %{} is never written", spec_.tensors[i].name);
    }
    if (spec_.logsumexp && spec_.logsumexp->tensor == spec_.output.tensor) fail("output and logsumexp are one tensor");
  }

  void check_output(std::string_view what, const Access& access) {
    if (!tensor(access).output) fail("{} %{} is not marked out", what, tensor(access).name);
    if (!is_float(tensor(access).type.dtype))
      fail("{} %{} is {}, but must hold floats", what, tensor(access).name, to_string(tensor(access).type));
  }

  const AttentionSpec& spec_;
  Diagnostics errors_;
  std::set<std::string> dims_;
};

}  // namespace

Diagnostics verify(const AttentionSpec& spec) { return SpecVerifier(spec).run(); }

}  // namespace tilewright
