// Schedules of GPU kernels: plain printable structs that say how one runs, from rules or from the tuner.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/program.h"
#include "ir/cuda_target.h"
#include "ir/tile_program.h"

namespace tilewright {

/// Each is one file of codegen/cuda/device/ and one of codegen/cuda/.
enum class CudaTemplate : uint8_t {
  generic,           ///< any TileProgram, op by op, FMA
  generic_backward,  ///< any BackwardSpec, FMA
  loop,              ///< any LoopStep
  sm80_prefill,      ///< mma.sync, cp.async, ldmatrix: every architecture here
  sm90_prefill,      ///< TMA, wgmma, warp specialisation: sm_90a alone
  decode             ///< few queries: split-KV, query heads of a group in one tile, a combine phase
};
std::string_view to_string(CudaTemplate name);

struct CudaSchedule {
  CudaTemplate kernel = CudaTemplate::generic;
  int64_t block_q = 16;              ///< query rows of one thread block
  int64_t block_kv = 32;             ///< keys of one step
  int64_t warps = 4;                 ///< of one thread block, producers included
  int64_t stages = 1;                ///< K/V tiles in flight
  int64_t split_kv = 0;              ///< decode: keys per split, 0 = not split
  int64_t pack_gqa = 0;              ///< 1: the query heads of a group are rows of one tile
  int64_t products = 1;              ///< bf16 products per multiplication of f32 operands: 1, 3 or 6
  std::vector<std::string> reasons;  ///< one sentence per choice
};

/// One integer of a schedule, by the name that texts and files use.
struct CudaScheduleField {
  std::string_view name;
  int64_t CudaSchedule::* member;
};
std::span<const CudaScheduleField> cuda_schedule_fields();

/// Same template and integers; reasons do not count.
bool same_choice(const CudaSchedule& a, const CudaSchedule& b);

/// "sm80_prefill: block_q 128, block_kv 64, …" one line, reasons left out.
std::string print(const CudaSchedule& schedule);

/// Which templates take this program on this target; the first accepted one whose condition holds runs.
struct CudaPlan {
  struct Choice {
    CudaSchedule schedule;
    Expr use_when;  ///< bool over dims; constant true for the last choice
    /// Passed over at a launch whose strides or addresses no tensor map can hold: the next choice runs.
    bool needs_tensor_maps = false;
  };
  struct Refusal {
    CudaTemplate kernel;
    std::string reason;  ///< one sentence
  };
  std::vector<Choice> choices;
  std::vector<Refusal> refused;
};

struct CudaPlanOptions {
  bool force_generic = false;  ///< tests: the generic template for everything
};

CudaPlan plan_cuda(const TileProgram& program, const CudaTarget& target, const CudaPlanOptions& options = {});
CudaPlan plan_cuda(const BackwardSpec& spec, const CudaTarget& target, const CudaPlanOptions& options = {});
CudaPlan plan_cuda(const LoopStep& step, const CudaTarget& target, const CudaPlanOptions& options = {});

}  // namespace tilewright
