#include "runtime/cpu_detect.h"

#include <cpuid.h>
#include <sched.h>

#include <algorithm>

#include "runtime/options.h"

namespace tilewright {
namespace {

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

bool bit(uint32_t word, int position) { return (word >> position) & 1; }

/// Register state that the operating system saves (XCR0); 0 when it saves none.
uint64_t saved_state(const Registers& leaf1) {
  if (!bit(leaf1.ecx, 27)) return 0;  // OSXSAVE
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

void detect_isa(CpuTarget& target) {
  const Registers one = cpuid(1), seven = cpuid(7), seven_one = cpuid(7, 1), extended = cpuid(0x80000001);
  const uint64_t saved = saved_state(one);
  const bool ymm_saved = (saved & 0x6) == 0x6, zmm_saved = (saved & 0xe6) == 0xe6, tiles_saved = (saved >> 17 & 3) == 3;
  const bool avx2 = ymm_saved && bit(one.ecx, 28) && bit(one.ecx, 12) && bit(one.ecx, 29) && bit(one.ecx, 22) &&
                    bit(seven.ebx, 5) && bit(seven.ebx, 3) && bit(seven.ebx, 8) && bit(extended.ecx, 5);
  const bool avx512 = avx2 && zmm_saved && bit(seven.ebx, 16) && bit(seven.ebx, 17) && bit(seven.ebx, 28) &&
                      bit(seven.ebx, 30) && bit(seven.ebx, 31);
  target.isa = avx512 ? CpuIsa::avx512 : avx2 ? CpuIsa::avx2 : CpuIsa::baseline;
  target.avx512_bf16 = avx512 && cpuid(7).eax >= 1 && bit(seven_one.eax, 5);
  target.avx512_fp16 = avx512 && bit(seven.edx, 23);
  target.amx_bf16 = avx512 && tiles_saved && bit(seven.edx, 24) && bit(seven.edx, 22);
}

/// Leaf 4 (Intel) or 0x8000001D (AMD): both use the same fields.
void detect_caches(CpuTarget& target) {
  for (const uint32_t leaf : {4u, 0x8000001du}) {
    for (uint32_t index = 0; index < 8; ++index) {
      const Registers r = cpuid(leaf, index);
      const uint32_t type = r.eax & 31, level = r.eax >> 5 & 7;
      if (type == 0) break;
      if (type == 2) continue;  // instructions
      const int64_t bytes = static_cast<int64_t>((r.ebx >> 22) + 1) * ((r.ebx >> 12 & 0x3ff) + 1) *
                            ((r.ebx & 0xfff) + 1) * (static_cast<int64_t>(r.ecx) + 1);
      if (level == 1) target.l1_bytes = bytes;
      if (level == 2) target.l2_bytes = bytes;
      if (level == 3) target.l3_bytes = bytes;
    }
  }
}

void cap(CpuTarget& target, CpuIsa limit) {
  target.isa = std::min(target.isa, limit);
  if (target.isa < CpuIsa::avx512) target.avx512_bf16 = target.avx512_fp16 = target.amx_bf16 = false;
}

}  // namespace

CpuTarget detect_cpu() {
  CpuTarget target;
  detect_isa(target);
  detect_caches(target);
  cpu_set_t allowed;
  target.cores = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? std::max(1, CPU_COUNT(&allowed)) : 1;
  if (environment().max_isa) cap(target, *environment().max_isa);
  return target;
}

}  // namespace tilewright
