// Fiber: a stack of its own and a place to go on from; one runs at a time on a thread of the process.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace tilewright {

/// A fiber that was not started stands for the stack it is switched from first.
class Fiber {
 public:
  /// The first switch to it calls entry(argument), which must not return. The stack [bottom, bottom + bytes), 16-byte
  /// aligned, is the caller's and may be used again by a later start.
  void start(void* bottom, size_t bytes, void (*entry)(void*), void* argument);
  /// Goes on in `to`; returns when something switches back to `from`, which must be what runs.
  static void switch_to(Fiber& from, Fiber& to);

 private:
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
  static void enter(void* self);
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  // What AddressSanitizer is told about; a fiber that was not started has the thread's own stack.
  void* fake_stack_ = nullptr;
  const void* bottom_ = nullptr;
  size_t bytes_ = 0;
};

/// Stacks for fibers, each with a page below it that traps.
class FiberStacks {
 public:
  FiberStacks() = default;
  FiberStacks(const FiberStacks&) = delete;
  FiberStacks& operator=(const FiberStacks&) = delete;
  ~FiberStacks();
  static constexpr size_t kBytes = size_t{256} << 10;
  /// False when the system has no memory for `count` stacks.
  bool reserve(size_t count);
  std::byte* bottom(size_t index) const { return memory_ + index * (kBytes + kGuard) + kGuard; }

 private:
  void release();
  static constexpr size_t kGuard = 4096;
  std::byte* memory_ = nullptr;
  size_t count_ = 0;
};

}  // namespace tilewright
