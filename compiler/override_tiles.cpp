// A caller's tile sizes in place of the rules' own.
#include <algorithm>
#include <numeric>

#include "compiler/plan_rules.h"
#include "compiler/schedule_space.h"

namespace tilewright {
namespace {

/// The wanted size in whole units, with the reason that schedules print.
int64_t take(CpuSchedule& s, std::string_view name, int64_t wanted, int64_t unit, std::string_view unit_name) {
  const int64_t used = round_up(wanted, unit);
  s.reasons.push_back(used == wanted ? fmt::format("{} {} was asked for", name, wanted)
                                     : fmt::format("{} {} was asked for and rounded up to {}, whole {} of {}", name,
                                                   wanted, used, unit_name, unit));
  return used;
}

Result<Done> check_range(const ScheduleOverride& wanted) {
  // Before rounding: the caches bound what comes of it.
  constexpr int64_t kLargest = 1 << 20;
  for (const auto& [name, size] : {std::pair{"block_q", wanted.block_q}, {"block_kv", wanted.block_kv}})
    if (size < 0 || size > kLargest)
      return invalid("{} is {}; a tile has 1 to {} rows, 0 leaves it to the rules", name, size, kLargest);
  return Done{};
}

}  // namespace

Result<Done> override_tiles(CpuPlan& plan, const TileProgram& program, const CpuTarget& target,
                            const ScheduleOverride& wanted) {
  if (auto ok = check_range(wanted); !ok) return ok;
  for (CpuPlan::Choice& choice : plan.choices) {
    CpuSchedule& s = choice.schedule;
    if (s.kernel == CpuTemplate::decode || s.kernel == CpuTemplate::amx_decode) {
      if (wanted.block_kv == 0) continue;
      s.block_kv = std::min(take(s, "block_kv", wanted.block_kv, s.lanes, "vectors"), s.split_kv);
      if (auto ok = validate(s, &program, target); !ok) return ok;
      continue;
    }
    if (s.kernel == CpuTemplate::amx_prefill) {
      if (wanted.block_kv > 0)
        s.block_kv = take(s, "block_kv", wanted.block_kv, amx_block_unit(program.spec.value_dim), "tiles");
      if (wanted.block_q > 0) s.block_q = take(s, "block_q", wanted.block_q, 32, "tiles");
      if (!wanted.empty())
        if (auto ok = validate(s, &program, target); !ok) return ok;
      continue;
    }
    const bool prefill = s.kernel == CpuTemplate::prefill;
    if (wanted.block_kv > 0) {
      s.block_kv = prefill ? take(s, "block_kv", wanted.block_kv, s.nr(), "panels")
                           : take(s, "block_kv", wanted.block_kv, s.lanes, "vectors");
      // The rules fitted the strip to their own block; it may shrink to one tile of rows for a longer one.
      const int64_t row = s.block_kv * size_of(program.spec.accumulate);
      while (prefill && s.strip_rows > s.mr && s.strip_rows * row > target.l1_bytes / 2) s.strip_rows -= s.mr;
    }
    if (wanted.block_q > 0)
      s.block_q = take(s, "block_q", wanted.block_q, prefill ? s.strip_rows : 1, "strips");
    else if (prefill)
      s.block_q = round_up(s.block_q, s.strip_rows);
    if (!prefill) s.strip_rows = s.block_q;
    if (!wanted.empty())
      if (auto ok = validate(s, &program, target); !ok) return ok;
  }
  return Done{};
}

Result<Done> override_tiles(CpuPlan& plan, const BackwardSpec& spec, const CpuTarget& target,
                            const ScheduleOverride& wanted) {
  if (auto ok = check_range(wanted); !ok) return ok;
  if (wanted.empty()) return Done{};
  for (CpuPlan::Choice& choice : plan.choices) {
    CpuSchedule& s = choice.schedule;
    const bool tiled = s.kernel == CpuTemplate::amx_backward, fast = tiled || s.kernel == CpuTemplate::backward;
    if (wanted.block_kv > 0) {
      s.block_kv = take(s, "block_kv", wanted.block_kv, fast ? s.nr() : 1, "panels");
      s.chunk_kv = round_up(s.chunk_kv, s.block_kv);
    }
    if (wanted.block_q > 0) s.block_q = s.strip_rows = take(s, "block_q", wanted.block_q, fast ? s.mr : 1, "tiles");
    if (tiled) s.strip_rows = s.mr;
    if (auto ok = validate(s, &spec, target); !ok) return ok;
  }
  return Done{};
}

}  // namespace tilewright
