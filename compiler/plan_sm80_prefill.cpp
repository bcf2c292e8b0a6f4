#include "compiler/plan_sm80_prefill.h"

#include <algorithm>
#include <array>
#include <utility>

#include "compiler/plan_cuda_rules.h"
#include "compiler/schedule.h"

namespace tilewright {
namespace {

constexpr std::array<int64_t, 3> kPrefillWarps = {8, 4, 2};

// Of a thread's 255 registers about 75 are addresses, fragments and the rows' state; expressions need more. The rules
// leave room for those, the tuner may try what the compiler then decides about (NVRTC 13: 176 spill whatever the
// score).
constexpr int64_t kRuleRegisters = 160, kLegalRegisters = 168;
constexpr int64_t kLongestTile = 512;

int64_t bands(const CudaSchedule& s) { return s.block_q / (16 * s.warps); }

/// Whether something is loaded or drawn for every score: each has addresses or a state of its own.
bool works_per_score(const Expr& expr) {
  const auto depends = dependencies(expr);
  for (size_t i = 0; i < expr.nodes().size(); ++i) {
    const ExprNode& node = expr.nodes()[i];
    const bool draws = node.kind == ExprKind::op && node.op == Op::random_bits;
    if ((node.kind == ExprKind::load || draws) && depends[i] & bit(Axis::kv)) return true;
  }
  return false;
}

/// Keys of a step, most first: what performance.md names for d64, d128 and d256, halved until the ring fits.
CudaSchedule schedule_sm80_prefill(const TileProgram& program, const CudaTarget& target) {
  const AttentionSpec& spec = program.spec;
  CudaSchedule s;
  s.kernel = CudaTemplate::sm80_prefill;
  s.stages = 2;
  s.products = sm80_products(spec);
  // One band of 16 rows a warp: two would read K and V from shared memory half as often, but leave no registers for
  // score expressions from head dim 64 on.
  const bool heavy = works_per_score(program.score) || works_per_score(spec.keep) ||
                     (spec.weight_factor && works_per_score(*spec.weight_factor));
  // ptxas of sm_100 takes about 20 registers more beside them (NVRTC 13: 160 held spill at head dim 256), and document
  // masks leave none: of 160 held, 144 after halving, 32 bytes spill there.
  const int64_t held = kRuleRegisters - (target.capability == 100 || heavy ? 16 : 0);
  static constexpr std::pair<int64_t, int64_t> kSizes[] = {{128, 64}, {128, 32}, {64, 64},
                                                           {64, 32},  {64, 16},  {32, 16}};
  for (const auto& [block_q, block_kv] : kSizes) {
    s.block_q = block_q;
    s.warps = block_q / 16;
    s.block_kv = block_kv;
    if (sm80_prefill_shared_bytes(spec, s) <= target.shared_bytes_per_block &&
        sm80_prefill_held_registers(spec, s) <= held)
      break;
  }
  if (heavy && s.block_kv > 16) {
    s.block_kv /= 2;
    s.reasons.push_back("half as many keys a step, because something is loaded or drawn for every score");
  }
  // Blocks of rows that do not exist cost as much as others; two warps are the least that loads are written for.
  if (spec.q_len.is_constant())
    while (s.block_q > 32 && s.block_q / 2 >= spec.q_len.constant()) {
      s.block_q /= 2;
      s.warps /= 2;
    }
  s.reasons.push_back(fmt::format(
      "{} warps with 16 query rows each, and {} keys a step: sums, weights and Q take {} of a thread's 255 registers",
      s.warps, s.block_kv, sm80_prefill_held_registers(spec, s)));
  s.reasons.push_back(fmt::format("Q and two tiles of K and V take {} of {} bytes of shared memory",
                                  sm80_prefill_shared_bytes(spec, s), target.shared_bytes_per_block));
  const Sm80Parts parts = sm80_parts(spec, s.products);
  if (s.products > 1)
    s.reasons.push_back(fmt::format("precision {} asks for {} products of bf16 parts of f32 operands",
                                    to_string(spec.precision), s.products));
  else if (parts.weight > 1)
    s.reasons.push_back(fmt::format("weights are not declared narrow, and meet V in {} parts", parts.weight));
  return s;
}

}  // namespace

int64_t sm80_prefill_shared_bytes(const AttentionSpec& spec, const CudaSchedule& s) {
  const Sm80Parts parts = sm80_parts(spec, s.products);
  const int64_t ring =
      s.block_q * sm80_query_row_bytes(spec, parts) + s.stages * s.block_kv * sm80_key_bytes(spec, parts);
  const DType output = spec.tensors[static_cast<size_t>(spec.output.tensor)].type.dtype;
  return std::max(ring, s.block_q * sm80_columns(spec.value_dim) * size_of(output));
}

int64_t sm80_prefill_held_registers(const AttentionSpec& spec, const CudaSchedule& s) {
  const Sm80Parts parts = sm80_parts(spec, s.products);
  const int64_t head_dim = sm80_columns(spec.dots[0].head_dim);
  const int64_t query = bands(s) * head_dim / 4;
  return bands(s) * (sm80_columns(spec.value_dim) + s.block_kv) / 2 + (parts.query == 1 && query <= 32 ? query : 0) +
         4 * bands(s) * (parts.weight - 1 + parts.query - 1);
}

Result<Done> validate_sm80_prefill(const TileProgram& program, const CudaSchedule& s, const CudaTarget& target) {
  if (std::find(kPrefillWarps.begin(), kPrefillWarps.end(), s.warps) == kPrefillWarps.end())
    return invalid("warps {} is none of 2, 4 and 8", s.warps);
  if (s.block_q <= 0 || s.block_q > kLongestTile || s.block_q % (16 * s.warps) != 0)
    return invalid("block_q {} is no multiple of 16 rows for each of {} warps up to {}", s.block_q, s.warps,
                   kLongestTile);
  if (s.block_kv <= 0 || s.block_kv > kLongestTile || s.block_kv % 16 != 0)
    return invalid("block_kv {} is no multiple of 16 up to {}", s.block_kv, kLongestTile);
  if (s.stages < 2 || s.stages > 4) return invalid("stages {} is not between 2 and 4", s.stages);
  const int64_t products = sm80_products(program.spec);
  if (s.products != products && !(products == 3 && s.products == 6))
    return invalid("products {} is not what the precision policy asks for, {}", s.products, products);
  const int64_t bytes = sm80_prefill_shared_bytes(program.spec, s);
  if (bytes > target.shared_bytes_per_block)
    return invalid("block_q {} and block_kv {} take {} bytes of shared memory, and {} has {}", s.block_q, s.block_kv,
                   bytes, target.architecture(), target.shared_bytes_per_block);
  const int64_t registers = sm80_prefill_held_registers(program.spec, s);
  if (registers > kLegalRegisters)
    return invalid("block_q {} and block_kv {} of {} warps hold {} registers a thread, and {} leave room for the rest",
                   s.block_q, s.block_kv, s.warps, registers, kLegalRegisters);
  return Done{};
}

CudaOffer plan_cuda_sm80_prefill(const TileProgram& program, const CudaTarget& target) {
  if (std::string reason = refuse_sm80_operands(program); !reason.empty())
    return CudaPlan::Refusal{CudaTemplate::sm80_prefill, std::move(reason)};
  CudaSchedule schedule = schedule_sm80_prefill(program, target);
  if (auto legal = validate_sm80_prefill(program, schedule, target); !legal)
    return CudaPlan::Refusal{CudaTemplate::sm80_prefill, to_string(legal.error())};
  return CudaPlan::Choice{std::move(schedule), always_cuda()};
}

}  // namespace tilewright
