// The decode template for GPUs: which programs it takes, with what tiles and splits.
#pragma once

#include <string>
#include <vector>

#include "compiler/sm80_operands.h"

namespace tilewright {

/// Rows of a tile: query heads of a group times queries.
inline constexpr int64_t kCudaDecodeRows = 16;
/// Decode runs up to this many rows that share one KV head; more are cheaper as blocks of a prefill.
inline constexpr int64_t kCudaDecodeRowLimit = 64;
/// At most so many splits, and no more than make so many thread blocks.
inline constexpr int64_t kCudaMaxSplits = 64, kCudaBlocksWanted = 512;

/// Dynamic shared memory of a thread block.
int64_t cuda_decode_shared_bytes(const AttentionSpec& spec, const CudaSchedule& schedule);

/// Thread blocks of the first phase, tiles · splits.
Expr cuda_decode_blocks(const AttentionSpec& spec, const CudaSchedule& schedule);
/// Rows that the second phase joins, 0 with one split.
Expr cuda_decode_combined_rows(const AttentionSpec& spec, const CudaSchedule& schedule);
/// Partial states, 0 with one split.
Expr cuda_decode_workspace_bytes(const AttentionSpec& spec, const CudaSchedule& schedule);

/// Error: one sentence that names the integer and the bound that it breaks.
Result<Done> validate_cuda_decode(const TileProgram& program, const CudaSchedule& schedule, const CudaTarget& target);

}  // namespace tilewright
