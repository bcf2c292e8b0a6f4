#include "runtime/cuda/occupancy.h"

namespace tilewright {
namespace {

constexpr int64_t kWarp = 32;
constexpr int64_t kRegisterUnit = 256;  ///< registers are given to warps in these
constexpr int64_t kWarpUnit = 4;        ///< and to warps of one of four schedulers
constexpr int64_t kSharedUnit = 128;    ///< bytes
constexpr int64_t kDriverShared = 1024;

int64_t whole_units(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

Occupancy occupancy(const KernelFacts& facts, int64_t threads, int64_t dynamic_shared, const CudaTarget& target) {
  const int64_t warps = whole_units(threads, kWarp) / kWarp;
  const int64_t registers = whole_units(facts.registers * kWarp, kRegisterUnit);
  const int64_t warps_by_registers = registers == 0
                                         ? target.threads_per_multiprocessor / kWarp
                                         : target.registers_per_multiprocessor / kWarpUnit / registers * kWarpUnit;
  const int64_t shared = facts.static_shared + dynamic_shared;
  const int64_t shared_by_block = whole_units(shared + kDriverShared, kSharedUnit);
  const struct {
    int64_t blocks;
    std::string_view name;
  } limits[] = {
      {warps_by_registers / warps, "registers"},
      {shared > target.shared_bytes_per_block ? 0 : target.shared_bytes_per_multiprocessor / shared_by_block,
       "shared memory"},
      {target.threads_per_multiprocessor / kWarp / warps, "threads"},
      {target.blocks_per_multiprocessor, "blocks"},
  };
  Occupancy least{limits[0].blocks, 0, limits[0].name};
  for (const auto& limit : limits)
    if (limit.blocks < least.blocks) least = {limit.blocks, 0, limit.name};
  least.warps = least.blocks * warps;
  return least;
}

}  // namespace tilewright
