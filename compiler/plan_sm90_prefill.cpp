#include "compiler/plan_sm90_prefill.h"

#include <algorithm>

#include "compiler/cuda_sm90_layout.h"
#include "compiler/plan_cuda_rules.h"

namespace tilewright {
namespace {

constexpr int64_t kBoxColumns = 64, kRowBytes = 128, kStages = 2, kWidestSm90Head = 256;
constexpr int64_t kStep = 16;  ///< of the summed dimension of one wgmma
/// How the 65536 registers are dealt out, and how many of a consumer thread's O, S and P may take: the rest is for
/// addresses, the states of two rows and the pointwise expressions.
struct Registers {
  int64_t producer, consumer, sums, max_block_kv;
};
/// One warpgroup: two such blocks share a multiprocessor, whose budgets are half as large.
constexpr Registers kOneConsumer = {40, 216, 184, 128}, kOneWithTables = {88, 168, 120, 64};
constexpr Registers kThreeConsumers = {32, 160, 130, 128};
/// 24 registers for the producer spill where it divides for heads in groups (NVRTC 13, head dims 96 and 256).
constexpr Registers kPlain = {40, 232, 200, 176};   ///< wide blocks of keys pay while all of a block is kept
constexpr Registers kMasked = {40, 232, 200, 128};  ///< the producer tests blocks; a mask wastes what it cuts off
constexpr Registers kTables = {56, 224, 160, 128};  ///< expressions load from tensors: addresses, and bounds to scan
/// The producer clears rows of V, or scores draw random bits, too: 128 keys spill (NVRTC 13, head dims 96 and 128).
constexpr Registers kBusyTables = {88, 208, 160, 64};
/// Scores in flight where each gathers: their addresses want registers, and their text is long.
constexpr int64_t kGatheredSums = 8;
/// Pointwise ops beside which three consumers' 160 registers suffice.
constexpr int64_t kFewOps = 17;
/// Columns of a product whose sums a thread of 128 registers holds, as one and three warpgroups start them; ptxas gives
/// up beyond.
constexpr int64_t kWidestOfFewRegisters = 192;
/// Keys of a block beside which functions of scores spill nothing (NVRTC 13: softcap does at 176 of head dim 128).
constexpr int64_t kWidestOfFunctions = 160;

bool is_16_bit(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16; }

/// Does the root depend on the axis?
bool depends_on_axis(const Expr& expr, Axis axis) {
  return (dependencies(expr)[static_cast<size_t>(raw(expr.root()))] & bit(axis)) != 0;
}

/// Does it load from tensors at places that differ between scores or blocks? What a head has one of costs a register.
bool loads_per_position(const Expr& expr) {
  const std::vector<uint32_t> depends_on = dependencies(expr);
  const uint32_t positions = bit(Axis::q) | bit(Axis::kv) | bit(Axis::q_lo) | bit(Axis::q_hi) | bit(Axis::kv_lo) |
                             bit(Axis::kv_hi) | kDependsOnScore;
  for (size_t i = 0; i < expr.nodes().size(); ++i) {
    const ExprKind kind = expr.nodes()[i].kind;
    if ((kind == ExprKind::load || kind == ExprKind::load_min || kind == ExprKind::load_max) &&
        (depends_on[i] & positions) != 0)
      return true;
  }
  return false;
}

/// What is evaluated per score or per block.
std::vector<const Expr*> inner_expressions(const AttentionSpec& spec) {
  std::vector<const Expr*> all = {&spec.score, &spec.keep, &spec.kv_range.skip, &spec.kv_range.full};
  if (spec.weight_factor) all.push_back(&*spec.weight_factor);
  return all;
}

int64_t count_ops(const AttentionSpec& spec) {
  int64_t count = 0;
  for (const Expr* expr : inner_expressions(spec))
    for (const ExprNode& node : expr->nodes()) count += node.kind == ExprKind::op;
  return count;
}

/// Functions of many instructions each.
bool calls_functions(const AttentionSpec& spec) {
  constexpr Op kFunctions[] = {Op::exp, Op::exp2, Op::log, Op::tanh, Op::sigmoid, Op::erf};
  for (const Expr* expr : inner_expressions(spec))
    for (const ExprNode& node : expr->nodes())
      if (node.kind == ExprKind::op && std::ranges::find(kFunctions, node.op) != std::end(kFunctions)) return true;
  return false;
}

bool reads_tables(const AttentionSpec& spec) {
  const std::vector<const Expr*> all = inner_expressions(spec);
  return !spec.keep_kv.is_constant_true() ||
         std::any_of(all.begin(), all.end(), [](const Expr* e) { return loads_per_position(*e); });
}

Registers registers_of(const AttentionSpec& spec, const CudaSchedule& schedule) {
  if (schedule.block_q == 64) return reads_tables(spec) ? kOneWithTables : kOneConsumer;
  if (schedule.block_q == 192) return kThreeConsumers;
  if (reads_tables(spec)) return spec.keep_kv.is_constant_true() && !spec.weight_factor ? kTables : kBusyTables;
  return spec.keep.is_constant_true() ? kPlain : kMasked;
}

int64_t box_count(int64_t columns) { return (columns + kBoxColumns - 1) / kBoxColumns; }

std::variant<TensorMapAccess, std::string> analyze_map(const AttentionSpec& spec, const Access& access, Axis position,
                                                       int64_t columns) {
  return analyze_tensor_map(spec, access, position, position == Axis::q ? spec.q_len : spec.kv_len, columns);
}

/// One sentence why not; empty when the template takes it.
std::string refuse_sm90(const AttentionSpec& spec, const CudaTarget& target) {
  if (!target.has_wgmma()) return fmt::format("{} has no wgmma", target.architecture());
  if (spec.accumulate != DType::f32) return "tensor cores add in f32, and this accumulates in f64";
  if (spec.dots.size() != 1) return fmt::format("a score of {} products", spec.dots.size());
  const DotTerm& dot = spec.dots[0];
  if (dot.query_row || dot.key_row) return "rows of Q or K are computed, and TMA copies stored ones";
  const auto dtype = [&](const Access& access) { return operand_dtype(spec, access); };
  const DType key = dtype(dot.key), value = dtype(spec.value), output = dtype(spec.output);
  if (!is_16_bit(key) || dtype(dot.query) != key)
    return fmt::format("Q is {} and K {}, and wgmma multiplies bf16 with bf16 or f16 with f16",
                       to_string(dtype(dot.query)), to_string(key));
  if (!is_16_bit(value)) return fmt::format("V is {}, and wgmma multiplies bf16 or f16", to_string(value));
  if (spec.weights != value)
    return fmt::format("weights are {} and may not be rounded to V's {}", to_string(spec.weights), to_string(value));
  if (output == DType::f64 || (spec.logsumexp && dtype(*spec.logsumexp) == DType::f64))
    return "outputs of f64 come from sums of f32";
  for (const auto& [what, width] : {std::pair{"head dim", dot.head_dim}, {"value dim", spec.value_dim}})
    if (width % 8 != 0 || width < 8 || width > kWidestSm90Head)
      return fmt::format("{} {} is no multiple of 8 up to {}", what, width, kWidestSm90Head);
  for (const bool is_query : {true, false}) {
    const Access& access = is_query ? dot.query : dot.key;
    const auto found = analyze_map(spec, access, is_query ? Axis::q : Axis::kv, dot.head_dim);
    if (const auto* reason = std::get_if<std::string>(&found)) return *reason;
    if (dot.head_dim % kStep != 0 && !std::get<TensorMapAccess>(found).exact_columns)
      return fmt::format("head dim {} is padded to a multiple of {}, and {} does not end with it", dot.head_dim, kStep,
                         spec.tensors[static_cast<size_t>(access.tensor)].name);
  }
  const auto found = analyze_map(spec, spec.value, Axis::kv, spec.value_dim);
  if (const auto* reason = std::get_if<std::string>(&found)) return *reason;
  return {};
}

/// Rows of queries and keys of a block, from the budgets of registers and shared memory.
CudaSchedule choose_sm90_tiles(const AttentionSpec& spec, const CudaTarget& target) {
  const int64_t dqk = spec.dots[0].head_dim, dv = spec.value_dim;
  CudaSchedule s;
  s.kernel = CudaTemplate::sm90_prefill;
  s.stages = kStages;
  const bool narrow = dqk <= kBoxColumns && dv <= kBoxColumns;
  const bool short_queries = spec.q_len.is_constant() && spec.q_len.constant() <= 128;
  const bool simple = !reads_tables(spec) && spec.keep_kv.is_constant_true() && count_ops(spec) <= kFewOps;
  s.block_q = narrow && simple && !short_queries ? 192 : 128;
  s.warps = 4 + s.block_q / 16;
  s.block_kv = registers_of(spec, s).max_block_kv;
  const auto fits = [&] {
    const Sm90CudaLayout layout = sm90_cuda_layout(spec, s);
    return layout.bytes <= target.shared_bytes_per_block && layout.sums <= registers_of(spec, s).sums;
  };
  while (s.block_kv > kStep && !fits()) s.block_kv -= kStep;
  const Sm90CudaLayout layout = sm90_cuda_layout(spec, s);
  s.reasons = {
      fmt::format(
          "{} consumer warpgroups of 64 rows by {} keys: O, S and P take {} of a thread's {} registers, tiles {} "
          "of {} bytes of shared memory",
          layout.consumers, s.block_kv, layout.sums, layout.consumer_registers, layout.bytes,
          target.shared_bytes_per_block),
      fmt::format("registers are dealt {} to the producer, {} to each consumer: {}", layout.producer_registers,
                  layout.consumer_registers,
                  reads_tables(spec) ? "expressions load from tensors" : "expressions read positions alone"),
      layout.persistent
          ? "nothing is masked, so all items cost the same: one block per multiprocessor takes them in turn"
      : layout.longest_first ? "later rows see more keys: they come first, a block per item"
                             : "a mask makes items differ: a block per item",
      layout.tma_store ? "O is stored by TMA"
                       : "O is stored row by row: its layout or type is none that TMA stores whole"};
  if (layout.clear_values)
    s.reasons.push_back("rows of V that are hidden are cleared in shared memory by a warp of the producer");
  return s;
}

}  // namespace

Sm90CudaLayout sm90_cuda_layout(const AttentionSpec& spec, const CudaSchedule& schedule) {
  const int64_t dqk = spec.dots[0].head_dim, dv = spec.value_dim;
  const bool masked = !spec.keep.is_constant_true();
  const auto dtype = [&](const Access& access) { return operand_dtype(spec, access); };
  Sm90CudaLayout layout;
  layout.consumers = schedule.block_q / 64;
  layout.blocks_per_multiprocessor = layout.consumers == 1 ? 2 : 1;
  layout.sums = dv / 2 + schedule.block_kv / 2 + schedule.block_kv / 4;
  const Registers registers = registers_of(spec, schedule);
  layout.producer_registers = registers.producer;
  layout.consumer_registers = registers.consumer;
  const bool gathers = loads_per_position(spec.score) || loads_per_position(spec.keep) ||
                       (spec.weight_factor && loads_per_position(*spec.weight_factor));
  layout.sums_at_once = gathers ? kGatheredSums : schedule.block_kv / 2;
  layout.clear_values = !spec.keep_kv.is_constant_true() ||
                        !std::get<TensorMapAccess>(analyze_map(spec, spec.value, Axis::kv, dv)).exact_rows;
  const auto output = analyze_map(spec, spec.output, Axis::q, dv);
  if (const auto* map = std::get_if<TensorMapAccess>(&output))
    layout.tma_store =
        is_16_bit(dtype(spec.output)) && map->exact_rows && (map->exact_columns || dv % kBoxColumns == 0);
  layout.persistent = !masked;
  layout.longest_first =
      depends_on_axis(spec.kv_range.end, Axis::q_hi) && !depends_on_axis(spec.kv_range.begin, Axis::q_lo);
  const int64_t query = box_count(dqk) * schedule.block_q,
                output_rows = layout.tma_store ? box_count(dv) * schedule.block_q : 0;
  const int64_t rows =
      std::max(query, output_rows) + schedule.stages * schedule.block_kv * (box_count(dqk) + box_count(dv));
  layout.bytes = rows * kRowBytes + (8 * (2 + 5 * schedule.stages) + 15) / 16 * 16 + 32 * schedule.stages;
  return layout;
}

Result<Done> validate_sm90_prefill(const TileProgram& program, const CudaSchedule& s, const CudaTarget& target) {
  if (s.block_q != 64 && s.block_q != 128 && s.block_q != 192)
    return invalid("block_q {} is none of 64, 128 and 192", s.block_q);
  if (s.block_kv < kStep || s.block_kv > 256 || s.block_kv % kStep != 0)
    return invalid("block_kv {} is no multiple of {} up to 256", s.block_kv, kStep);
  if (s.warps != 4 + s.block_q / 16)
    return invalid("warps {} is not the {} that {} rows of queries take", s.warps, 4 + s.block_q / 16, s.block_q);
  if (s.stages < 1 || s.stages > 4) return invalid("stages {} is not between 1 and 4", s.stages);
  if (s.block_q == 192 && reads_tables(program.spec))
    return invalid("block_q {} leaves no registers to expressions that load from tensors; 128 does", s.block_q);
  if (const int64_t widest = std::max(s.block_kv, program.spec.value_dim);
      s.block_q != 128 && widest > kWidestOfFewRegisters)
    return invalid("block_q {} starts threads with registers for products of {} columns, and there are some of {}",
                   s.block_q, kWidestOfFewRegisters, widest);
  if (s.block_kv > kWidestOfFunctions && calls_functions(program.spec))
    return invalid("block_kv {} is more than {}, beside which functions like tanh of a score find registers",
                   s.block_kv, kWidestOfFunctions);
  const Sm90CudaLayout layout = sm90_cuda_layout(program.spec, s);
  const int64_t sums = registers_of(program.spec, s).sums;
  if (layout.sums > sums)
    return invalid("block_q {} and block_kv {} take {} registers of a thread for O, S and P, and {} are for them",
                   s.block_q, s.block_kv, layout.sums, sums);
  const int64_t share = layout.blocks_per_multiprocessor == 1
                            ? target.shared_bytes_per_block
                            : target.shared_bytes_per_multiprocessor / layout.blocks_per_multiprocessor - 1024;
  if (layout.bytes > share)
    return invalid("block_q {}, block_kv {} and stages {} take {} bytes of shared memory, and a block on {} has {}",
                   s.block_q, s.block_kv, s.stages, layout.bytes, target.architecture(), share);
  return Done{};
}

CudaOffer plan_cuda_sm90_prefill(const TileProgram& program, const CudaTarget& target) {
  if (std::string reason = refuse_sm90(program.spec, target); !reason.empty())
    return CudaPlan::Refusal{CudaTemplate::sm90_prefill, std::move(reason)};
  CudaPlan::Choice choice{choose_sm90_tiles(program.spec, target), always_cuda()};
  if (auto legal = validate_sm90_prefill(program, choice.schedule, target); !legal)
    return CudaPlan::Refusal{CudaTemplate::sm90_prefill, to_string(legal.error())};
  choice.needs_tensor_maps = true;
  return choice;
}

}  // namespace tilewright
