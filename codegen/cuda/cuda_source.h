// What GPU code generation makes of a step: CUDA C++ text and what a launch of it needs. Pure: no CUDA, no machine.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "codegen/kernel_abi.h"
#include "compiler/cuda_schedule.h"
#include "compiler/workspace_rows.h"

namespace tilewright {

/// A TMA descriptor that the host encodes before a launch; kernels take them as parameters after Args, in this order.
/// Over a step tensor as it lies in memory; boxes land in shared memory with the 128-byte swizzle.
struct TensorMapPlan {
  int tensor = -1;           ///< of the step, or after those one of CudaLaunch::workspace_tensors
  std::vector<int> axes;     ///< tensor axes, innermost (stride 1) first; all of them, 5 at most
  std::vector<int64_t> box;  ///< elements per axis, in that order; box[0] · element bytes = 128
};

/// One `extern "C" __global__` function. Phases run in order on one stream.
struct CudaPhase {
  std::string symbol;
  Expr blocks;               ///< i64 over dims: thread blocks, one-dimensional; nothing is launched for 0
  int64_t threads = 128;     ///< per block, a multiple of 32
  int64_t shared_bytes = 0;  ///< dynamic
  std::vector<TensorMapPlan> tensor_maps;
  int64_t cluster = 1;                    ///< thread blocks that share theirs, 8 at most; `blocks` is a multiple
  int64_t blocks_per_multiprocessor = 1;  ///< that the registers of a thread leave room for: __launch_bounds__
};

struct CudaLaunch {
  CudaSchedule schedule;
  std::vector<CudaPhase> phases;
  Expr workspace_bytes;                            ///< i64 over dims; device memory that must be given, 64-byte aligned
  std::vector<WorkspaceTensor> workspace_tensors;  ///< that one phase writes and tensor maps of others reach
};

/// Primitives come in levels; each contains the ones before it.
enum class CudaPrimitives : uint8_t { base, sm80, sm90 };

/// The whole text is: device/types.cuh, the primitives of `primitives` (PTX bodies for NVRTC, emulated bodies for the
/// emulator), then `parts` in order.
struct CudaSource {
  CudaPrimitives primitives = CudaPrimitives::base;
  std::vector<std::string> parts;  ///< device files and generated text, in order
  CudaLaunch launch;
};

/// A file of codegen/cuda/device/ by its name there ("generic_tiles.cuh", "primitives/sm80.cuh"), as embedded at build
/// time. An unknown name is a broken invariant.
std::string_view device_file(std::string_view name);
/// A hash of the sources that decide what text comes out: what measurements of kernels depend on besides NVRTC.
std::string_view cuda_source_hash();
/// What NVRTC gets.
std::string nvrtc_text(const CudaSource& source);

/// The first parameter of every kernel, as 64-bit words: the step's tensors (device pointers), the meta words of its
/// ArgsLayout, the workspace. Device text declares it as
///   struct Args { void* tensors[T]; i64 meta[M]; void* workspace; };
/// (M is at least 1.)
inline int64_t cuda_args_words(size_t tensors, int64_t meta_words) {
  return static_cast<int64_t>(tensors) + std::max<int64_t>(meta_words, 1) + 1;
}
inline int64_t cuda_args_words(size_t tensors, const ArgsLayout& layout) {
  return cuda_args_words(tensors, layout.size);
}

/// One choice of a plan. `symbol_prefix` makes the symbols of several steps unique. Errors: what the text cannot hold
/// (more parameters than a launch takes), one sentence.
Result<CudaSource> generate_cuda(const TileProgram& program, const CudaSchedule& schedule, const CudaTarget& target,
                                 const std::string& symbol_prefix);
Result<CudaSource> generate_cuda(const BackwardSpec& spec, const CudaSchedule& schedule, const CudaTarget& target,
                                 const std::string& symbol_prefix);
Result<CudaSource> generate_cuda(const LoopStep& step, const CudaSchedule& schedule, const CudaTarget& target,
                                 const std::string& symbol_prefix);

}  // namespace tilewright
