#include "ir/cuda_target.h"

#include <fmt/format.h>

namespace tilewright {
namespace {

constexpr CudaTarget kTargets[] = {
    {80, false, 108, 163 << 10, 164 << 10, 64 << 10, 40 << 20, 2048, 32},
    {86, false, 84, 99 << 10, 100 << 10, 64 << 10, 6 << 20, 1536, 16},
    {89, false, 128, 99 << 10, 100 << 10, 64 << 10, 72 << 20, 1536, 24},
    {90, true, 132, 227 << 10, 228 << 10, 64 << 10, 50 << 20, 2048, 32},
    {100, false, 148, 227 << 10, 228 << 10, 64 << 10, 126 << 20, 2048, 32},
    {120, false, 170, 99 << 10, 100 << 10, 64 << 10, 96 << 20, 1536, 24},
};

}  // namespace

std::string CudaTarget::architecture() const {
  return fmt::format("sm_{}{}", capability, architecture_specific ? "a" : "");
}

std::span<const CudaTarget> cuda_targets() { return kTargets; }

std::optional<CudaTarget> parse_cuda_target(std::string_view architecture) {
  for (const CudaTarget& target : kTargets)
    if (target.architecture() == architecture) return target;
  return std::nullopt;
}

}  // namespace tilewright
