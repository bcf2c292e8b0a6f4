#include "emulator/block.h"

#include <fmt/format.h>

#include <algorithm>

#include "emulator/collectives.h"
#include "ir/result.h"

namespace tilewright {
namespace {

EmulatedBlock& of(EmulatorInterface* emulator) { return *static_cast<EmulatedBlock*>(emulator); }

std::string to_text(const Wait& wait) {
  if (wait.b >= 0) return fmt::format("{} ({}, {})", wait.what, wait.a, wait.b);
  if (wait.a >= 0) return fmt::format("{} ({})", wait.what, wait.a);
  return wait.what;
}

}  // namespace

EmulatedBlock::EmulatedBlock(const Shape& shape, const EmulatorOptions& options, EmulatorStatistics& statistics,
                             const FiberStacks& stacks)
    : EmulatorInterface{},
      shape_(shape),
      options_(options),
      statistics_(statistics),
      stacks_(stacks),
      shared_(shape.shared_bytes),
      random_(options.seed) {
  block_count = shape.blocks;
  shared_base = SharedMemory::kBase;
  install();
}

void EmulatedBlock::install() {
  shared = [](EmulatorInterface* e, unsigned address, unsigned bytes, int kind) -> unsigned char* {
    EmulatedBlock& self = of(e);
    if (!self.shared_.contains(address, bytes))
      self.fail(fmt::format("{} shared memory at {}, {} bytes, which end at {}",
                            kind == kEmulatedLoad ? "ld.shared reads" : "st.shared writes", address, bytes,
                            self.shared_.end()));
    if (address % bytes != 0)
      self.fail(fmt::format("{} {} bytes of shared memory at {}, which is no multiple of them",
                            kind == kEmulatedLoad ? "ld.shared reads" : "st.shared writes", bytes, address));
    return self.shared_.at(address);
  };
  global = [](EmulatorInterface* e, const void* address, unsigned bytes, int kind) {
    of(e).check_global(address, bytes, kind == kEmulatedStore, kind == kEmulatedLoad ? "ld.global" : "st.global");
  };
  plain = [](EmulatorInterface*, const void*, unsigned, int) {};
  undefined = [](EmulatorInterface* e, const char* what, const char* file, unsigned line) {
    of(e).fail(fmt::format("{} at {}:{}", what, file, line));
  };
  block_barrier = [](EmulatorInterface* e, unsigned id, unsigned threads, int wait) {
    EmulatedBlock& self = of(e);
    self.barrier(id, id == 0 && threads == 0 ? static_cast<unsigned>(self.shape_.threads) : threads, wait != 0);
  };
  install_collectives(*this);
}

void EmulatedBlock::check_global(const void* address, size_t bytes, bool write, const char* who) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  if (begin % bytes != 0) fail(fmt::format("{} of {} bytes at {}, which is no multiple of them", who, bytes, address));
  if (options_.buffers.empty()) return;
  for (const EmulatedBuffer& buffer : options_.buffers) {
    const auto from = reinterpret_cast<uintptr_t>(buffer.data);
    if (begin < from || begin + bytes > from + buffer.bytes) continue;
    if (write && !buffer.writable) fail(fmt::format("{} writes to a buffer that is only read", who));
    return;
  }
  fail(fmt::format("{} of {} bytes at {}, outside every buffer", who, bytes, address));
}

void EmulatedBlock::barrier(unsigned id, unsigned threads, bool wait) {
  const char* what = wait ? "bar.sync" : "bar.arrive";
  if (id > 15) fail(fmt::format("{} of barrier {}, and there are 0 to 15", what, id));
  if (threads == 0 || threads % 32 != 0 || threads > static_cast<unsigned>(shape_.threads))
    fail(fmt::format("{} of barrier {} for {} threads, which must be a multiple of 32 up to {}", what, id, threads,
                     shape_.threads));
  NamedBarrier& named = barriers_[id];
  if (named.arrived == 0) named.threads = threads;
  if (named.threads != threads)
    fail(fmt::format("{} of barrier {} for {} threads, while others wait there for {}", what, id, threads,
                     named.threads));
  ++statistics_.barriers;
  if (++named.arrived == threads) {
    named.arrived = 0;
    wake(named.waiting);
  } else if (wait) {
    named.waiting.push_back(static_cast<int>(thread_index));
    block({"bar.sync of barrier", id});
  }
}

void EmulatedBlock::diverged(const Rendezvous& rendezvous, const char* kind) {
  fail(fmt::format("{}, while other threads of its warp or warpgroup are at {}", kind, rendezvous.kind));
}

void EmulatedBlock::wake(std::vector<int>& threads) {
  ready_.insert(ready_.end(), threads.begin(), threads.end());
  threads.clear();
}

/// Switches from `from` to whoever is next: a ready thread, else the scheduler.
void EmulatedBlock::schedule_next(Fiber& from) {
  ++statistics_.switches;
  if (ready_.empty() || !complaint_.empty()) {
    Fiber::switch_to(from, scheduler_);
    return;
  }
  if (options_.seed != 0) std::swap(ready_[random_() % ready_.size()], ready_.front());
  const int next = ready_.front();
  ready_.pop_front();
  EmulatedThread& thread = threads_[static_cast<size_t>(next)];
  thread_index = static_cast<unsigned>(next);
  if (&thread.fiber != &from) Fiber::switch_to(from, thread.fiber);
}

void EmulatedBlock::block(Wait wait) {
  EmulatedThread& thread = current();
  thread.wait = wait;
  schedule_next(thread.fiber);
}

void EmulatedBlock::fail(std::string sentence) {
  if (complaint_.empty()) complaint_ = fmt::format("{} (thread {}, block {})", sentence, thread_index, block_index);
  sentence = std::string();  // this stack is never unwound
  for (;;) Fiber::switch_to(current().fiber, scheduler_);
}

void EmulatedBlock::thread_main(void* block) {
  auto& self = *static_cast<EmulatedBlock*>(block);
  self.kernel_(self.arguments_);
  self.leave();
}

void EmulatedBlock::leave() {
  EmulatedThread& thread = current();
  const Rendezvous& warp = warp_rendezvous();
  if (warp.arrived != 0) fail(fmt::format("a thread ends while its warp waits at {}", warp.kind));
  if (!thread.copies.open.empty()) fail("a thread ends with a cp.async that it did not commit");
  thread.done = true;
  --alive_;
  for (;;) schedule_next(thread.fiber);
}

std::string EmulatedBlock::deadlock() const {
  std::map<std::string, std::pair<int, int>> waits;  // first thread, count
  for (const EmulatedThread& thread : threads_)
    if (!thread.done) {
      auto [at, is_new] = waits.try_emplace(to_text(thread.wait), thread.id, 0);
      ++at->second.second;
    }
  std::string text = fmt::format("deadlock in block {}:", block_index);
  for (const auto& [what, who] : waits)
    text += fmt::format(" {} threads (first {}) wait at {};", who.second, who.first, what);
  text.pop_back();
  return text;
}

std::string EmulatedBlock::what_is_left() const {
  for (size_t id = 0; id < barriers_.size(); ++id)
    if (barriers_[id].arrived != 0)
      return fmt::format("block {} ends while {} of {} threads have arrived at barrier {}", block_index,
                         barriers_[id].arrived, barriers_[id].threads, id);
  return {};
}

bool EmulatedBlock::run_engines() { return false; }

std::string EmulatedBlock::run(int64_t index, void (*kernel)(void**), void** arguments) {
  block_index = index;
  kernel_ = kernel;
  arguments_ = arguments;
  complaint_.clear();
  shared_.reset();
  ready_.clear();
  barriers_ = {};
  threads_.clear();
  threads_.resize(static_cast<size_t>(shape_.threads));
  warps_.assign(static_cast<size_t>(shape_.threads / 32), Rendezvous{});
  alive_ = shape_.threads;
  for (int id = 0; id < shape_.threads; ++id) {
    EmulatedThread& thread = threads_[static_cast<size_t>(id)];
    thread.id = id;
    thread.fiber.start(stacks_.bottom(static_cast<size_t>(id)), FiberStacks::kBytes, &thread_main, this);
    ready_.push_back(id);
  }
  ++statistics_.blocks;
  while (complaint_.empty() && alive_ > 0) {
    if (!ready_.empty())
      schedule_next(scheduler_);
    else if (!run_engines())
      complaint_ = deadlock();
  }
  if (complaint_.empty()) complaint_ = what_is_left();
  return complaint_;
}

}  // namespace tilewright
