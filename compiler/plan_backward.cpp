// When the fast backward template runs, and its tile sizes.
#include <algorithm>
#include <span>

#include "compiler/arithmetic.h"
#include "compiler/passes.h"
#include "compiler/plan_rules.h"

namespace tilewright {
namespace {

struct BackwardBlock {
  int64_t head_dim;  ///< up to this, the widest operand
  int64_t block_q, block_kv, chunk_kv;
};
// Measured best for f32 on 48 KB L1 and 2 MB L2; see docs/performance-log.md.
constexpr BackwardBlock kBackwardBlocks[] = {{128, 48, 192, 384}, {256, 48, 128, 128}, {512, 48, 64, 64}};

CpuSchedule schedule_fast(const BackwardSpec& spec, const CpuTarget& target) {
  const int64_t element = size_of(spec.accumulate), width = backward_width(spec);
  CpuSchedule s;
  s.kernel = CpuTemplate::backward;
  s.isa = target.isa;
  s.lanes = target.vector_bytes() / element;
  s.k_unroll = 2;
  fit_micro_kernel(s, target, width);

  const BackwardBlock* block = std::find_if(std::begin(kBackwardBlocks), std::end(kBackwardBlocks) - 1,
                                            [&](const BackwardBlock& t) { return width <= t.head_dim; });
  s.block_q = s.strip_rows = block->block_q;
  const auto whole = [&](int64_t keys) { return std::max(s.nr(), keys * 4 / element / s.nr() * s.nr()); };
  s.block_kv = whole(block->block_kv);
  s.chunk_kv = std::max(s.block_kv, block->chunk_kv * 4 / element / s.block_kv * s.block_kv);
  const auto working_set = [&] { return backward_working_set(s, spec); };
  while (s.chunk_kv > s.block_kv && working_set() > target.l2_bytes * 3 / 4) s.chunk_kv -= s.block_kv;
  s.reasons.push_back(
      fmt::format("a chunk of {} keys with its K, V, dK and dV, blocks of {} rows and tiles of {}x{} scores take {} KB "
                  "of the {} KB L2",
                  s.chunk_kv, s.block_q, s.block_q, s.block_kv, working_set() >> 10, target.l2_bytes >> 10));
  return s;
}

CpuSchedule schedule_generic(const BackwardSpec& spec, const CpuTarget& target, std::string why) {
  CpuSchedule s;
  s.kernel = CpuTemplate::generic;
  s.isa = target.isa;
  s.lanes = target.vector_bytes() / size_of(spec.accumulate);
  s.block_q = s.strip_rows = 16;
  s.block_kv = s.chunk_kv = 64;
  s.mr = s.nv = 1;
  s.reasons.push_back(std::move(why));
  return s;
}

}  // namespace

std::vector<const DotTerm*> score_products(const BackwardSpec& spec) {
  std::vector<const DotTerm*> all;
  for (const DotTerm& dot : spec.dots) all.push_back(&dot);
  if (spec.output_gradient) all.push_back(&*spec.output_gradient);
  return all;
}

int64_t backward_width(const BackwardSpec& spec) {
  int64_t width = 1;
  for (const DotTerm* term : score_products(spec)) width = std::max(width, term->head_dim);
  for (const auto* products : {&spec.rows, &spec.columns})
    for (const BackwardProduct& product : *products) width = std::max(width, product.width);
  return width;
}

std::string refuse_fast_backward(const BackwardSpec& spec, const CpuTarget& target) {
  if (target.isa == CpuIsa::baseline) return "the target has no AVX2";
  std::vector<int> operands;
  for (const DotTerm* term : score_products(spec))
    operands.insert(operands.end(), {term->query.tensor, term->key.tensor});
  for (const auto* products : {&spec.rows, &spec.columns})
    for (const BackwardProduct& product : *products) operands.push_back(product.operand.tensor);
  for (int tensor : operands) {
    const SpecTensor& operand = spec.tensors[static_cast<size_t>(tensor)];
    if (!is_float(operand.type.dtype))
      return fmt::format("%{} is {}, not a float", operand.name, to_string(operand.type.dtype));
  }
  if (backward_width(spec) > kMaxHeadDim)
    return fmt::format("head dim {} is over {}", backward_width(spec), kMaxHeadDim);
  if (hides_keys_by_head(spec)) return "which keys are hidden differs between query heads that share K and V";
  return {};
}

int64_t backward_working_set(const CpuSchedule& s, const BackwardSpec& spec) {
  if (s.kernel == CpuTemplate::amx_backward) {
    // K twice, V; dK and dV; Q and dO twice, dQ; P once and dS twice, a strip of S and T.
    const int64_t parts = bf16_parts(std::max(s.products, s.value_products));
    const int64_t width = round_up(backward_width(spec), 32);
    return s.chunk_kv * width * (3 * 2 * parts + 2 * 4) + s.block_q * width * (4 * 2 * parts + 4) +
           s.block_q * s.block_kv * 3 * 2 * parts + 2 * 32 * s.block_kv * 4;
  }
  // K twice, V; dK and dV; Q twice, scaled and not, dO, dQ.
  const int64_t columns = 5 * s.chunk_kv + 4 * s.block_q;
  return (columns * backward_width(spec) + 2 * s.block_q * s.block_kv) * size_of(spec.accumulate);
}

CpuPlan plan_backward(const BackwardSpec& spec, const CpuTarget& target, const PlanOptions& options) {
  CpuPlan plan;
  Expr always;
  always.set_root(always.constant_int(1, DType::boolean));
  const std::string asked = options.force_generic ? "the generic template was asked for" : "";
  std::string no_amx = options.force_generic ? asked : refuse_amx_backward(spec, target);
  if (no_amx.empty()) no_amx = amx_backward_is_slower(spec, target);
  const std::string no = options.force_generic ? asked : refuse_fast_backward(spec, target);
  if (!no_amx.empty() && target.has_tiles()) plan.refused.push_back({CpuTemplate::amx_backward, no_amx});
  if (!no_amx.empty() && !no.empty()) plan.refused.push_back({CpuTemplate::backward, no});
  plan.choices.push_back({no_amx.empty() ? schedule_amx_backward(spec, target)
                          : no.empty()   ? schedule_fast(spec, target)
                                         : schedule_generic(spec, target, no),
                          always});
  CpuSchedule& chosen = plan.choices[0].schedule;
  chosen.arithmetic = describe_products(spec, chosen);
  return plan;
}

}  // namespace tilewright
