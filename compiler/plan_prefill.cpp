// When the fast prefill template runs, and its tile sizes.
#include <algorithm>
#include <span>

#include "compiler/plan_rules.h"

namespace tilewright {
namespace {

struct PrefillBlock {
  int64_t head_dim;  ///< up to this, the larger of Dqk and Dv
  int64_t block_q, block_kv, strip_rows;
};
// Measured best for f32 on 48 KB L1 and 2 MB L2; the loops below shrink them for less. See docs/performance-log.md.
constexpr PrefillBlock kPrefillBlocks[] = {
    {32, 384, 512, 12}, {128, 384, 256, 12}, {256, 192, 128, 24}, {512, 192, 64, 24}};

/// So many query heads that one block of queries each is work for all cores, twice over.
bool heads_fill_cores(const AttentionSpec& spec, const CpuTarget& target) {
  int64_t known = 1;
  for (const auto* dims : {&spec.batch, &spec.heads})
    for (const Dim& dim : *dims)
      if (dim.is_constant()) known *= dim.constant();
  return known >= 2 * target.cores;
}

/// Micro-kernel shapes that fill the registers, best first.
struct Tile {
  int64_t mr, nv;
};
constexpr Tile kTiles32[] = {{6, 4}, {4, 5}, {8, 3}, {3, 7}};  // of 32 registers: mr·nv sums, nv of B, 1 of A
constexpr Tile kTiles16[] = {{6, 2}, {4, 3}};                  // of 16

/// The first shape that pads the value dim least: one shape serves both products.
Tile best_tile(std::span<const Tile> tiles, int64_t value_vectors) {
  const auto padded = [&](const Tile& tile) { return (value_vectors + tile.nv - 1) / tile.nv * tile.nv; };
  if (value_vectors <= 2) return tiles[0];  // narrow outputs have a shape of their own
  return *std::min_element(tiles.begin(), tiles.end(),
                           [&](const Tile& a, const Tile& b) { return padded(a) < padded(b); });
}

}  // namespace

void fit_micro_kernel(CpuSchedule& s, const CpuTarget& target, int64_t width) {
  const int64_t vectors = (width + s.lanes - 1) / s.lanes;
  const Tile tile = target.has_avx512() ? best_tile(kTiles32, vectors) : best_tile(kTiles16, vectors);
  s.mr = tile.mr;
  s.nv = tile.nv;
  s.reasons.push_back(fmt::format("a {}x{} micro-kernel keeps its sums in {} of {} vector registers and fits Dv {}",
                                  s.mr, s.nv, s.mr * s.nv, target.vector_registers(), width));
}

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
  s.k_unroll = target.has_avx512() ? 1 : 2;
  fit_micro_kernel(s, target, dv);

  const PrefillBlock* block = std::find_if(std::begin(kPrefillBlocks), std::end(kPrefillBlocks) - 1,
                                           [&](const PrefillBlock& t) { return std::max(dqk, dv) <= t.head_dim; });
  s.strip_rows = round_up(block->strip_rows, s.mr);
  s.block_kv = std::max(s.nr(), block->block_kv * 4 / element / s.nr() * s.nr());
  while (s.block_kv > s.nr() && s.strip_rows * s.block_kv * element > target.l1_bytes / 2) s.block_kv -= s.nr();
  s.reasons.push_back(fmt::format("a strip of {} rows by {} scores takes {} KB of the {} KB L1", s.strip_rows,
                                  s.block_kv, s.strip_rows * s.block_kv * element >> 10, target.l1_bytes >> 10));

  // K and V come from afar once per block of queries, so blocks are long where heads alone share out the work.
  const bool long_blocks = heads_fill_cores(spec, target);
  s.block_q = long_blocks ? 2 * block->block_q : block->block_q;
  const auto working_set = [&] { return (s.block_q + s.block_kv) * (dqk + dv) * element; };
  while (s.block_q > 2 * s.strip_rows && working_set() > target.l2_bytes / 2)
    s.block_q = round_up(s.block_q / 2, s.strip_rows);
  if (working_set() > target.l2_bytes) s.block_q = s.strip_rows;
  if (spec.q_len.is_constant())
    s.block_q = std::clamp(round_up(spec.q_len.constant(), s.strip_rows), s.strip_rows, s.block_q);
  s.reasons.push_back(fmt::format("Q and O of {} rows with K and V of {} keys take {} KB of the {} KB L2", s.block_q,
                                  s.block_kv, working_set() >> 10, target.l2_bytes >> 10));
  if (long_blocks)
    s.reasons.push_back(fmt::format("heads alone are work for {} cores, so blocks of queries are long", target.cores));
  const DotTerm& dot = spec.dots[0];
  // Packing a block costs an item 1 to 2 %; so does reading back from memory what was packed once, and more where a
  // head is few blocks of queries. See docs/performance-log.md.
  s.share_packed = spec.head_group > 1 || dot.key_row ? 1 : 0;
  s.reasons.push_back(s.share_packed
                          ? "K and V are packed once per KV head, since every item of its query heads would do it again"
                          : "each work item packs K and V itself and finds them in L2, which saves a pass over memory");
  if (dot.query_row) s.reasons.push_back("rows of Q are computed while their block is packed, once");
  if (dot.key_row)
    s.reasons.push_back(
        "rows of K are computed while they are packed: once per KV head, and once per block of queries over the "
        "workspace limit");
  return s;
}

}  // namespace tilewright
