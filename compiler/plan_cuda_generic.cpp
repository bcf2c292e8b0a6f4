#include "compiler/plan_cuda_generic.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <optional>

#include "compiler/cuda_backward_layout.h"
#include "compiler/cuda_generic_layout.h"
#include "compiler/plan_cuda_rules.h"

namespace tilewright {
namespace {

using Blocks = std::pair<int64_t, int64_t>;  ///< query rows, keys
constexpr Blocks kForward[] = {{64, 32}, {32, 32}, {16, 32}, {16, 16}, {8, 16}, {8, 8}, {4, 8}, {4, 4}, {2, 2}, {1, 1}};
constexpr Blocks kBackward[] = {{32, 32}, {32, 16}, {16, 16}, {8, 16}, {8, 8}, {4, 8}, {4, 4}, {2, 2}, {1, 1}};
constexpr int64_t kLargestBlock = 64, kMostWarps = 8;

/// Of shared memory, by schedule.
using Bytes = std::function<int64_t(const CudaSchedule&)>;

/// The largest tiles of which two blocks fit a multiprocessor, else one; nothing where one row and one key do not fit.
std::optional<CudaSchedule> largest_tiles(CudaTemplate kernel, std::span<const Blocks> sizes, const Bytes& bytes,
                                          const CudaTarget& target) {
  CudaSchedule schedule;
  schedule.kernel = kernel;
  for (const int64_t limit : {target.shared_bytes_per_multiprocessor / 2 - 1024, target.shared_bytes_per_block})
    for (const auto& [block_q, block_kv] : sizes) {
      schedule.block_q = block_q;
      schedule.block_kv = block_kv;
      const int64_t taken = bytes(schedule);
      if (taken > limit || (limit < target.shared_bytes_per_block && block_q < 16)) continue;
      schedule.reasons.push_back(
          fmt::format("{} query rows and {} keys a step: the largest tiles that fit {} bytes of shared memory, with {}",
                      block_q, block_kv, limit, taken));
      return schedule;
    }
  return {};
}

Result<Done> check_tiles(const CudaSchedule& s, const Bytes& bytes, const CudaTarget& target) {
  for (const auto& [name, size, most] :
       {std::tuple{"block_q", s.block_q, kLargestBlock}, std::tuple{"block_kv", s.block_kv, kLargestBlock},
        std::tuple{"warps", s.warps, kMostWarps}})
    if (size < 1 || size > most || !std::has_single_bit(static_cast<uint64_t>(size)))
      return invalid("{} {} is no power of two up to {}", name, size, most);
  if (const int64_t taken = bytes(s); taken > target.shared_bytes_per_block)
    return invalid("block_q {} and block_kv {} take {} bytes of shared memory, and {} has {}", s.block_q, s.block_kv,
                   taken, target.architecture(), target.shared_bytes_per_block);
  return Done{};
}

Bytes bytes_of(const TileProgram& program) {
  return [&program](const CudaSchedule& s) { return generic_cuda_layout(program, s).bytes; };
}
Bytes bytes_of(const BackwardSpec& spec) {
  return [&spec](const CudaSchedule& s) { return backward_shared_bytes(spec, s); };
}

CudaSchedule one_row_and_key() {
  CudaSchedule schedule;
  schedule.block_q = schedule.block_kv = 1;
  return schedule;
}

}  // namespace

Result<Done> validate_cuda_generic(const TileProgram& program, const CudaSchedule& schedule, const CudaTarget& target) {
  return check_tiles(schedule, bytes_of(program), target);
}

Result<Done> validate_cuda_backward(const BackwardSpec& spec, const CudaSchedule& schedule, const CudaTarget& target) {
  return check_tiles(schedule, bytes_of(spec), target);
}

CudaOffer plan_cuda_generic(const TileProgram& program, const CudaTarget& target) {
  if (auto schedule = largest_tiles(CudaTemplate::generic, kForward, bytes_of(program), target))
    return CudaPlan::Choice{std::move(*schedule), always_cuda()};
  return CudaPlan::Refusal{CudaTemplate::generic,
                           fmt::format("one row of head dim {} and value dim {} does not fit {} bytes of shared memory",
                                       generic_cuda_layout(program, one_row_and_key()).head_dim, program.spec.value_dim,
                                       target.shared_bytes_per_block)};
}

CudaOffer plan_cuda_backward(const BackwardSpec& spec, const CudaTarget& target) {
  if (auto schedule = largest_tiles(CudaTemplate::generic_backward, kBackward, bytes_of(spec), target))
    return CudaPlan::Choice{std::move(*schedule), always_cuda()};
  return CudaPlan::Refusal{CudaTemplate::generic_backward,
                           fmt::format("one row and one key take {} bytes of shared memory, and a block has {}",
                                       backward_shared_bytes(spec, one_row_and_key()), target.shared_bytes_per_block)};
}

}  // namespace tilewright
