// Schedules: plain printable structs that say how a CPU kernel runs, from rules or from the tuner.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ir/backward_spec.h"
#include "ir/result.h"
#include "ir/target.h"
#include "ir/tile_program.h"

namespace tilewright {

/// To whole units.
inline int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/// ahead_of_time is no template of generated code: the tier that was compiled with the library (runtime/tier).
enum class CpuTemplate : uint8_t {
  generic,
  prefill,
  decode,
  backward,
  loop,
  matmul,
  matvec,
  amx_prefill,
  amx_decode,
  amx_backward,
  ahead_of_time
};
std::string_view to_string(CpuTemplate name);
/// AMX tiles, native or emulated.
inline bool takes_tiles(CpuTemplate name) {
  return name == CpuTemplate::amx_prefill || name == CpuTemplate::amx_decode || name == CpuTemplate::amx_backward;
}
inline bool is_decode(CpuTemplate name) { return name == CpuTemplate::decode || name == CpuTemplate::amx_decode; }

struct CpuSchedule {
  CpuTemplate kernel = CpuTemplate::generic;
  CpuIsa isa = CpuIsa::avx2;
  int64_t lanes = 8;       ///< vector lanes of the accumulation type
  int64_t block_q = 1;     ///< query rows of one work item
  int64_t block_kv = 64;   ///< keys of one step, a multiple of nr
  int64_t strip_rows = 6;  ///< query rows whose S tile stays in L1
  int64_t mr = 6, nv = 4;  ///< micro-kernel: rows × vectors of the S and O products
  int64_t k_unroll = 4;
  int64_t block_m = 0, block_n = 0, block_k = 0;  ///< matmul, matvec: rows, columns and depth of a block
  int64_t split_kv = 0;                           ///< decode: keys per split, 0 = not split
  int64_t chunk_kv = 0;                           ///< backward: keys of one work item, a multiple of block_kv
  /// Tiles: bf16 products per multiplication of operands: 1; 3 or 4 of two parts each; 6 of three parts each. Of the
  /// scores and of the outputs.
  int64_t products = 1, value_products = 1;
  /// Tiles: a row's reference maximum, and with it l and O, is renewed when the maximum outgrows it 2^this times.
  int64_t rescale_log2 = 0;
  /// prefill: 1 = K and V are packed once per KV head into shared memory where the workspace limit allows it, 0 = by
  /// every work item into its own scratch.
  int64_t share_packed = 1;
  std::string arithmetic;            ///< how products are computed, one sentence; empty where there are none
  std::vector<std::string> reasons;  ///< one sentence per choice

  int64_t nr() const { return nv * lanes; }
};

/// One integer of a schedule, by the name that texts and files use.
struct ScheduleField {
  std::string_view name;
  int64_t CpuSchedule::* member;
};
/// Every integer: what tells two schedules of one template and ISA apart.
std::span<const ScheduleField> schedule_fields();
/// Same template, ISA and integers; reasons do not count.
bool same_choice(const CpuSchedule& a, const CpuSchedule& b);

/// "prefill avx512: block_q 96, block_kv 256, …" one line, reasons left out.
std::string print(const CpuSchedule& schedule);

/// Which templates take this program on this target; the first accepted one runs where its condition holds.
struct CpuPlan {
  struct Choice {
    CpuSchedule schedule;
    Expr use_when;  ///< bool over dims; constant true for the last choice
  };
  struct Refusal {
    CpuTemplate kernel;
    std::string reason;
  };
  std::vector<Choice> choices;
  std::vector<Refusal> refused;
};

struct PlanOptions {
  bool force_generic = false;   ///< tests: the generic template for everything
  bool feeds_backward = false;  ///< a backward pass of the same program reads the LSE
};

CpuPlan plan_cpu(const TileProgram& program, const CpuTarget& target, const PlanOptions& options = {});
CpuPlan plan_backward(const BackwardSpec& spec, const CpuTarget& target, const PlanOptions& options = {});

/// Tile sizes that a caller wants instead of those of the rules; 0 leaves one to the rules.
struct ScheduleOverride {
  int64_t block_q = 0;   ///< query rows of one work item
  int64_t block_kv = 0;  ///< keys of one step
  bool empty() const { return block_q == 0 && block_kv == 0; }
  friend bool operator==(const ScheduleOverride&, const ScheduleOverride&) = default;
};

/// Puts the wanted tile sizes into every choice of the plan, rounded up to whole micro-kernel tiles where the template
/// works on those; a reason says so. Decode has no query tile: it takes block_kv only, up to its split.
/// Errors: a negative size, a strip of scores over L1 or a working set over L2; each names the size and the bound.
Result<Done> override_tiles(CpuPlan& plan, const TileProgram& program, const CpuTarget& target,
                            const ScheduleOverride& wanted);
/// The same for a backward pass, whose chunk of keys is rounded up to whole blocks.
Result<Done> override_tiles(CpuPlan& plan, const BackwardSpec& spec, const CpuTarget& target,
                            const ScheduleOverride& wanted);

}  // namespace tilewright
