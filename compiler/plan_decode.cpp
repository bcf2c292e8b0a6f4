// When the fast decode template runs, and its tile sizes.
#include <algorithm>

#include "compiler/plan_rules.h"

namespace tilewright {
namespace {
// Up to here reading K and V once costs more than the arithmetic on them.
constexpr int64_t kRows = 16;
constexpr int64_t kSplitBytes = 1 << 20;
// Devices that share tuning results (device_family): what starting a split costs is seen here, work for all cores is
// not.
constexpr int kFewCores = 4;
}  // namespace

int64_t decode_row_limit(const AttentionSpec& spec) { return std::max(kRows, spec.head_group); }

int64_t decode_rows(const AttentionSpec& spec) {
  const Dim rows = spec.q_len * spec.head_group;
  return rows.is_constant() ? std::max<int64_t>(rows.constant(), 1) : decode_row_limit(spec);
}

std::string refuse_decode(const TileProgram& program, const CpuTarget& target) {
  const AttentionSpec& spec = program.spec;
  if (std::string reason = refuse_fast(program, target); !reason.empty()) return reason;
  const Dim rows = spec.q_len * spec.head_group;
  if (rows.is_constant() && rows.constant() > decode_row_limit(spec))
    return fmt::format("{} query rows share one KV head, more than the {} that decode takes", rows.constant(),
                       decode_row_limit(spec));
  return {};
}

std::string refuse_amx_decode(const TileProgram& program, const CpuTarget& target) {
  const AttentionSpec& spec = program.spec;
  if (!target.has_tiles()) return "the target has no AMX tiles";
  if (spec.accumulate != DType::f32) return "tiles add in f32, and this accumulates in f64";
  const DotTerm& dot = spec.dots[0];
  if (dot.key_row) return "rows of K are computed, and tiles read K where it lies";
  for (const Access* stored : {&dot.key, &spec.value}) {
    const SpecTensor& tensor = spec.tensors[static_cast<size_t>(stored->tensor)];
    if (tensor.type.dtype != DType::bf16)
      return fmt::format("%{} is {}, and tiles read bf16 where it lies", tensor.name, to_string(tensor.type.dtype));
  }
  const bool rounds = spec.precision == PrecisionPolicy::bf16;
  if (dot.query_row && dot.query_row->dtype != DType::bf16 && !rounds)
    return "rows of Q are computed in f32 and declared no narrower, so that they may not be rounded to bf16";
  if (spec.weights != DType::bf16 && !rounds)
    return "the weights are declared f32 where they meet V, so that they may not be rounded to bf16";
  for (const int64_t dim : {dot.head_dim, spec.value_dim})
    if (dim % 2 != 0) return fmt::format("head dim {} is odd, and tiles read pairs of columns where they lie", dim);
  return {};
}

CpuSchedule schedule_amx_decode(const TileProgram& program, const CpuTarget& target) {
  constexpr int64_t kTileRows = 16;
  CpuSchedule s = schedule_decode(program, target);
  s.kernel = CpuTemplate::amx_decode;
  s.block_q = s.strip_rows = std::min(s.block_q, kTileRows);
  s.block_kv = 256;  // scores of all 16 rows, and as weights in bf16, beside streams of K and V in L1
  s.reasons.push_back("K and V of bf16 are tiles as they lie in memory");
  if (target.isa == CpuIsa::amx_emulated) s.reasons.push_back("tiles are emulated, because that was asked for");
  return s;
}

CpuSchedule schedule_decode(const TileProgram& program, const CpuTarget& target) {
  const AttentionSpec& spec = program.spec;
  CpuSchedule s;
  s.kernel = CpuTemplate::decode;
  s.isa = target.isa;
  s.lanes = accumulator_lanes(program, target);
  s.block_q = decode_rows(spec);
  s.strip_rows = s.block_q;
  s.mr = std::min<int64_t>(s.block_q, 4);
  s.nv = 1;
  s.block_kv = s.block_q <= kRows ? 512 : 256;  // scores in half of L1
  s.reasons.push_back(fmt::format("at most {} query rows share one KV head, whose K and V are read once", s.block_q));

  // A power of two that does not depend on kv_len or on the number of workers, so that results do not (semantics 20).
  const DotTerm& dot = spec.dots[0];
  const int64_t key_bytes = dot.head_dim * size_of(operand_dtype(spec, dot.key, dot.key_row)) +
                            spec.value_dim * size_of(operand_dtype(spec, spec.value));
  const bool few_cores = target.cores <= kFewCores;
  const int64_t longest = few_cores ? 2048 : 1024, most_bytes = few_cores ? 2 * kSplitBytes : kSplitBytes;
  s.split_kv = s.block_kv;
  while (s.split_kv < longest && s.split_kv * key_bytes < most_bytes) s.split_kv *= 2;
  s.reasons.push_back(fmt::format(
      "splits of {} keys ({} KB of K and V) {}", s.split_kv, s.split_kv * key_bytes >> 10,
      few_cores ? "are work enough for few cores, and cost little to start" : "keep all cores busy with few heads"));
  if (dot.query_row) s.reasons.push_back("rows of Q are computed by every split that reads them");
  if (dot.key_row) s.reasons.push_back("rows of K are computed once per KV head, block by block, before they are read");
  return s;
}

}  // namespace tilewright
