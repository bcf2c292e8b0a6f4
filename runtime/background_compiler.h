// Compiling while the tier runs: what becomes of one kernel's code, and the thread that makes it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "runtime/compiled.h"

namespace tilewright {

/// Generated code that is on its way. Kernels share it and outlive the engine that makes it. Thread-safe.
class PendingCode {
 public:
  /// Null until it is there; then always the same, and as long-lived as this.
  const Compiled* ready() const { return ready_.load(std::memory_order_acquire); }
  /// Of a kernel that was not compiled for whoever asks (CompileStats::cache_hit). ready() is not null.
  const CompileStats& hit_stats() const { return hit_stats_; }
  void finish(Result<std::shared_ptr<const Compiled>> result);
  /// Waits for the end of the compile.
  Result<Done> wait() const;
  /// Why there will be no code; empty while there may be.
  Diagnostics errors() const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable done_;
  bool is_done_ = false;
  Diagnostics errors_;
  std::shared_ptr<const Compiled> code_;
  CompileStats hit_stats_;
  std::atomic<const Compiled*> ready_{nullptr};  ///< set last
};

/// One thread, started by the first job; jobs run in the order in which they came.
class BackgroundCompiler {
 public:
  using Make = std::function<Result<std::shared_ptr<const Compiled>>()>;

  BackgroundCompiler() = default;
  /// Finishes the job that is running; those that have not begun end with an error.
  ~BackgroundCompiler();
  BackgroundCompiler(const BackgroundCompiler&) = delete;
  BackgroundCompiler& operator=(const BackgroundCompiler&) = delete;

  std::shared_ptr<const PendingCode> enqueue(Make make);

 private:
  struct Job {
    Make make;
    std::shared_ptr<PendingCode> code;
  };
  void work();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace tilewright
