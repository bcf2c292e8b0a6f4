#include "codegen/cpu/decode_layout.h"

#include <algorithm>

#include "codegen/cpu/amx_tiles.h"
#include "compiler/schedule.h"
#include "ir/result.h"

namespace tilewright::cpu {
namespace {

// How far ahead lines are asked for: into L1 where L2 can answer in time, and further into L2 for L3 and memory. With
// only some lines asked for far ahead, which suffices to start the hardware's prefetching, L3 gives 3 % more and memory
// 20 % less.
constexpr int64_t kNearBytes = 4 << 10;
constexpr int64_t kFarBytes = 32 << 10;

DecodeOperand operand(const AttentionSpec& spec, DType dtype, int64_t dim, int64_t lanes) {
  const bool pairs = dtype == DType::bf16 && dim % (2 * lanes) == 0 && spec.accumulate == DType::f32;
  const auto rows_of = [&](int64_t bytes) { return std::max<int64_t>(4, bytes / (dim * size_of(dtype))); };
  return {dtype, dim, pairs, dim / lanes, dim % lanes, rows_of(kNearBytes), rows_of(kFarBytes)};
}

}  // namespace

DecodeLayout::DecodeLayout(const AttentionSpec& spec, const CpuSchedule& schedule, const CpuTarget& target) {
  TW_CHECK(spec.dots.size() == 1);
  dtype = spec.accumulate;
  element = size_of(dtype);
  lanes = schedule.lanes;
  rows = schedule.block_q;
  const DotTerm& dot = spec.dots[0];
  key = operand(spec, operand_dtype(spec, dot.key, dot.key_row), dot.head_dim, lanes);
  value = operand(spec, operand_dtype(spec, spec.value), spec.value_dim, lanes);
  // Rows are q_len · head_group and start at multiples of `rows`. A tile saves loads and, for 16-bit elements,
  // conversions of its keys; without conversions single rows keep up with memory, so that one kind of tile will do.
  const bool whole_tiles = spec.head_group % 4 == 0 && rows % 4 == 0;
  const bool converts = key.dtype != dtype || value.dtype != dtype;
  row_tile = rows >= 4 && schedule.mr >= 4 && (whole_tiles || converts) ? 4 : 1;
  single_rows = row_tile == 1 || !whole_tiles;
  block_kv = round_up(schedule.block_kv, lanes);
  split_kv = schedule.split_kv;
  output_vectors = schedule.isa >= CpuIsa::avx512 ? 4 : 2;
  query_stride = round_up(key.dim, lanes);
  value_stride = round_up(value.dim, lanes);

  int64_t at = 0;
  auto place = [&](int64_t elements) {
    const int64_t here = at;
    at += round_up(elements, 64 / element);
    return here;
  };
  const bool on_tiles = schedule.kernel == CpuTemplate::amx_decode;
  q_at = place(on_tiles ? 0 : rows * query_stride);
  scores_at = place(rows * block_kv);
  max_at = place(rows);
  sum_at = place(rows * lanes);
  factor_at = place(rows);
  sums_at = place(rows * value_stride);
  partial_at = place(row_tile * lanes * lanes);
  key_copy_at = place(block_kv * key.dim);
  value_copy_at = place(block_kv * value.dim);
  row_at = place(dot.query_row ? key.dim : 0);
  if (on_tiles) {
    constexpr int64_t kKeys = 16;
    tiles.columns = rows <= 4 ? 4 : rows <= 8 ? 8 : kKeys;
    tiles.file_at = place(AmxTiles::file_bytes(target) / element);
    tiles.query_at = place(round_up(key.dim, lanes) / 2);
    tiles.queries_at = place(key.dim / 2 * tiles.columns);
    tiles.scores_at = place(block_kv * tiles.columns);
    tiles.weights_at = place(2 * rows * block_kv);
    tiles.tail_at = place(kKeys * round_up(std::max(key.dim, value.dim), 32) / 2);
    tiles.sums_at = place(value.pairs ? 0 : rows * round_up(value.dim, 32));
  }
  scratch_elements = at;
}

}  // namespace tilewright::cpu
