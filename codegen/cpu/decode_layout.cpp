#include "codegen/cpu/decode_layout.h"

#include <algorithm>

#include "ir/result.h"

namespace tilewright::cpu {
namespace {

// How far ahead lines are asked for: into L1 where L3 can answer in time, and further into L2 for memory. The second is
// worth 10–20 % where K and V come from memory and costs nothing where they do not.
constexpr int64_t kNearBytes = 8 << 10;
constexpr int64_t kFarBytes = 48 << 10;

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

DecodeOperand operand(const AttentionSpec& spec, const Access& access, int64_t dim, int64_t lanes) {
  const DType dtype = spec.tensors[static_cast<size_t>(access.tensor)].type.dtype;
  const bool pairs = dtype == DType::bf16 && dim % (2 * lanes) == 0 && spec.accumulate == DType::f32;
  return {dtype, dim, pairs, dim / lanes, dim % lanes};
}

}  // namespace

DecodeLayout::DecodeLayout(const AttentionSpec& spec, const CpuSchedule& schedule) {
  TW_CHECK(spec.dots.size() == 1);
  dtype = spec.accumulate;
  element = size_of(dtype);
  lanes = schedule.lanes;
  rows = schedule.block_q;
  row_tile = rows >= 4 && schedule.mr >= 4 ? 4 : 1;
  // Rows are q_len · head_group and start at multiples of `rows`.
  single_rows = row_tile == 1 || spec.head_group % row_tile != 0 || rows % row_tile != 0;
  block_kv = round_up(schedule.block_kv, lanes);
  split_kv = schedule.split_kv;
  output_vectors = schedule.isa == CpuIsa::avx512 ? 4 : 2;
  key = operand(spec, spec.dots[0].key, spec.dots[0].head_dim, lanes);
  value = operand(spec, spec.value, spec.value_dim, lanes);
  query_stride = round_up(key.dim, lanes);
  value_stride = round_up(value.dim, lanes);

  const auto rows_of = [](const DecodeOperand& x, int64_t bytes) {
    return std::max<int64_t>(4, bytes / (x.dim * size_of(x.dtype)));
  };
  key_near = rows_of(key, kNearBytes);
  key_far = rows_of(key, kFarBytes);
  value_near = rows_of(value, kNearBytes);
  value_far = rows_of(value, kFarBytes);

  int64_t at = 0;
  auto place = [&](int64_t elements) {
    const int64_t here = at;
    at += round_up(elements, 64 / element);
    return here;
  };
  q_at = place(rows * query_stride);
  scores_at = place(rows * block_kv);
  max_at = place(rows);
  sum_at = place(rows * lanes);
  factor_at = place(rows);
  sums_at = place(std::max(lanes * lanes, value_stride));
  key_stage_at = place(block_kv * key.dim);
  value_stage_at = place(block_kv * value.dim);
  scratch_elements = at;
}

}  // namespace tilewright::cpu
