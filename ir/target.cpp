#include "ir/target.h"

namespace tilewright {

std::string_view to_string(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::avx2: return "avx2";
    case CpuIsa::avx512: return "avx512";
    case CpuIsa::amx_emulated: return "amx-emulated";
    case CpuIsa::amx: return "amx";
    case CpuIsa::baseline: break;
  }
  return "baseline";
}

std::optional<CpuIsa> parse_cpu_isa(std::string_view text) {
  for (CpuIsa isa : {CpuIsa::baseline, CpuIsa::avx2, CpuIsa::avx512, CpuIsa::amx_emulated, CpuIsa::amx})
    if (to_string(isa) == text) return isa;
  return std::nullopt;
}

}  // namespace tilewright
