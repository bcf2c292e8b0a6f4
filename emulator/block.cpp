#include "emulator/block.h"

#include <fmt/format.h>

#include <algorithm>

#include "emulator/collectives.h"
#include "emulator/tma.h"
#include "emulator/wgmma.h"
#include "ir/result.h"

namespace tilewright {
namespace {

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
      races_(shape.threads, shared_.end()),
      banks_(shape.threads / 32, statistics),
      tma_(std::make_unique<TmaEngine>(*this)),
      warpgroups_(std::make_unique<Warpgroups>(*this)),
      random_(options.seed) {
  block_count = shape.blocks;
  shared_base = SharedMemory::kBase;
  stack_bytes = FiberStacks::kBytes;
  install();
}

EmulatedBlock::~EmulatedBlock() = default;

void EmulatedBlock::install() {
  shared = [](EmulatorInterface* e, unsigned address, unsigned bytes, int kind) {
    return block_of(e).access_shared(address, bytes, kind == kEmulatedStore);
  };
  global = [](EmulatorInterface* e, const void* address, unsigned bytes, int kind) {
    block_of(e).check_global(address, bytes, kind == kEmulatedStore, kind == kEmulatedLoad ? "ld.global" : "st.global");
  };
  plain = [](EmulatorInterface* e, const void* address, unsigned bytes, int kind) {
    block_of(e).check_plain(address, bytes, kind == kEmulatedStore);
  };
  undefined = [](EmulatorInterface* e, const char* what, const char* file, unsigned line) {
    block_of(e).fail(fmt::format("{} at {}:{}", what, file, line));
  };
  block_barrier = [](EmulatorInterface* e, unsigned id, unsigned threads, int wait) {
    EmulatedBlock& self = block_of(e);
    self.barrier(id, id == 0 && threads == 0 ? static_cast<unsigned>(self.shape_.threads) : threads, wait != 0);
  };
  install_collectives(*this);
  install_tma(*this);
  install_wgmma(*this);
}

unsigned char* EmulatedBlock::access_shared(uint32_t address, uint32_t bytes, bool is_store) {
  const char* who = is_store ? "st.shared writes" : "ld.shared reads";
  if (!shared_.contains(address, bytes))
    fail(fmt::format("{} {} bytes of shared memory at {}, which goes from {} to {}", who, bytes, address,
                     SharedMemory::kBase, shared_.end()));
  if (address % bytes != 0)
    fail(fmt::format("{} {} bytes of shared memory at {}, which is no multiple of them", who, bytes, address));
  if (options_.check_races) {
    const auto thread = static_cast<int>(thread_index);
    complain(who, address, is_store ? races_.write(thread, address, bytes) : races_.read(thread, address, bytes));
  }
  if (options_.count_bank_conflicts) banks_.note(warp(), lane(), is_store, address, bytes);
  return shared_.at(address);
}

void EmulatedBlock::check_plain(const void* address, size_t bytes, bool write) {
  if (options_.buffers.empty()) return;
  const auto begin = reinterpret_cast<uintptr_t>(address);
  const auto holds = [&](const void* data, size_t size) {
    const auto from = reinterpret_cast<uintptr_t>(data);
    return begin >= from && begin + bytes <= from + size;
  };
  if (last_buffer_ && holds(last_buffer_->data, last_buffer_->bytes) && (!write || last_buffer_->writable)) return;
  for (const EmulatedBuffer& buffer : options_.buffers)
    if (holds(buffer.data, buffer.bytes) && (!write || buffer.writable)) {
      last_buffer_ = &buffer;
      return;
    }
  check_global_range(address, bytes, write, write ? "a store" : "a load");
}

void EmulatedBlock::check_global(const void* address, size_t bytes, bool write, const char* who) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  if (begin % bytes != 0) fail(fmt::format("{} of {} bytes at {}, which is no multiple of them", who, bytes, address));
  check_global_range(address, bytes, write, who);
}

void EmulatedBlock::check_global_range(const void* address, size_t bytes, bool write, const char* who) {
  if (options_.buffers.empty()) return;
  const auto begin = reinterpret_cast<uintptr_t>(address);
  for (const EmulatedBuffer& buffer : options_.buffers) {
    const auto from = reinterpret_cast<uintptr_t>(buffer.data);
    if (begin < from || begin + bytes > from + buffer.bytes) continue;
    if (write && !buffer.writable)
      fail(
          fmt::format("{} writes to {}a buffer that is only read", who, buffer.name.empty() ? "" : buffer.name + ", "));
    return;
  }
  // The nearest is what it most likely was to be in.
  const EmulatedBuffer* nearest = nullptr;
  uintptr_t least = UINTPTR_MAX;
  bool before = false;
  for (const EmulatedBuffer& buffer : options_.buffers) {
    if (buffer.name.empty() || buffer.bytes == 0) continue;
    const auto from = reinterpret_cast<uintptr_t>(buffer.data);
    const uintptr_t distance = begin < from ? from - begin : begin + bytes - from - buffer.bytes;
    if (distance >= least) continue;
    least = distance;
    before = begin < from;
    nearest = &buffer;
  }
  fail(fmt::format("{} of {} bytes at {}, outside every buffer{}", who, bytes, address,
                   nearest ? fmt::format(", {} bytes {} {}", least, before ? "before" : "beyond", nearest->name) : ""));
}

void EmulatedBlock::complain(const char* what, uint32_t address, const std::string& race) {
  if (options_.check_races && !race.empty()) fail(fmt::format("race: {} at {}, {}", what, address, race));
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
  banks_.flush(warp());
  races_.release(static_cast<int>(thread_index), named.clock);
  if (++named.arrived == threads) {
    named.arrived = 0;
    if (wait) named.waiting.push_back(static_cast<int>(thread_index));
    for (const int thread : named.waiting) races_.acquire(thread, named.clock);
    if (wait) named.waiting.pop_back();
    named.clock = {};
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
  // With an odd seed a load that was put off may finish at any time.
  if (options_.seed % 2 == 1 && tma_->has_loads() && random_() % 64 == 0) run_engines();
  if (ready_.empty() || !complaint_.empty()) {
    Fiber::switch_to(from, scheduler_);
    return;
  }
  if (options_.seed != 0) std::swap(ready_[random_() % ready_.size()], ready_.front());
  const int next = ready_.front();
  ready_.pop_front();
  EmulatedThread& thread = threads_[static_cast<size_t>(next)];
  thread_index = static_cast<unsigned>(next);
  stack_begin = reinterpret_cast<uintptr_t>(stacks_.bottom(static_cast<size_t>(next)));
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
  if (std::string left = tma_->left_by(thread.id); !left.empty()) fail(std::move(left));
  if (std::string left = warpgroups_->left_by_current(); !left.empty()) fail(std::move(left));
  cp_async_wait(this, 0);
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
  if (const std::string left = tma_->left(); !left.empty()) return fmt::format("{} of block {}", left, block_index);
  return {};
}

/// Nobody can go on but by what the engines do: a load that was put off.
bool EmulatedBlock::run_engines() { return tma_->step(options_.seed % 2 == 1, random_()); }

std::string EmulatedBlock::run(int64_t index, void (*kernel)(void**), void** arguments) {
  block_index = index;
  kernel_ = kernel;
  arguments_ = arguments;
  complaint_.clear();
  shared_.reset();
  ready_.clear();
  barriers_ = {};
  races_.begin_block();
  tma_->reset();
  warpgroups_->reset(shape_.threads, shape_.blocks_per_multiprocessor);
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
