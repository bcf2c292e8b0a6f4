// EmulatedBlock: one thread block in execution. Threads are fibers; whoever waits names what for.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "emulator/async_copies.h"
#include "emulator/bank_counter.h"
#include "emulator/device/interface.h"
#include "emulator/fiber.h"
#include "emulator/launch.h"
#include "emulator/race_detector.h"
#include "emulator/shared_memory.h"

namespace tilewright {

/// What one thread waits for; `what` is a literal.
struct Wait {
  const char* what = "its turn";
  int64_t a = -1, b = -1;  ///< which barrier, which phase, …
};

struct EmulatedThread {
  Fiber fiber;
  int id = 0;
  bool done = false;
  Wait wait;
  AsyncCopies copies;
  bool wgmma_fenced = false;  ///< since its registers could change
};

/// Threads that meet: the last to arrive acts for all.
struct Rendezvous {
  int size = 32;
  int arrived = 0;
  const char* kind = nullptr;
  std::array<void*, 128> argument{};
  std::vector<int> waiting;
};

/// bar.sync and bar.arrive of one id.
struct NamedBarrier {
  unsigned threads = 0;
  unsigned arrived = 0;
  std::vector<int> waiting;
  RaceDetector::Clock clock;
};

class TmaEngine;
class Warpgroups;

class EmulatedBlock : public EmulatorInterface {
 public:
  struct Shape {
    int64_t blocks = 1;
    int threads = 32;
    int64_t shared_bytes = 0;
    int blocks_per_multiprocessor = 1;
  };
  EmulatedBlock(const Shape& shape, const EmulatorOptions& options, EmulatorStatistics& statistics,
                const FiberStacks& stacks);
  EmulatedBlock(const EmulatedBlock&) = delete;
  EmulatedBlock& operator=(const EmulatedBlock&) = delete;
  ~EmulatedBlock();

  /// Runs all threads of block `index` through kernel(arguments). Gives the first complaint, empty when there is none.
  std::string run(int64_t index, void (*kernel)(void**), void** arguments);

  // For the engines, on the fiber of a thread:
  EmulatedThread& current() { return threads_[thread_index]; }
  int warp() const { return static_cast<int>(thread_index / 32); }
  int lane() const { return static_cast<int>(thread_index % 32); }
  const EmulatorOptions& options() const { return options_; }
  EmulatorStatistics& statistics() { return statistics_; }
  size_t threads() const { return threads_.size(); }
  SharedMemory& shared_memory() { return shared_; }
  RaceDetector& races() { return races_; }
  TmaEngine& tma() { return *tma_; }
  Warpgroups& warpgroups() { return *warpgroups_; }
  /// Ends the run with a sentence; the thread and block are added. Does not return.
  [[noreturn]] void fail(std::string sentence);
  /// Fails with "`what` at `address`, `race`" where there is a race and races are looked for.
  void complain(const char* what, uint32_t address, const std::string& race);
  /// Stops the running thread until wake().
  void block(Wait wait);
  void wake(std::vector<int>& threads);
  /// The running thread is `position` of `rendezvous`; the last to come runs act(arguments by position).
  template <class Act>
  void meet(Rendezvous& rendezvous, int position, const char* kind, void* argument, Act act) {
    if (rendezvous.arrived == 0) rendezvous.kind = kind;
    if (rendezvous.kind != kind) diverged(rendezvous, kind);
    rendezvous.argument[static_cast<size_t>(position)] = argument;
    if (++rendezvous.arrived < rendezvous.size) {
      rendezvous.waiting.push_back(static_cast<int>(thread_index));
      block({kind});
      return;
    }
    rendezvous.arrived = 0;
    banks_.flush(warp());
    act(rendezvous.argument);
    wake(rendezvous.waiting);
  }
  Rendezvous& warp_rendezvous() { return warps_[static_cast<size_t>(warp())]; }
  /// Naturally aligned, and inside a buffer of the launch.
  void check_global(const void* address, size_t bytes, bool write, const char* who);
  void check_global_range(const void* address, size_t bytes, bool write, const char* who);

 private:
  void install();
  [[noreturn]] void diverged(const Rendezvous& rendezvous, const char* kind);
  unsigned char* access_shared(uint32_t address, uint32_t bytes, bool is_store);
  void check_plain(const void* address, size_t bytes, bool write);
  void barrier(unsigned id, unsigned threads, bool wait);
  void schedule_next(Fiber& from);
  void leave();
  std::string deadlock() const;
  std::string what_is_left() const;
  bool run_engines();

  static void thread_main(void* thread);

  Shape shape_;
  const EmulatorOptions& options_;
  EmulatorStatistics& statistics_;
  const FiberStacks& stacks_;
  SharedMemory shared_;
  RaceDetector races_;
  BankCounter banks_;
  std::unique_ptr<TmaEngine> tma_;
  std::unique_ptr<Warpgroups> warpgroups_;
  Fiber scheduler_;
  std::vector<EmulatedThread> threads_;
  std::deque<int> ready_;
  std::vector<Rendezvous> warps_;
  std::array<NamedBarrier, 16> barriers_;
  std::mt19937_64 random_;
  std::string complaint_;
  const EmulatedBuffer* last_buffer_ = nullptr;  ///< that a plain access was in
  int alive_ = 0;
  void (*kernel_)(void**) = nullptr;
  void** arguments_ = nullptr;
};

/// What calls of kernel text lead to.
inline EmulatedBlock& block_of(EmulatorInterface* emulator) { return *static_cast<EmulatedBlock*>(emulator); }

}  // namespace tilewright
