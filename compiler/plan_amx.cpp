// When the AMX prefill template runs, and its tile sizes and products.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "compiler/plan_rules.h"

namespace tilewright {
namespace {

struct TileBlock {
  int64_t head_dim;  ///< up to this, the larger of Dqk and Dv
  int64_t block_q, block_kv;
};
// From the prototypes on 48 KB L1 and 2 MB L2 (docs/performance-log.md): block_kv with S and P of two units in L1 or
// close to it; block_q so large that a block of K and V, which comes from L3 once per item, is used often enough.
constexpr TileBlock kTileBlocks[] = {{64, 256, 64}, {128, 512, 128}, {256, 256, 64}, {512, 128, 32}};

int64_t products_of_scores(const AttentionSpec& spec) {
  const DotTerm& dot = spec.dots[0];
  const auto type = [&](const Access& stored, const std::optional<RowProgram>& row) {
    return row ? row->dtype : operand_dtype(spec, stored);
  };
  return bf16_products(type(dot.query, dot.query_row), type(dot.key, dot.key_row), spec.precision);
}

/// A constant, or one of two: dropout's factor.
bool is_bounded_factor(const Expr& factor) {
  const auto small = [&](const ExprNode& node) {
    return node.kind == ExprKind::constant && std::abs(node.literal.real) <= 1 << 20;
  };
  const ExprNode& root = factor.root_node();
  const bool select = root.kind == ExprKind::op && root.op == Op::select;
  return small(root) || (select && small(factor[root.args[1]]) && small(factor[root.args[2]]));
}

}  // namespace

int64_t bf16_products(DType a, DType b, PrecisionPolicy policy) {
  if (a == DType::bf16 && b == DType::bf16) return 1;
  if (a != DType::f32 && b != DType::f32) return 4;  // two parts hold what f16 holds
  switch (policy) {
    case PrecisionPolicy::f32: return 6;
    case PrecisionPolicy::f32_x3: return 3;
    case PrecisionPolicy::bf16: return 1;
    case PrecisionPolicy::f32_fma: break;
  }
  return 0;
}

int64_t bf16_weight_products(DType weights, DType operand, PrecisionPolicy policy) {
  const int64_t products = bf16_products(weights, operand, policy);
  return products == 4 ? 3 : products;
}

int64_t bf16_parts(int64_t products) { return products == 1 ? 1 : products <= 4 ? 2 : 3; }

std::string refuse_amx_prefill(const TileProgram& program, const CpuTarget& target) {
  const AttentionSpec& spec = program.spec;
  if (!target.has_tiles()) return "the target has no AMX tiles";
  if (std::string reason = refuse_fast(program, target); !reason.empty()) return reason;
  if (spec.accumulate != DType::f32) return "tiles add in f32, and this accumulates in f64";
  const CpuSchedule s = schedule_amx_prefill(program, target);
  if (s.products == 0 || s.value_products == 0) return "precision f32_fma asks for FMA of f32";
  const bool split = s.products > 1 || s.value_products > 1;
  if (split && spec.normaliser == Normaliser::none)
    return "weights without softmax have any magnitude, and only those in a range may be split into bf16 parts";
  if (split && spec.weight_factor && !is_bounded_factor(*spec.weight_factor))
    return "weights times a factor have any magnitude, and only those in a range may be split into bf16 parts";
  return {};
}

std::string amx_prefill_is_slower(const TileProgram& program, const CpuTarget& target) {
  const AttentionSpec& spec = program.spec;
  const int64_t dqk = spec.dots[0].head_dim, dv = spec.value_dim;
  const int64_t padded = round_up(dqk, 32) + round_up(dv, 32);
  if (schedule_amx_prefill(program, target).value_products == 6 && 5 * (dqk + dv) < 3 * padded)
    return fmt::format("six products of head dims {} and {} padded to {} are slower than FMA", dqk, dv, padded);
  return {};
}

int64_t amx_block_unit(int64_t value_dim) {
  return std::lcm<int64_t>(32, round_up(std::max<int64_t>(value_dim, 1), 32) / 16);
}

CpuSchedule schedule_amx_prefill(const TileProgram& program, const CpuTarget& target) {
  const AttentionSpec& spec = program.spec;
  const DotTerm& dot = spec.dots[0];
  const int64_t dqk = round_up(std::max<int64_t>(dot.head_dim, 1), 32);
  const int64_t dv = round_up(std::max<int64_t>(spec.value_dim, 1), 32);

  CpuSchedule s;
  s.kernel = CpuTemplate::amx_prefill;
  s.isa = target.isa;
  s.lanes = 16;
  s.strip_rows = 32;
  s.mr = 32;
  s.nv = 2;
  s.products = products_of_scores(spec);
  s.value_products = bf16_weight_products(spec.weights, operand_dtype(spec, spec.value), spec.precision);
  s.rescale_log2 = 8;

  const TileBlock* block = std::find_if(std::begin(kTileBlocks), std::end(kTileBlocks) - 1,
                                        [&](const TileBlock& b) { return std::max(dqk, dv) <= b.head_dim; });
  s.block_kv = round_up(block->block_kv, amx_block_unit(dv));
  s.block_q = block->block_q;
  const int64_t qk_bytes = 2 * bf16_parts(s.products) * dqk, v_bytes = 2 * bf16_parts(s.value_products) * dv;
  const auto working_set = [&] { return s.block_q * (qk_bytes + 4 * dv) + s.block_kv * (qk_bytes + v_bytes); };
  while (s.block_q > 64 && working_set() > target.l2_bytes * 3 / 4) s.block_q /= 2;
  if (spec.q_len.is_constant()) s.block_q = std::clamp<int64_t>(round_up(spec.q_len.constant(), 32), 32, s.block_q);
  s.reasons.push_back(fmt::format("Q and O of {} rows with the tiles of {} keys take {} KB of the {} KB L2", s.block_q,
                                  s.block_kv, working_set() >> 10, target.l2_bytes >> 10));
  s.reasons.push_back(fmt::format(
      "references follow maxima that outgrow them 2^{} times, so that outputs are rarely rescaled", s.rescale_log2));
  if (target.isa == CpuIsa::amx_emulated) s.reasons.push_back("tiles are emulated, because that was asked for");
  return s;
}

}  // namespace tilewright
