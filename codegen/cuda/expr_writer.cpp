#include "codegen/cuda/expr_writer.h"

#include <cmath>

#include "codegen/pointwise.h"

namespace tilewright::cuda {
namespace {

constexpr int kName = 1, kUnary = 3, kProduct = 5, kSum = 6, kShift = 7, kRelation = 9, kEquality = 10, kBitAnd = 11,
              kBitXor = 12, kBitOr = 13, kAnd = 14, kOr = 15, kChoice = 16;
/// Longer text gets a name even where it is used once.
constexpr size_t kLongText = 56;
constexpr int64_t kMaxIndex = (int64_t{1} << 30) - 1;

Term::Kind kind_of(DType dtype, IntRange range) {
  switch (dtype) {
    case DType::f64: return Term::f64;
    case DType::f32:
    case DType::f16:
    case DType::bf16: return Term::f32;
    case DType::i64: return range.within(INT32_MIN, INT32_MAX) ? Term::i32 : Term::i64;
    case DType::i32:
    case DType::i8: return Term::i32;
    case DType::boolean: break;
  }
  return Term::boolean;
}

std::string_view name_of(Term::Kind kind) {
  switch (kind) {
    case Term::boolean: return "bool";
    case Term::i32: return "i32";
    case Term::i64: return "i64";
    case Term::f32: return "float";
    case Term::f64: break;
  }
  return "double";
}

Term integer_literal(int64_t value, Term::Kind kind) {
  if (kind == Term::boolean) return {value ? "true" : "false", kName, kind};
  if (value == INT64_MIN) return {"(-9223372036854775807ll - 1)", kName, kind};
  if (value == INT32_MIN) return {"(-2147483647 - 1)", kName, kind};
  const bool is_long = value < INT32_MIN || value > INT32_MAX;
  return {fmt::format("{}{}", value, is_long ? "ll" : ""), value < 0 ? kUnary : kName, kind};
}

/// Operators group to the left: the right operand needs parentheses at its own level.
Term binary(std::string_view sign, int precedence, const Term& a, const Term& b, Term::Kind kind) {
  return {fmt::format("{} {} {}", within(a, precedence), sign, within(b, precedence - 1)), precedence, kind};
}

/// Mixed logic is always parenthesised, as compilers ask for.
Term logical(std::string_view sign, int precedence, const Term& a, const Term& b) {
  const auto operand = [&](const Term& term) {
    return within(term, term.precedence == precedence ? precedence : kEquality);
  };
  return {fmt::format("{} {} {}", operand(a), sign, operand(b)), precedence, Term::boolean};
}

template <class... Args>
Term call(Term::Kind kind, std::string_view function, const Args&... args) {
  std::string list;
  ((list += (list.empty() ? "" : ", ") + args.text), ...);
  return {fmt::format("{}({})", function, list), kName, kind};
}

/// The builder that PointwiseWalker drives.
class TextBuilder {
 public:
  using Operand = Term;

  TextBuilder(DeviceNames& names, const AxisNames& axes, const Expr& expr, const std::vector<ExprId>& roots)
      : names_(names), axes_(axes), expr_(expr), ranges_(device_ranges(expr)), uses_(expr.nodes().size()) {
    for (const ExprNode& node : expr.nodes())
      for (const ExprId arg : node.args) ++uses_[index_of(arg)];
    for (const ExprId root : roots) ++uses_[index_of(root)];
    for (const ExprId root : roots)
      if (uses_[index_of(root)] == 1) uses_[index_of(root)] = kOnlyRoot;
  }

  std::string lines;

  bool ready(ExprId, uint32_t) const { return false; }
  void stage(ExprId, const std::vector<std::optional<Term>>&) {}
  Term finish(ExprId, const Term& value) { return value; }

  Term constant(ExprId id) {
    const ExprNode& n = node(id);
    return is_float(n.dtype) ? real_literal(n.literal.real, kind(id)) : integer_literal(n.literal.integer, kind(id));
  }
  Term index(ExprId id) {
    const std::string& name = axes_[node(id).axis];
    TW_CHECK(!name.empty() && "an axis that this function has");
    return {name, kName, Term::i32};
  }
  Term dim(ExprId id) { return write_dim(names_, node(id).dim); }
  Term score(ExprId id) { return {node(id).product == 0 ? "s" : "t", kName, kind(id)}; }

  Term load(ExprId id, const std::vector<Term>& args) {
    return named(id, {load_call(names_.load(node(id).tensor, node(id).in_bounds), args), kName, kind(id)},
                 names_.tensor(node(id).tensor));
  }
  Term load_extreme(ExprId id, const std::vector<Term>& args) {
    const bool least = node(id).kind == ExprKind::load_min;
    return named(id, {load_call(names_.extreme(node(id).tensor, least), args), kName, kind(id)},
                 fmt::format("{}_{}", least ? "min" : "max", names_.tensor(node(id).tensor)));
  }

  Term real(ExprId id, Op op, const std::vector<Term>& args) {
    const Term::Kind k = kind(id);
    const Term &a = args[0], &b = args.size() > 1 ? args[1] : args[0];
    switch (op) {
      case Op::add: return inlined(id, binary("+", kSum, a, b, k));
      case Op::sub: return inlined(id, binary("-", kSum, a, b, k));
      case Op::mul: return inlined(id, binary("*", kProduct, a, b, k));
      case Op::div: return inlined(id, binary("/", kProduct, a, b, k));
      case Op::neg: return inlined(id, negated(a, k));
      case Op::mod:
      case Op::min:
      case Op::max: return named(id, call(k, fmt::format("real_{}", info(op).name), a, b));
      default: return named(id, call(k, fmt::format("real_{}", info(op).name), a));
    }
  }

  Term integer(ExprId id, Op op, const std::vector<Term>& args);

  Term logic(ExprId id, Op op, const std::vector<Term>& args) {
    const Term &a = args[0], &b = args.size() > 1 ? args[1] : args[0];
    switch (op) {
      case Op::logical_and:
      case Op::min:
      case Op::mul: return inlined(id, logical("&&", kAnd, a, b));
      case Op::logical_or:
      case Op::max:
      case Op::add: return inlined(id, logical("||", kOr, a, b));
      case Op::logical_xor: return inlined(id, binary("!=", kEquality, a, b, Term::boolean));
      case Op::logical_not: return inlined(id, {"!" + within(a, kUnary), kUnary, Term::boolean});
      default: TW_CHECK(!"a bool op");
    }
    return {};
  }

  Term compare_real(ExprId id, Op op, const std::vector<Term>& args) { return compare(id, op, args[0], args[1]); }
  Term compare_integer(ExprId id, Op op, const std::vector<Term>& args) { return compare(id, op, args[0], args[1]); }
  Term compare_logic(ExprId id, Op op, const std::vector<Term>& args) {
    return compare(id, op, converted(args[0], Term::i32), converted(args[1], Term::i32));
  }

  Term select(ExprId id, const std::vector<Term>& args) {
    const Term::Kind k = kind(id);
    return named(id, {fmt::format("{} ? {} : {}", within(args[0], kOr), within(converted(args[1], k), kOr),
                                  within(converted(args[2], k), kOr)),
                      kChoice, k});
  }

  Term convert(ExprId id, DType from, const Term& arg) {
    const DType to = node(id).dtype;
    if (to == DType::boolean && from != DType::boolean)
      return inlined(id, binary("!=", kEquality, arg, {"0", kName, arg.kind}, Term::boolean));
    if (is_float(from) && is_integer(to)) return named(id, call(kind(id), fmt::format("to_{}", to_string(to)), arg));
    const bool wraps = is_integer(from) && !argument_range(id, 0).within(range(id).lo, range(id).hi);
    if (wraps && to == DType::i8) return named(id, call(Term::i32, "wrap_i8", arg));
    return inlined(id, converted(arg, kind(id)));
  }

 private:
  static constexpr int kOnlyRoot = -1;

  static size_t index_of(ExprId id) { return static_cast<size_t>(raw(id)); }
  const ExprNode& node(ExprId id) const { return expr_[id]; }
  IntRange range(ExprId id) const { return ranges_[index_of(id)]; }
  IntRange argument_range(ExprId id, size_t i) const { return range(node(id).args[i]); }
  Term::Kind kind(ExprId id) const { return kind_of(node(id).dtype, range(id)); }

  std::string load_call(const std::string& function, const std::vector<Term>& args) const {
    std::string text = function + "(args";
    for (const Term& arg : args) text += ", " + arg.text;
    return text + ")";
  }

  Term negated(const Term& a, Term::Kind k) const {
    return {a.text.starts_with('-') ? "-(" + a.text + ")" : "-" + within(a, kUnary), kUnary, k};
  }

  /// In its place, unless it is used more than once or long.
  Term inlined(ExprId id, Term value) {
    const int uses = uses_[index_of(id)];
    const bool leaf = value.text.find_first_of(" (") == std::string::npos;
    if (leaf || uses == kOnlyRoot || (uses == 1 && value.text.size() <= kLongText)) return value;
    return define(std::move(value), "v");
  }
  /// By name, unless it is the result.
  Term named(ExprId id, Term value, const std::string& stem = "v") {
    if (uses_[index_of(id)] == kOnlyRoot) return value;
    return define(std::move(value), stem);
  }
  Term define(Term value, const std::string& stem) {
    const std::string name = fmt::format("{}_{}", stem, defined_++);
    lines += fmt::format("  const {} {} = {};\n", name_of(value.kind), name, value.text);
    return {name, kName, value.kind};
  }

  Term compare(ExprId id, Op op, const Term& a, const Term& b) {
    switch (op) {
      case Op::eq: return inlined(id, binary("==", kEquality, a, b, Term::boolean));
      case Op::ne: return inlined(id, binary("!=", kEquality, a, b, Term::boolean));
      case Op::lt: return inlined(id, binary("<", kRelation, a, b, Term::boolean));
      case Op::le: return inlined(id, binary("<=", kRelation, a, b, Term::boolean));
      case Op::gt: return inlined(id, binary(">", kRelation, a, b, Term::boolean));
      case Op::ge: return inlined(id, binary(">=", kRelation, a, b, Term::boolean));
      default: TW_CHECK(!"a comparison");
    }
    return {};
  }

  DeviceNames& names_;
  const AxisNames& axes_;
  const Expr& expr_;
  std::vector<IntRange> ranges_;
  std::vector<int> uses_;
  int defined_ = 0;
};

/// Plain operators where the result provably lies within the declared type, named functions that wrap elsewhere.
Term TextBuilder::integer(ExprId id, Op op, const std::vector<Term>& args) {
  const DType dtype = node(id).dtype;
  if (op == Op::random_bits) {
    names_.draw_random();
    return named(id, call(Term::i64, "random_bits", args[0], args[1], args[2], args[3], args[4]));
  }
  const Term::Kind result = kind(id);
  // Where all lies in 32 bits, 32 bits compute it.
  Term::Kind wide = result;
  for (const Term& arg : args) wide = std::max(wide, arg.kind);
  const Term a = converted(args[0], wide), b = args.size() > 1 ? converted(args[1], wide) : a;
  const bool wraps = range(id) == full_range(dtype);
  const auto finished = [&](Term value) {
    if (dtype == DType::i8 && wraps) return named(id, call(Term::i32, "wrap_i8", value));
    const Term narrow = converted(value, result);
    return inlined(id, narrow);
  };
  const auto ring = [&](std::string_view sign, int precedence) {
    if (wraps && dtype != DType::i8) return named(id, call(wide, fmt::format("int_{}", info(op).name), a, b));
    return finished(binary(sign, precedence, a, b, wide));
  };
  const auto bitwise = [&](std::string_view sign, int precedence) {
    const auto operand = [&](const Term& term) { return within(term, kUnary); };
    return inlined(id, {fmt::format("{} {} {}", operand(a), sign, operand(b)), precedence, wide});
  };
  switch (op) {
    case Op::add: return ring("+", kSum);
    case Op::sub: return ring("-", kSum);
    case Op::mul: return ring("*", kProduct);
    case Op::logical_and: return bitwise("&", kBitAnd);
    case Op::logical_or: return bitwise("|", kBitOr);
    case Op::logical_xor: return bitwise("^", kBitXor);
    case Op::logical_not: return inlined(id, {"~" + within(a, kUnary), kUnary, wide});
    case Op::neg:
      if (wraps && dtype != DType::i8) return named(id, call(wide, "int_neg", a));
      return finished(negated(a, wide));
    case Op::div:
    case Op::mod: {
      const bool plain = argument_range(id, 0).lo >= 0 && argument_range(id, 1).lo > 0;
      if (plain) return finished(binary(op == Op::div ? "/" : "%", kProduct, a, b, wide));
      break;
    }
    case Op::shl:
    case Op::shr:
      // Counts are modulo the declared width.
      if (dtype == DType::i8)
        return named(id, call(Term::i32, "wrap_i8",
                              Term{fmt::format("{} {} ({} & 7)", within(a, kSum), op == Op::shl ? "<<" : ">>", b.text),
                                   kShift, wide}));
      {
        const Term::Kind declared = dtype == DType::i64 ? Term::i64 : Term::i32;
        Term value =
            call(declared, fmt::format("int_{}", info(op).name), converted(a, declared), converted(b, declared));
        return named(id, converted(value, result));
      }
    default: break;
  }
  const std::string function = fmt::format("int_{}", info(op).name);
  Term value = args.size() > 1 ? call(wide, function, a, b) : call(wide, function, a);
  if (dtype == DType::i8 && wraps) value = call(Term::i32, "wrap_i8", value);
  return named(id, converted(value, result));
}

}  // namespace

std::string AxisNames::parameters() const {
  std::string text;
  for (const std::string& name : names_)
    if (!name.empty()) text += ", i32 " + name;
  return text;
}

std::string within(const Term& term, int precedence) {
  return term.precedence <= precedence ? term.text : "(" + term.text + ")";
}

std::string indented(std::string_view lines) {
  std::string text;
  while (!lines.empty()) {
    const size_t end = std::min(lines.find('\n'), lines.size() - 1);
    text += fmt::format("  {}", lines.substr(0, end + 1));
    lines.remove_prefix(end + 1);
  }
  return text;
}

Term converted(Term term, Term::Kind to) {
  if (term.kind == to) return term;
  return {fmt::format("{}({})", name_of(to), term.text), kName, to};
}

Term real_literal(double value, Term::Kind kind) {
  const bool single = kind == Term::f32;
  const auto infinite = [&](std::string_view text) {
    return single ? Term{std::string(text), kUnary, kind} : Term{fmt::format("double({})", text), kName, kind};
  };
  if (std::isnan(value)) return infinite("quiet_nan()");
  if (single) value = static_cast<float>(value);
  if (std::isinf(value)) return infinite(value < 0 ? "neg_inf()" : "-neg_inf()");
  std::string text = single ? fmt::format("{}", static_cast<float>(value)) : fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  if (single) text += "f";
  return {text, std::signbit(value) ? kUnary : kName, kind};
}

Term write_dim(const DeviceNames& names, const Dim& dim) {
  __int128 low = dim.constant(), high = low;
  for (const auto& [name, coefficient] : dim.terms())
    (coefficient > 0 ? high : low) += static_cast<__int128>(coefficient) * kMaxIndex;
  const bool small = low >= INT32_MIN && high <= INT32_MAX;
  const Term::Kind kind = small ? Term::i32 : Term::i64;
  Term sum;
  for (const auto& [name, coefficient] : dim.terms()) {
    Term term = converted({names.dim(name), kName, Term::i32}, kind);
    const int64_t magnitude = std::abs(coefficient);
    if (magnitude != 1) term = binary("*", kProduct, integer_literal(magnitude, kind), term, kind);
    if (sum.text.empty())
      sum = coefficient > 0 ? term : Term{"-" + within(term, kUnary), kUnary, kind};
    else
      sum = binary(coefficient > 0 ? "+" : "-", kSum, sum, term, kind);
  }
  if (sum.text.empty()) return integer_literal(dim.constant(), kind);
  if (dim.constant() > 0) return binary("+", kSum, sum, integer_literal(dim.constant(), kind), kind);
  if (dim.constant() < 0) return binary("-", kSum, sum, integer_literal(-dim.constant(), kind), kind);
  return sum;
}

std::vector<IntRange> device_ranges(const Expr& expr) {
  std::vector<IntRange> ranges;
  for (const ExprNode& node : expr.nodes()) {
    IntRange range;
    if (is_integer_or_bool(node.dtype)) {
      range = full_range(node.dtype);
      switch (node.kind) {
        case ExprKind::constant: range = {node.literal.integer, node.literal.integer}; break;
        case ExprKind::index: range = {0, kMaxIndex}; break;
        case ExprKind::dim: {
          __int128 low = node.dim.constant(), high = low;
          for (const auto& [name, coefficient] : node.dim.terms())
            (coefficient > 0 ? high : low) += static_cast<__int128>(coefficient) * kMaxIndex;
          if (low >= INT64_MIN && high <= INT64_MAX) range = {static_cast<int64_t>(low), static_cast<int64_t>(high)};
          break;
        }
        case ExprKind::op: {
          std::vector<IntRange> args;
          for (const ExprId arg : node.args) args.push_back(ranges[static_cast<size_t>(raw(arg))]);
          range = range_of_op(node.op, node.dtype, expr[node.args[0]].dtype, args);
          break;
        }
        default: break;
      }
    }
    ranges.push_back(range);
  }
  return ranges;
}

WrittenRoots write_roots(DeviceNames& names, const AxisNames& axes, const Expr& expr,
                         const std::vector<ExprId>& roots) {
  std::vector<ExprId> kept = roots;
  std::vector<ExprId*> pointers;
  for (ExprId& root : kept) pointers.push_back(&root);
  const Expr pruned = expr.pruned(pointers);
  TextBuilder builder(names, axes, pruned, kept);
  PointwiseWalker<TextBuilder> walker(builder, pruned);
  std::vector<Term> values = walker.roots(kept);
  return {std::move(builder.lines), std::move(values)};
}

std::string write_body(DeviceNames& names, const AxisNames& axes, const Expr& expr, DType result) {
  const WrittenRoots written = write_roots(names, axes, expr, {expr.root()});
  const Term::Kind kind = kind_of(result, full_range(result));
  return fmt::format("{}  return {};\n", written.lines, converted(written.roots[0], kind).text);
}

}  // namespace tilewright::cuda
