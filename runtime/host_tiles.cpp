#include "runtime/host_tiles.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace tilewright {

bool request_tile_permission() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h of Linux 5.16
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
}

HostTiles::HostTiles(bool needed) {
  if (!needed) return;
  __asm__ volatile("sttilecfg %0" : "=m"(configuration_));
  if (configuration_[0] != std::byte{0}) save_contents();
}

HostTiles::~HostTiles() {
  if (configuration_[0] != std::byte{0}) restore_contents();
}

// A tile that the configuration leaves empty may not be named: its rows (byte 48 + n) are 0.
#define TILEWRIGHT_EACH_TILE(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)

void HostTiles::save_contents() {
  const long stride = 64;
#define TILEWRIGHT_SAVE(n)                                                                                  \
  if (configuration_[48 + n] != std::byte{0})                                                               \
    __asm__ volatile("tilestored %%tmm" #n ", (%0,%1,1)" ::"r"(contents_.data() + n * 16 * 64), "r"(stride) \
                     : "memor"                                                                              \
                       "y");
  TILEWRIGHT_EACH_TILE(TILEWRIGHT_SAVE)
#undef TILEWRIGHT_SAVE
}

void HostTiles::restore_contents() {
  const long stride = 64;
  __asm__ volatile("ldtilecfg %0" ::"m"(configuration_));
#define TILEWRIGHT_RESTORE(n)                 \
  if (configuration_[48 + n] != std::byte{0}) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #n ::"r"(contents_.data() + n * 16 * 64), "r"(stride) : "memory");
  TILEWRIGHT_EACH_TILE(TILEWRIGHT_RESTORE)
#undef TILEWRIGHT_RESTORE
}

#undef TILEWRIGHT_EACH_TILE

}  // namespace tilewright
