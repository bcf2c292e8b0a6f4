// What a Kernel holds.
#pragma once

#include "runtime/background_compiler.h"
#include "runtime/buffer_pool.h"
#include "runtime/compiled.h"

namespace tilewright {

struct Kernel::State {
  Graph graph;                               ///< as given, with the precision in force
  std::shared_ptr<const Compiled> compiled;  ///< where code is pending: the tier's
  CompileStats stats;
  std::shared_ptr<Executor> executor;
  std::shared_ptr<BufferPool> buffers;
  std::shared_ptr<const PendingCode> pending;  ///< of a tiered engine, or null

  const Compiled& current() const {
    const Compiled* generated = pending ? pending->ready() : nullptr;
    return generated ? *generated : *compiled;
  }
};

}  // namespace tilewright
