// Target + TileProgram → which templates run when, with their schedules and the reasons.
#include <algorithm>

#include "compiler/arithmetic.h"
#include "compiler/passes.h"
#include "compiler/plan_rules.h"

namespace tilewright {
namespace {

/// q_len · head_group <= limit.
Expr at_most_rows(const AttentionSpec& spec, int64_t limit) {
  Expr expr;
  const ExprId rows = expr.dim(spec.q_len * spec.head_group);
  expr.set_root(expr.op(Op::le, DType::boolean, {rows, expr.constant_int(limit, DType::i64)}));
  return expr;
}

CpuSchedule schedule_generic(const TileProgram& program, const CpuTarget& target, std::string why) {
  CpuSchedule s;
  s.kernel = CpuTemplate::generic;
  s.isa = target.isa;
  s.lanes = accumulator_lanes(program, target);
  const Dim& rows = program.spec.q_len;
  s.block_q = rows.is_constant() ? std::clamp<int64_t>(rows.constant(), 1, 16) : 16;
  s.strip_rows = s.block_q;
  s.block_kv = 64;
  s.mr = 1;
  s.nv = 1;
  s.reasons.push_back(std::move(why));
  return s;
}

/// Whether it joined the choices; on machines with tiles, why not.
bool take_amx_prefill(CpuPlan& plan, const TileProgram& program, const CpuTarget& target, const PlanOptions& options) {
  if (!target.has_tiles()) return false;
  std::string why_not = options.feeds_backward
                            ? "a backward pass recomputes the scores by FMA, which tiles round otherwise (fold_weights)"
                            : refuse_amx_prefill(program, target);
  if (why_not.empty()) why_not = amx_prefill_is_slower(program, target);
  if (why_not.empty())
    plan.choices.push_back({schedule_amx_prefill(program, target), always()});
  else
    plan.refused.push_back({CpuTemplate::amx_prefill, why_not});
  return why_not.empty();
}

}  // namespace

Expr always() {
  Expr expr;
  expr.set_root(expr.constant_int(1, DType::boolean));
  return expr;
}

int64_t accumulator_lanes(const TileProgram& program, const CpuTarget& target) {
  return target.vector_bytes() / size_of(program.spec.accumulate);
}

std::string refuse_fast(const TileProgram& program, const CpuTarget& target) {
  const AttentionSpec& spec = program.spec;
  if (target.isa == CpuIsa::baseline) return "the target has no AVX2";
  if (spec.dots.size() != 1) return fmt::format("the score is a sum of {} products", spec.dots.size());
  const DotTerm& dot = spec.dots[0];
  for (int tensor : {dot.query.tensor, dot.key.tensor, spec.value.tensor}) {
    if (tensor < 0) continue;  // computed rows
    const SpecTensor& operand = spec.tensors[static_cast<size_t>(tensor)];
    if (!is_float(operand.type.dtype))
      return fmt::format("%{} is {}, not a float", operand.name, to_string(operand.type.dtype));
  }
  for (int64_t dim : {dot.head_dim, spec.value_dim})
    if (dim > kMaxHeadDim) return fmt::format("head dim {} is over {}", dim, kMaxHeadDim);
  if (hides_keys_by_head(spec)) return "which keys are hidden differs between query heads that share K and V";
  return {};
}

CpuPlan plan_cpu(const TileProgram& program, const CpuTarget& target, const PlanOptions& options) {
  const AttentionSpec& spec = program.spec;
  CpuPlan plan;
  const auto finish = [&]() -> CpuPlan {
    for (CpuPlan::Choice& choice : plan.choices) choice.schedule.arithmetic = describe_products(spec, choice.schedule);
    return std::move(plan);
  };
  if (options.force_generic) {
    for (CpuTemplate kernel : {CpuTemplate::decode, CpuTemplate::prefill})
      plan.refused.push_back({kernel, "the generic template was asked for"});
    plan.choices.push_back({schedule_generic(program, target, "the generic template was asked for"), always()});
    return finish();
  }

  const std::string no_decode =
      options.feeds_backward ? "a backward pass recomputes the scores, which decode rounds otherwise (fold_weights)"
                             : refuse_decode(program, target);
  std::string no_prefill = refuse_prefill(program, target);
  bool decode_always = false;
  if (no_decode.empty()) {
    decode_always = spec.q_len.is_constant();
    const std::string no_tiles = refuse_amx_decode(program, target);
    plan.choices.push_back({no_tiles.empty() ? schedule_amx_decode(program, target) : schedule_decode(program, target),
                            decode_always ? always() : at_most_rows(spec, decode_row_limit(spec))});
    if (no_tiles.empty())
      plan.refused.push_back({CpuTemplate::decode, "tiles take it"});
    else if (target.has_tiles())
      plan.refused.push_back({CpuTemplate::amx_decode, no_tiles});
  } else {
    plan.refused.push_back({CpuTemplate::decode, no_decode});
  }
  if (decode_always) {
    if (no_prefill.empty())
      no_prefill =
          fmt::format("{} query rows share one KV head, which decode takes", to_string(spec.q_len * spec.head_group));
    plan.refused.push_back({CpuTemplate::prefill, no_prefill});
  } else if (take_amx_prefill(plan, program, target, options)) {
    plan.refused.push_back({CpuTemplate::prefill, "tiles take it"});
  } else if (no_prefill.empty()) {
    plan.choices.push_back({schedule_prefill(program, target), always()});
  } else {
    plan.refused.push_back({CpuTemplate::prefill, no_prefill});
    plan.choices.push_back({schedule_generic(program, target, "runs every program that prefill refuses"), always()});
  }
  return finish();
}

void follow_backward(CpuPlan& plan, const TileProgram& program, const CpuTarget& target,
                     std::span<const CpuPlan* const> backward) {
  const auto refusal = std::ranges::find(plan.refused, CpuTemplate::amx_prefill, &CpuPlan::Refusal::kernel);
  if (backward.empty() || refusal == plan.refused.end()) return;
  if (!refuse_amx_prefill(program, target).empty() || !amx_prefill_is_slower(program, target).empty()) return;
  CpuSchedule schedule = schedule_amx_prefill(program, target);
  if (schedule.value_products == 1) {
    // rowsum(dO∘O) is subtracted from every dP of a row: what one rounding of its weights leaves adds up over the keys.
    refusal->reason = "a backward pass reads the output, which weights rounded to bf16 would move";
    return;
  }
  const auto alike = [&](const CpuPlan* other) {
    const CpuSchedule& s = other->choices.back().schedule;
    return s.kernel == CpuTemplate::amx_backward && s.products == schedule.products;
  };
  if (!std::ranges::all_of(backward, alike)) return;
  schedule.arithmetic = describe_products(program.spec, schedule);
  plan.choices.back().schedule = std::move(schedule);
  *refusal = {CpuTemplate::prefill, "tiles take it"};
}

}  // namespace tilewright
