// cp.async of one thread: copies that were asked for, in groups, and are done at once or when the thread waits for
// them.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

namespace tilewright {

struct AsyncCopy {
  uint32_t to = 0;
  const void* from = nullptr;  ///< null: zeros
};

struct AsyncCopies {
  std::vector<AsyncCopy> open;                ///< not committed
  std::deque<std::vector<AsyncCopy>> groups;  ///< committed, oldest first
};

}  // namespace tilewright
