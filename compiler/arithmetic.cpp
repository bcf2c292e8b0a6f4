#include "compiler/arithmetic.h"

#include <algorithm>

namespace tilewright {
namespace {

void add(std::vector<DType>& types, DType type) {
  if (std::find(types.begin(), types.end(), type) == types.end()) types.push_back(type);
}

void add(std::vector<DType>& types, const ScoreSpace& space, const DotTerm& term) {
  for (const auto& [stored, row] : {std::pair{&term.query, &term.query_row}, {&term.key, &term.key_row}})
    add(types, *row ? (*row)->dtype : operand_dtype(space, *stored));
}

/// dtypes of what the products read, as far as it may be rounded.
std::vector<DType> operand_types(const AttentionSpec& spec) {
  std::vector<DType> types;
  for (const DotTerm& term : spec.dots) add(types, spec, term);
  add(types, spec.weights);
  add(types, operand_dtype(spec, spec.value));
  return types;
}

std::vector<DType> operand_types(const BackwardSpec& spec) {
  std::vector<DType> types;
  for (const DotTerm& term : spec.dots) add(types, spec, term);
  if (spec.output_gradient) add(types, spec, *spec.output_gradient);
  for (const auto* products : {&spec.rows, &spec.columns})
    for (const BackwardProduct& product : *products) {
      add(types, product.rounding);
      add(types, operand_dtype(spec, product.operand));
    }
  return types;
}

/// A load that is cast is of its tensor's dtype, anything else of its own.
std::vector<DType> operand_types(const LoopStep& step) {
  std::vector<DType> types;
  for (const Expr* operand : {&step.value, &step.value2}) {
    ExprId id = operand->root();
    while ((*operand)[id].kind == ExprKind::op && (*operand)[id].op == Op::cast) id = (*operand)[id].args[0];
    const ExprNode& node = (*operand)[id];
    add(types, node.tensor >= 0 ? step.tensors[static_cast<size_t>(node.tensor)].type.dtype : node.dtype);
  }
  return types;
}

std::string products_in_words(int64_t products) {
  switch (products) {
    case 1: return "one bf16 product";
    case 3: return "three products of two bf16 parts";
    case 4: return "four products of two bf16 parts";
    default: return "six products of three bf16 parts";
  }
}

std::string describe_tiles(PrecisionPolicy policy, bool reads_f32, const CpuSchedule& s) {
  std::string text = fmt::format("scores by {} each, outputs by {}, on tiles, added in f32",
                                 products_in_words(s.products), products_in_words(s.value_products));
  if (reads_f32) text += fmt::format(", as precision {} allows", to_string(policy));
  if (s.products > 1 || s.value_products > 1) text += "; blocks with operands out of range by FMA";
  return text;
}

bool holds(const std::vector<DType>& types, DType type) {
  return std::find(types.begin(), types.end(), type) != types.end();
}

std::string describe(const std::vector<DType>& types, DType accumulate, PrecisionPolicy policy,
                     const CpuSchedule& schedule) {
  if (!is_float(accumulate)) return fmt::format("{} products", to_string(accumulate));
  if (takes_tiles(schedule.kernel)) return describe_tiles(policy, holds(types, DType::f32), schedule);
  if (accumulate == DType::f64) return "f64 products by FMA, which no precision policy narrows";
  if (!holds(types, DType::f32))
    return fmt::format("{} products, operands widened, by FMA of f32", to_string(types[0]));
  const std::string why = schedule.isa <= CpuIsa::avx512
                              ? "the target has no AMX"
                              : fmt::format("the {} template has no AMX form", to_string(schedule.kernel));
  switch (policy) {
    case PrecisionPolicy::f32_fma: return "f32 products by FMA, as precision f32_fma asks";
    case PrecisionPolicy::f32_x3:
    case PrecisionPolicy::bf16:
      return fmt::format("f32 products by FMA, more accurate than precision {} asks: {}", to_string(policy), why);
    case PrecisionPolicy::f32: break;
  }
  return fmt::format("f32 products by FMA: {}", why);
}

}  // namespace

bool multiplies_f32(const AttentionSpec& spec) {
  return spec.accumulate == DType::f32 && holds(operand_types(spec), DType::f32);
}
bool multiplies_f32(const BackwardSpec& spec) {
  return spec.accumulate == DType::f32 && holds(operand_types(spec), DType::f32);
}

std::string describe_products(const AttentionSpec& spec, const CpuSchedule& schedule) {
  return describe(operand_types(spec), spec.accumulate, spec.precision, schedule);
}
std::string describe_products(const BackwardSpec& spec, const CpuSchedule& schedule) {
  return describe(operand_types(spec), spec.accumulate, spec.precision, schedule);
}
std::string describe_products(const LoopStep& step, const CpuSchedule& schedule) {
  return step.kind == LoopKind::contract ? describe(operand_types(step), step.accumulate, step.precision, schedule)
                                         : std::string();
}

}  // namespace tilewright
