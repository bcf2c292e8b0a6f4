// Bank conflicts of ordinary loads and stores. Threads run one after another, so accesses are put together again: the
// n-th of a lane since its warp last met belongs to the n-th of the others. That is exact where lanes do the same.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "emulator/launch.h"

namespace tilewright {

/// Passes over the 32 banks of 4 bytes that one access of these addresses takes, each of `bytes`; threads that read the
/// same word share it. The addresses are those of one phase: 8 of 16 bytes, 16 of 8, or 32.
int bank_passes(std::span<const uint32_t> addresses, uint32_t bytes);

class BankCounter {
 public:
  BankCounter(int warps, EmulatorStatistics& statistics)
      : statistics_(statistics), warps_(static_cast<size_t>(warps)) {}
  void note(int warp, int lane, bool is_store, uint32_t address, uint32_t bytes);
  /// The warp meets: what is open is counted as it is.
  void flush(int warp);

 private:
  struct Access {
    bool is_store = false;
    uint32_t bytes = 0;
    std::vector<std::pair<int, uint32_t>> lanes;  ///< lane and address
  };
  struct Warp {
    std::array<uint64_t, 32> next{};
    uint64_t first = 0;  ///< number of open.front()
    std::deque<std::vector<Access>> open;
  };
  void count(const Access& access);

  EmulatorStatistics& statistics_;
  std::vector<Warp> warps_;
};

}  // namespace tilewright
