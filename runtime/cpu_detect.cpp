#include "runtime/cpu_detect.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

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

/// One thing that a level needs, by the name users know.
struct Feature {
  CpuIsa level;
  const char* name;
  bool present;
};

/// Does Linux know tile data (18) as state that a process may ask for?
bool tiles_can_be_asked_for() {
  constexpr long kGetSupported = 0x1021, kTileData = 18;  // ARCH_GET_XCOMP_SUPP
  uint64_t supported = 0;
  return syscall(SYS_arch_prctl, kGetSupported, &supported) == 0 && (supported >> kTileData & 1) != 0;
}

/// In the order of levels.
std::vector<Feature> features() {
  const Registers one = cpuid(1), seven = cpuid(7), extended = cpuid(0x80000001);
  const uint64_t saved = saved_state(one);
  const CpuIsa avx2 = CpuIsa::avx2, avx512 = CpuIsa::avx512, amx = CpuIsa::amx;
  return {{avx2, "AVX", bit(one.ecx, 28)},
          {avx2, "FMA", bit(one.ecx, 12)},
          {avx2, "F16C", bit(one.ecx, 29)},
          {avx2, "MOVBE", bit(one.ecx, 22)},
          {avx2, "AVX2", bit(seven.ebx, 5)},
          {avx2, "BMI1", bit(seven.ebx, 3)},
          {avx2, "BMI2", bit(seven.ebx, 8)},
          {avx2, "LZCNT", bit(extended.ecx, 5)},
          {avx2, "an operating system that saves AVX registers", (saved & 0x6) == 0x6},
          {avx512, "AVX512F", bit(seven.ebx, 16)},
          {avx512, "AVX512DQ", bit(seven.ebx, 17)},
          {avx512, "AVX512CD", bit(seven.ebx, 28)},
          {avx512, "AVX512BW", bit(seven.ebx, 30)},
          {avx512, "AVX512VL", bit(seven.ebx, 31)},
          {avx512, "an operating system that saves AVX-512 registers", (saved & 0xe6) == 0xe6},
          {amx, "AMX-TILE", bit(seven.edx, 24)},
          {amx, "AMX-BF16", bit(seven.edx, 22)},
          {amx, "an operating system that saves tiles", (saved >> 17 & 3) == 3 && tiles_can_be_asked_for()}};
}

/// The first feature that the CPU lacks for the level, or null.
const char* missing(const std::vector<Feature>& features, CpuIsa level) {
  for (const Feature& feature : features)
    if (feature.level <= level && !feature.present) return feature.name;
  return nullptr;
}

void set_level(CpuTarget& target, CpuIsa level) {
  target.isa = level;
  const Registers seven_one = cpuid(7, 1);
  target.avx512_bf16 = level >= CpuIsa::avx512 && cpuid(7).eax >= 1 && bit(seven_one.eax, 5);
  target.avx512_fp16 = level >= CpuIsa::avx512 && bit(cpuid(7).edx, 23);
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

}  // namespace

CpuTarget detect_cpu() {
  CpuTarget target;
  const std::vector<Feature> present = features();
  CpuIsa best = CpuIsa::baseline;
  for (const CpuIsa level : {CpuIsa::avx2, CpuIsa::avx512, CpuIsa::amx})
    if (!missing(present, level)) best = level;
  set_level(target, std::min(best, environment().max_isa.value_or(best)));
  detect_caches(target);
  cpu_set_t allowed;
  target.cores = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? std::max(1, CPU_COUNT(&allowed)) : 1;
  return target;
}

Result<CpuTarget> target_at(CpuIsa level) {
  CpuTarget target = detect_cpu();
  if (const auto limit = environment().max_isa; limit && *limit < level)
    return unsupported("{} was asked for, but TILEWRIGHT_MAX_ISA allows {} at most", to_string(level),
                       to_string(*limit));
  if (const char* name = missing(features(), level == CpuIsa::amx_emulated ? CpuIsa::avx512 : level))
    return unsupported("{} was asked for, but this machine lacks {}", to_string(level), name);
  set_level(target, level);
  return target;
}

}  // namespace tilewright
