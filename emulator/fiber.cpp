#include "emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace tilewright {

void Fiber::enter(void* self) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  const auto* fiber = static_cast<Fiber*>(self);
  fiber->entry_(fiber->argument_);
}

#if defined(__x86_64__)
// System V: what a callee must keep is pushed, the stacks are exchanged, and what the other fiber pushed is popped. A
// new fiber "pops" its entry and argument and returns into tw_fiber_begin.
extern "C" void tw_fiber_switch(void** save_stack_pointer, void* stack_pointer);
extern "C" void tw_fiber_begin();
asm(R"(
.text
.p2align 4
.globl tw_fiber_switch
.hidden tw_fiber_switch
.type tw_fiber_switch, @function
tw_fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tw_fiber_switch, .-tw_fiber_switch
.p2align 4
.globl tw_fiber_begin
.hidden tw_fiber_begin
.type tw_fiber_begin, @function
tw_fiber_begin:
  movq %r12, %rdi
  callq *%r13
  ud2
.size tw_fiber_begin, .-tw_fiber_begin
)");

void Fiber::start(void* bottom, size_t bytes, void (*entry)(void*), void* argument) {
  entry_ = entry;
  argument_ = argument;
  bottom_ = bottom;
  bytes_ = bytes;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(bottom, bytes);  // of a fiber that was given up here
#endif
  auto** top = reinterpret_cast<void**>(static_cast<std::byte*>(bottom) + bytes);
  *--top = nullptr;  // keeps the pointer 16-byte aligned at the call in tw_fiber_begin
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&tw_fiber_begin);
  *--top = nullptr;                                 // rbp
  *--top = nullptr;                                 // rbx
  *--top = this;                                    // r12
  *--top = reinterpret_cast<void*>(&Fiber::enter);  // r13
  *--top = nullptr;                                 // r14
  *--top = nullptr;                                 // r15
  stack_pointer_ = top;
}
#else
void Fiber::start(void* bottom, size_t bytes, void (*entry)(void*), void* argument) {
  entry_ = entry;
  argument_ = argument;
  bottom_ = bottom;
  bytes_ = bytes;
  getcontext(&context_);
  context_.uc_stack.ss_sp = bottom;
  context_.uc_stack.ss_size = bytes;
  context_.uc_link = nullptr;
  // makecontext passes ints: the pointer in halves.
  const auto begin =
      +[](unsigned low, unsigned high) { enter(reinterpret_cast<void*>(low | static_cast<uint64_t>(high) << 32)); };
  const auto self = reinterpret_cast<uint64_t>(this);
  makecontext(&context_, reinterpret_cast<void (*)()>(begin), 2, static_cast<unsigned>(self),
              static_cast<unsigned>(self >> 32));
}
#endif

void Fiber::switch_to(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
  if (to.bottom_ == nullptr) {
    pthread_attr_t attributes;
    void* bottom = nullptr;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &bottom, &to.bytes_);
    pthread_attr_destroy(&attributes);
    to.bottom_ = bottom;
  }
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.bottom_, to.bytes_);
#endif
#if defined(__x86_64__)
  tw_fiber_switch(&from.stack_pointer_, to.stack_pointer_);
#else
  swapcontext(&from.context_, &to.context_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
}

void FiberStacks::release() {
  if (memory_ == nullptr) return;
  const size_t bytes = count_ * (kBytes + kGuard);
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(memory_, bytes);  // frames of fibers that were given up; the addresses will be others'
#endif
  munmap(memory_, bytes);
  memory_ = nullptr;
  count_ = 0;
}

bool FiberStacks::reserve(size_t count) {
  if (count <= count_) return true;
  release();
  void* memory = mmap(nullptr, count * (kBytes + kGuard), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  memory_ = static_cast<std::byte*>(memory);
  count_ = count;
  for (size_t i = 0; i < count; ++i) mprotect(memory_ + i * (kBytes + kGuard), kGuard, PROT_NONE);
  return true;
}

FiberStacks::~FiberStacks() { release(); }

}  // namespace tilewright
