// What a compiled CPU step looks like from outside: plain data in, no external symbols, element alignment only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compiler/program.h"
#include "compiler/schedule.h"

namespace tilewright {

/// The one argument block of every generated function.
///   tensors[i]  base pointer of step tensor i
///   meta        dims of the step by ArgsLayout::dims, then per tensor its shape and its strides (elements)
///   workspace   LaunchInfo::workspace_bytes, shared by all workers (null when 0)
///   packed      LaunchInfo::packed_bytes, shared by all workers; null = pack K/V on the fly
struct KernelArgs {
  void* const* tensors;
  const int64_t* meta;
  void* workspace;
  void* packed;
};

/// Work items [begin, end) of one phase, run by one worker with `scratch` (64-byte aligned, scratch_bytes) its own.
using KernelFunction = void (*)(const KernelArgs* args, int64_t begin, int64_t end, void* scratch);

/// Where things lie in KernelArgs::meta; a pure function of the step's tensors and dims.
struct ArgsLayout {
  std::vector<std::string> dims;
  std::vector<int64_t> shape_offset;   ///< per tensor, index into meta
  std::vector<int64_t> stride_offset;  ///< per tensor
  int64_t size = 0;                    ///< int64 words
};
ArgsLayout args_layout(const AttentionSpec& spec);
ArgsLayout args_layout(const BackwardSpec& spec);
ArgsLayout args_layout(const LoopStep& step);

/// Phases run in order with a barrier between them.
struct LaunchPhase {
  std::string symbol;
  Expr items;                     ///< i64 over dims
  bool only_when_packed = false;  ///< left out when KernelArgs::packed is null
  /// Items are claimed one at a time in ascending order and each is run to its end once claimed: an item may wait for
  /// items of smaller numbers.
  bool ordered = false;
};

/// Work items of an attention: (b, h, query block), row-major, query blocks fastest; `head_step` query heads are one.
Expr item_count(const ScoreSpace& spec, int64_t block_q, int64_t head_step = 1);
/// The number of blocks of `block_kv` keys of all (b, kv head), times `factor`: where K and V are packed by blocks.
Expr packed_blocks(const ScoreSpace& spec, int64_t block_kv, int64_t factor);

struct LaunchInfo {
  CpuSchedule schedule;
  bool native_tiles = false;  ///< the code configures tiles: it needs the permission, and the host's are to be kept
  std::vector<LaunchPhase> phases;
  int64_t scratch_bytes = 0;  ///< per worker, independent of sequence lengths
  Expr workspace_bytes;       ///< i64 over dims; must be given
  Expr packed_bytes;          ///< i64 over dims; may be withheld (slower, never wrong)
};

}  // namespace tilewright
