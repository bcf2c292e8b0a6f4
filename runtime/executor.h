// Executor: where parallel work runs. The built-in pool, or the caller's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace tilewright {

class Executor {
 public:
  virtual ~Executor() = default;
  virtual int workers() const = 0;
  /// Calls task(worker) once for every worker in [0, workers()), each with its own index, possibly in parallel;
  /// returns when all are done. Must be callable from several threads at once.
  virtual void run(const std::function<void(int worker)>& task) = 0;
};

/// The built-in pool: `threads` workers (the caller is one of them), 0 = one per core.
std::shared_ptr<Executor> make_thread_pool(int threads);

}  // namespace tilewright
