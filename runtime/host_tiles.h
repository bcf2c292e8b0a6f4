// AMX tiles beside the host application's own: permission from the operating system, and the host's tiles kept.
#pragma once

#include <array>
#include <cstddef>

namespace tilewright {

/// Linux gives a process tile registers when it asks (arch_prctl ARCH_REQ_XCOMP_PERM), for good and for all its
/// threads. Asked once per process, by the first compile of a kernel with tiles; false = refused. Once granted, signal
/// frames grow and the kernel refuses alternate signal stacks (sigaltstack) under 12 KB; where a thread has such a
/// small one already, it refuses the permission.
bool request_tile_permission();

/// Around kernels with LaunchInfo::native_tiles, which configure tiles for themselves and release them: a host thread
/// that had tiles configured finds configuration and contents as they were. Costs a store of 64 bytes where it had
/// none.
class HostTiles {
 public:
  explicit HostTiles(bool needed);
  ~HostTiles();
  HostTiles(const HostTiles&) = delete;
  HostTiles& operator=(const HostTiles&) = delete;

 private:
  void save_contents();
  void restore_contents();

  alignas(64) std::array<std::byte, 64> configuration_{};  ///< byte 0 is the palette, 0 = no tiles are configured
  alignas(64) std::array<std::byte, 8 * 16 * 64> contents_;
};

}  // namespace tilewright
