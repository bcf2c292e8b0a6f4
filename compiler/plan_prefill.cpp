// When the fast prefill template runs, and its tile sizes.
#include <algorithm>

#include "compiler/plan_rules.h"

namespace tilewright {
namespace {

struct Tile {
  int64_t head_dim;  ///< up to this, the larger of Dqk and Dv
  int64_t block_q, block_kv, strip_rows;
};
// Measured best for f32 on 48 KB L1 and 2 MB L2; the loops below shrink them for less.
constexpr Tile kTiles[] = {
    {32, 96, 512, 12}, {64, 96, 256, 12}, {128, 384, 128, 24}, {256, 384, 64, 24}, {512, 192, 64, 24}};

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

std::string refuse_prefill(const TileProgram& program, const CpuTarget& target) {
  if (std::string reason = refuse_fast(program, target); !reason.empty()) return reason;
  return {};
}

CpuSchedule schedule_prefill(const TileProgram& program, const CpuTarget& target) {
  const AttentionSpec& spec = program.spec;
  const int64_t element = size_of(spec.accumulate);
  const int64_t dqk = spec.dots[0].head_dim, dv = spec.value_dim;

  CpuSchedule s;
  s.kernel = CpuTemplate::prefill;
  s.isa = target.isa;
  s.lanes = accumulator_lanes(program, target);
  s.mr = 6;
  s.nv = target.isa == CpuIsa::avx512 ? 4 : 2;
  s.reasons.push_back(fmt::format("a {}x{} micro-kernel keeps its sums in {} of {} vector registers", s.mr, s.nv,
                                  s.mr * s.nv, target.vector_registers()));

  const Tile* tile = std::find_if(std::begin(kTiles), std::end(kTiles) - 1,
                                  [&](const Tile& t) { return std::max(dqk, dv) <= t.head_dim; });
  s.strip_rows = tile->strip_rows;
  s.block_kv = std::max(s.nr(), tile->block_kv * 4 / element / s.nr() * s.nr());
  while (s.block_kv > s.nr() && s.strip_rows * s.block_kv * element > target.l1_bytes / 2) s.block_kv -= s.nr();
  s.reasons.push_back(fmt::format("a strip of {} rows by {} scores takes {} KB of the {} KB L1", s.strip_rows,
                                  s.block_kv, s.strip_rows * s.block_kv * element >> 10, target.l1_bytes >> 10));

  s.block_q = tile->block_q;
  const auto working_set = [&] { return (s.block_q + s.block_kv) * (dqk + dv) * element; };
  while (s.block_q > 2 * s.strip_rows && working_set() > target.l2_bytes / 2)
    s.block_q = round_up(s.block_q / 2, s.strip_rows);
  if (spec.q_len.is_constant())
    s.block_q = std::clamp(round_up(spec.q_len.constant(), s.strip_rows), s.strip_rows, s.block_q);
  s.reasons.push_back(fmt::format("Q and O of {} rows with K and V of {} keys take {} KB of the {} KB L2", s.block_q,
                                  s.block_kv, working_set() >> 10, target.l2_bytes >> 10));
  return s;
}

}  // namespace tilewright
