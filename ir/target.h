// Target: hardware facts as data. Nothing here touches the machine; runtime/cpu_detect fills one in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tilewright {

/// Ordered: a level includes the ones before it. baseline is x86-64 SSE2, used for nothing but diagnostics.
/// amx_emulated runs kernels made for tiles on AVX-512 alone, for tests and for looking at them; only who asks for it
/// gets it.
enum class CpuIsa : uint8_t { baseline, avx2, avx512, amx_emulated, amx };
std::string_view to_string(CpuIsa isa);
std::optional<CpuIsa> parse_cpu_isa(std::string_view text);

struct CpuTarget {
  CpuIsa isa = CpuIsa::avx2;  ///< avx2 = AVX2+FMA+F16C; avx512 = F+BW+DQ+VL besides; amx = tiles of bf16 besides
  bool avx512_bf16 = false;
  bool avx512_fp16 = false;
  int64_t l1_bytes = 32 << 10;  ///< data, per core
  int64_t l2_bytes = 1 << 20;   ///< per core
  int64_t l3_bytes = 16 << 20;  ///< shared
  int cores = 1;

  bool has_avx512() const { return isa >= CpuIsa::avx512; }
  bool has_tiles() const { return isa >= CpuIsa::amx_emulated; }  ///< native or emulated
  int64_t vector_bytes() const { return has_avx512() ? 64 : 32; }
  int vector_registers() const { return has_avx512() ? 32 : 16; }
};

}  // namespace tilewright
