// What a Kernel holds.
#pragma once

#include "runtime/buffer_pool.h"
#include "runtime/compiled.h"

namespace tilewright {

struct Kernel::State {
  Graph graph;  ///< as given, with the precision in force
  std::shared_ptr<const Compiled> compiled;
  CompileStats stats;
  std::shared_ptr<Executor> executor;
  std::shared_ptr<BufferPool> buffers;
};

}  // namespace tilewright
