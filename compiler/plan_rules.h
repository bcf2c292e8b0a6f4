// The rules of each CPU template, one file each: which programs it takes and with what tile sizes.
#pragma once

#include <span>
#include <string>

#include "compiler/schedule.h"

namespace tilewright {

/// No template takes wider heads.
inline constexpr int64_t kMaxHeadDim = 512;

/// The condition of a choice that runs whenever no earlier one does.
Expr always();

/// One sentence why the template does not take the program; empty when it does.
std::string refuse_prefill(const TileProgram& program, const CpuTarget& target);
std::string refuse_amx_prefill(const TileProgram& program, const CpuTarget& target);
/// One sentence why another template is to run although this one could; empty when not.
std::string amx_prefill_is_slower(const TileProgram& program, const CpuTarget& target);
std::string refuse_decode(const TileProgram& program, const CpuTarget& target);
/// Of a program that decode takes, why not on tiles.
std::string refuse_amx_decode(const TileProgram& program, const CpuTarget& target);
/// What every fast template needs; empty when it is there.
std::string refuse_fast(const TileProgram& program, const CpuTarget& target);

/// Products of bf16 parts per multiplication of operands that may be rounded to these types (semantics 22); 0 = FMA was
/// asked for.
int64_t bf16_products(DType a, DType b, PrecisionPolicy policy);
/// The same of weights: two parts of those are finer than f16 already, without the product of both second parts.
int64_t bf16_weight_products(DType weights, DType operand, PrecisionPolicy policy);
/// Parts of each operand that so many products need.
int64_t bf16_parts(int64_t products);

CpuSchedule schedule_prefill(const TileProgram& program, const CpuTarget& target);
/// Keys that block_kv of amx_prefill is a multiple of: pairs of tiles, and as many steps as the output columns have
/// turns, which are finished in equal shares beside them.
int64_t amx_block_unit(int64_t value_dim);
CpuSchedule schedule_amx_prefill(const TileProgram& program, const CpuTarget& target);
CpuSchedule schedule_decode(const TileProgram& program, const CpuTarget& target);
CpuSchedule schedule_amx_decode(const TileProgram& program, const CpuTarget& target);

/// A forward pass that was planned by FMA because backward passes read what it writes (PlanOptions::feeds_backward)
/// runs on tiles where all of those do and multiply the operands of scores alike: then both have the same scores, to
/// the bit. Not where its weights would be rounded to bf16: gradients that are sums over all scores feel that in the
/// output.
void follow_backward(CpuPlan& plan, const TileProgram& program, const CpuTarget& target,
                     std::span<const CpuPlan* const> backward);

/// Chooses mr and nv for outputs of `width` columns (lanes are set), and says why.
void fit_micro_kernel(CpuSchedule& schedule, const CpuTarget& target, int64_t width);

/// What every fast backward template needs; empty when it is there.
std::string refuse_fast_backward(const BackwardSpec& spec, const CpuTarget& target);
std::string refuse_amx_backward(const BackwardSpec& spec, const CpuTarget& target);
/// One sentence why FMA is to run although tiles could; empty when not.
std::string amx_backward_is_slower(const BackwardSpec& spec, const CpuTarget& target);
CpuSchedule schedule_amx_backward(const BackwardSpec& spec, const CpuTarget& target);
/// The products of scores: of s, and of t where there is one.
std::vector<const DotTerm*> score_products(const BackwardSpec& spec);
/// Columns of the widest operand or product.
int64_t backward_width(const BackwardSpec& spec);
/// Bytes of L2 that a backward schedule works in: a chunk with K, V, dK and dV, a block of rows, two tiles of scores.
int64_t backward_working_set(const CpuSchedule& schedule, const BackwardSpec& spec);

/// Decode takes at most this many query rows (q_len · head_group) that share one KV head.
int64_t decode_row_limit(const AttentionSpec& spec);

/// The most query rows that a decode work item may meet: q_len · head_group where it is known, else the limit.
int64_t decode_rows(const AttentionSpec& spec);

/// Vector lanes of the accumulation type.
int64_t accumulator_lanes(const TileProgram& program, const CpuTarget& target);

}  // namespace tilewright
