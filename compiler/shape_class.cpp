#include "compiler/shape_class.h"

#include <algorithm>

#include "compiler/contract_axes.h"
#include "compiler/passes.h"

namespace tilewright {
namespace {

uint32_t root_dependencies(const Expr& expr) {
  const auto depends = dependencies(expr);
  return depends.empty() || raw(expr.root()) < 0 ? 0 : depends[static_cast<size_t>(raw(expr.root()))];
}

bool reads_tensors(const Expr& expr) {
  return std::ranges::any_of(expr.nodes(), [](const ExprNode& node) { return node.tensor >= 0; });
}

bool is_literal(const Expr& expr) { return expr.empty() || expr.root_node().kind == ExprKind::constant; }

void add_word(std::string& list, std::string_view word) { list += fmt::format("{}{}", list.empty() ? "" : "+", word); }

/// Which work the mask leaves out, and how blocks are told apart.
std::string mask_shape(const ScoreSpace& space) {
  constexpr uint32_t kMoves = bit(Axis::q_lo) | bit(Axis::q_hi) | bit(Axis::q);
  std::string shape;
  if (root_dependencies(space.kv_range.begin) & kMoves) add_word(shape, "begin");
  if (root_dependencies(space.kv_range.end) & kMoves) add_word(shape, "end");
  if (!is_literal(space.kv_range.skip)) add_word(shape, "skip");
  if (reads_tensors(space.keep)) add_word(shape, "reads");
  if (shape.empty() && !space.keep.empty() && !space.keep.is_constant_true()) add_word(shape, "partial");
  return shape.empty() ? "none" : shape;
}

/// How much score code there is: its ops by powers of two, and whether it streams something as large as the scores.
std::string code_shape(const Expr& expr) {
  const auto ops = std::ranges::count_if(expr.nodes(), [](const ExprNode& node) { return node.kind == ExprKind::op; });
  int64_t size = 1;
  while (size < ops) size *= 2;
  std::string shape = ops == 0 ? "plain" : fmt::format("ops{}", size);
  const auto depends = dependencies(expr);
  bool streams = false;
  for (size_t i = 0; i < depends.size(); ++i)
    streams |= expr.nodes()[i].kind == ExprKind::load && depends[i] & bit(Axis::q) && depends[i] & bit(Axis::kv);
  if (streams)
    add_word(shape, "streams");
  else if (reads_tensors(expr))
    add_word(shape, "reads");
  return shape;
}

std::string_view stored_dtype(const ScoreSpace& space, const Access& access) {
  return access.tensor < 0 ? "rows" : to_string(space.tensors[static_cast<size_t>(access.tensor)].type.dtype);
}

std::string attention_text(const TileProgram& program) {
  const AttentionSpec& spec = program.spec;
  std::string dtypes, dims;
  for (const DotTerm& dot : spec.dots) {
    dtypes += fmt::format("q {} k {} ", stored_dtype(spec, dot.query), stored_dtype(spec, dot.key));
    dims += fmt::format("{}{}", dims.empty() ? "" : "+", dot.head_dim);
  }
  std::string score = code_shape(leading_scale(program.score).expr);
  if (spec.weight_factor) add_word(score, "factor");
  if (spec.normaliser == Normaliser::none) add_word(score, "unnormalised");
  return fmt::format("{}v {} in {} | d {}/{} group {} | mask {} | score {}", dtypes, stored_dtype(spec, spec.value),
                     to_string(spec.accumulate), dims, spec.value_dim, spec.head_group, mask_shape(spec), score);
}

std::string backward_text(const BackwardSpec& spec) {
  std::string dtypes, dims;
  for (const DotTerm& dot : spec.dots) {
    dtypes += fmt::format("q {} k {} ", stored_dtype(spec, dot.query), stored_dtype(spec, dot.key));
    dims += fmt::format("{}{}", dims.empty() ? "" : "+", dot.head_dim);
  }
  if (spec.output_gradient) {
    dtypes += fmt::format("do {} ", stored_dtype(spec, spec.output_gradient->query));
    dims += fmt::format("/{}", spec.output_gradient->head_dim);
  }
  return fmt::format("{}in {} | d {} group {} | mask {} | weights {} | {} rows {} columns {} captured", dtypes,
                     to_string(spec.accumulate), dims, spec.head_group, mask_shape(spec), code_shape(spec.weights),
                     spec.rows.size(), spec.columns.size(), spec.captured.size());
}

/// Columns and depth of a product are what its blocks are fitted to: they stand in the key as they are.
std::string product_text(const LoopStep& step) {
  const ContractAxes axes = contract_axes(step);
  const auto extent = [&](int axis) {
    const Dim& dim = step.extents[static_cast<size_t>(axis)];
    return dim.is_constant() ? std::to_string(dim.constant()) : std::string("?");
  };
  const auto operand = [&](const Expr& expr) {
    std::string dtypes;
    for (const ExprNode& node : expr.nodes())
      if (node.kind == ExprKind::load)
        add_word(dtypes, to_string(step.tensors[static_cast<size_t>(node.tensor)].type.dtype));
    return dtypes + (innermost(expr, axes.depth) ? " by depth" : "");
  };
  return fmt::format("a {} b {} in {} | n {} k {} | epilogue {}", operand(step.value), operand(step.value2),
                     to_string(step.accumulate), extent(axes.column), extent(axes.depth), code_shape(step.epilogue));
}

std::string precision_of(const ScheduledStep& step) {
  PrecisionPolicy policy = PrecisionPolicy::f32;
  if (const auto* program = std::get_if<const TileProgram*>(&step))
    policy = (*program)->spec.precision;
  else if (const auto* backward = std::get_if<const BackwardSpec*>(&step))
    policy = (*backward)->precision;
  else
    policy = std::get<const LoopStep*>(step)->precision;
  return policy == PrecisionPolicy::f32 ? std::string() : fmt::format("precision {} | ", to_string(policy));
}

}  // namespace

size_t length_bucket(int64_t length) {
  size_t bucket = 0;
  while (length > kLengthBuckets[bucket]) ++bucket;
  return bucket;
}

int64_t shortest_in_bucket(size_t bucket) { return bucket == 0 ? 1 : kLengthBuckets[bucket - 1] + 1; }

ClassTemplate class_template(const CpuSchedule& schedule) {
  // Lengths do not matter to a matvec: up to eight rows wait for B.
  return {fmt::format("{} {}", to_string(schedule.kernel), to_string(schedule.isa)), is_decode(schedule.kernel),
          schedule.kernel != CpuTemplate::matvec};
}

ClassTemplate class_template(const CudaSchedule& schedule, const CudaTarget& target) {
  return {fmt::format("{} {}", to_string(schedule.kernel), target.architecture()),
          schedule.kernel == CudaTemplate::decode};
}

Expr class_length(const ClassTemplate& kernel, const ScheduledStep& step) {
  Expr expr;
  if (!kernel.has_buckets) {
    expr.set_root(expr.constant_int(0, DType::i64));
  } else if (const auto* loop = std::get_if<const LoopStep*>(&step)) {
    expr = extent_product(**loop, contract_axes(**loop).rows);
  } else if (const auto* program = std::get_if<const TileProgram*>(&step)) {
    const AttentionSpec& spec = (*program)->spec;
    expr.set_root(expr.dim(kernel.decode ? spec.kv_len : spec.q_len));
  } else {
    expr.set_root(expr.dim(std::get<const BackwardSpec*>(step)->q_len));
  }
  return expr;
}

std::optional<int64_t> constant_length(const Expr& length) {
  std::vector<int64_t> values;
  for (const ExprNode& node : length.nodes()) {
    const auto value = [&](size_t i) { return values[static_cast<size_t>(raw(node.args[i]))]; };
    if (node.kind == ExprKind::constant)
      values.push_back(node.literal.integer);
    else if (node.kind == ExprKind::dim && node.dim.is_constant())
      values.push_back(node.dim.constant());
    else if (node.kind == ExprKind::op && node.op == Op::mul)
      values.push_back(value(0) * value(1));
    else
      return {};
  }
  return values[static_cast<size_t>(raw(length.root()))];
}

std::string shape_class(const ClassTemplate& kernel, const ScheduledStep& step, size_t bucket) {
  std::string what;
  if (const auto* program = std::get_if<const TileProgram*>(&step)) {
    what = attention_text(**program);
  } else if (const auto* backward = std::get_if<const BackwardSpec*>(&step)) {
    what = backward_text(**backward);
  } else {
    what = product_text(*std::get<const LoopStep*>(step));
  }
  std::string length = "any length";
  if (kernel.has_buckets) {
    const std::string_view name = kernel.decode                                   ? "kv_len"
                                  : std::holds_alternative<const LoopStep*>(step) ? "rows"
                                                                                  : "q_len";
    length = bucket + 1 == kBuckets ? fmt::format("{} >{}", name, kLengthBuckets[bucket - 1])
                                    : fmt::format("{} <={}", name, kLengthBuckets[bucket]);
  }
  return fmt::format("{} | {}{} | {}", kernel.name, precision_of(step), what, length);
}

}  // namespace tilewright
