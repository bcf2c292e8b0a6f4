#include "emulator/tma.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "emulator/block.h"
#include "emulator/swizzle.h"

namespace tilewright {
namespace {

int64_t box_bytes(const TensorMapGeometry& geometry) {
  int64_t bytes = geometry.element_bytes;
  for (const int64_t extent : geometry.box) bytes *= extent;
  return bytes;
}

/// Calls visit(shared offset in the box, global address, bytes that lie inside the tensor, bytes of the row) for every
/// row of the box along axis 0; the address is null when the whole row lies outside. A row that starts before the
/// tensor is visited element by element.
template <class Visit>
void each_row(const TensorMapGeometry& g, const std::vector<int64_t>& at, Visit visit) {
  const size_t rank = g.extents.size();
  std::vector<int64_t> index(rank, 0);
  const int64_t row_bytes = g.box[0] * g.element_bytes;
  const int64_t rows = box_bytes(g) / row_bytes;
  for (int64_t row = 0; row < rows; ++row) {
    auto address = reinterpret_cast<uintptr_t>(g.base);
    bool inside = true;
    for (size_t axis = 1; axis < rank; ++axis) {
      const int64_t coordinate = at[axis] + index[axis];
      inside = inside && coordinate >= 0 && coordinate < g.extents[axis];
      address += static_cast<uint64_t>(coordinate * g.stride_bytes[axis - 1]);
    }
    const int64_t first = std::clamp<int64_t>(-at[0], 0, g.box[0]);
    const int64_t last = std::clamp<int64_t>(g.extents[0] - at[0], 0, g.box[0]);
    const int64_t count = inside && last > first ? last - first : 0;
    visit(row * row_bytes, row_bytes, first * g.element_bytes, count * g.element_bytes,
          address + static_cast<uint64_t>((at[0] + first) * g.element_bytes));
    for (size_t axis = 1; axis < rank; ++axis) {
      if (++index[axis] < g.box[axis]) break;
      index[axis] = 0;
    }
  }
}

TmaEngine& engine(EmulatorInterface* emulator) { return static_cast<EmulatedBlock*>(emulator)->tma(); }

}  // namespace

void TmaEngine::reset() {
  barriers_.clear();
  loads_.clear();
  stores_.clear();
}

// mbarriers ---------------------------------------------------------------------------------------------------------

void TmaEngine::initialise(uint32_t address, uint32_t count) {
  if (!block_.shared_memory().contains(address, 8) || address % 8 != 0)
    block_.fail(fmt::format("mbarrier.init at {}, which must be a multiple of 8 in shared memory", address));
  if (count == 0 || count >= 1u << 20)
    block_.fail(fmt::format("mbarrier.init with count {}; it takes 1 to 2^20 - 1", count));
  if (barriers_.contains(address)) block_.fail(fmt::format("mbarrier.init at {}, where a barrier is already", address));
  MBarrier barrier;
  barrier.number = static_cast<int>(barriers_.size());
  barrier.count = barrier.pending = count;
  barriers_.emplace(address, std::move(barrier));
}

MBarrier& TmaEngine::barrier_at(uint32_t address, const char* who) {
  const auto found = barriers_.find(address);
  if (found == barriers_.end()) block_.fail(fmt::format("{} at {}, where no mbarrier was initialised", who, address));
  return found->second;
}

void TmaEngine::complete_if_done(MBarrier& barrier) {
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  ++barrier.phase;
  barrier.pending = barrier.count;
  barrier.completed = std::exchange(barrier.arrived, {});
  block_.wake(barrier.waiting);
}

void TmaEngine::arrive_at(MBarrier& barrier) {
  if (barrier.pending == 0)
    block_.fail(fmt::format("mbarrier.arrive at barrier {} beyond its count of {}", barrier.number, barrier.count));
  block_.races().release(static_cast<int>(block_.thread_index), barrier.arrived);
  --barrier.pending;
  complete_if_done(barrier);
}

void TmaEngine::arrive(uint32_t address) { arrive_at(barrier_at(address, "mbarrier.arrive")); }

void TmaEngine::expect(uint32_t address, uint32_t bytes) {
  MBarrier& barrier = barrier_at(address, "mbarrier.arrive.expect_tx");
  barrier.bytes += bytes;
  if (barrier.bytes >= 1 << 20)
    block_.fail(
        fmt::format("mbarrier {} expects {} bytes, and at most 2^20 - 1 are counted", barrier.number, barrier.bytes));
  arrive_at(barrier);
}

void TmaEngine::wait(uint32_t address, uint32_t parity) {
  MBarrier& barrier = barrier_at(address, "mbarrier.try_wait");
  if (parity > 1) block_.fail(fmt::format("mbarrier.try_wait for parity {}, which must be 0 or 1", parity));
  // The phase of this parity has ended when the current one has the other.
  while ((barrier.phase & 1) == parity) {
    barrier.waiting.push_back(static_cast<int>(block_.thread_index));
    block_.block({"mbarrier.try_wait at shared address, parity", address, parity});
  }
  block_.races().acquire(static_cast<int>(block_.thread_index), barrier.completed);
}

// Transfers ---------------------------------------------------------------------------------------------------------

TmaEngine::Transfer TmaEngine::transfer(const char* who, uint32_t shared, const void* map, const int* at, int rank) {
  const auto geometry = decode_tensor_map(*static_cast<const EmulatedTensorMap*>(map));
  if (!geometry) block_.fail(fmt::format("{} with a tensor map that was not encoded", who));
  if (geometry->extents.size() != static_cast<size_t>(rank))
    block_.fail(
        fmt::format("{} with {} coordinates over a tensor map of {} axes", who, rank, geometry->extents.size()));
  const auto bytes = static_cast<uint32_t>(box_bytes(*geometry));
  if (shared % 128 != 0)
    block_.fail(fmt::format("{} with shared memory at {}, which must be a multiple of 128", who, shared));
  if (!block_.shared_memory().contains(shared, bytes))
    block_.fail(fmt::format("{} with a box of {} bytes at {}, and shared memory ends at {}", who, bytes, shared,
                            block_.shared_memory().end()));
  Transfer result;
  result.geometry = *geometry;
  result.shared = shared;
  for (int axis = 0; axis < rank; ++axis) result.at.push_back(at[axis]);
  each_row(result.geometry, result.at, [&](int64_t, int64_t, int64_t, int64_t inside, uintptr_t address) {
    if (inside > 0)
      block_.check_global_range(reinterpret_cast<const void*>(address), static_cast<size_t>(inside),
                                std::strcmp(who, "TMA store") == 0, who);
  });
  return result;
}

void TmaEngine::load(uint32_t to, const void* map, uint32_t barrier, const int* at, int rank) {
  ++block_.statistics().tma_loads;
  barrier_at(barrier, "TMA load");
  Transfer load = transfer("TMA load", to, map, at, rank);
  load.barrier = barrier;
  const int thread = static_cast<int>(block_.thread_index);
  const auto bytes = static_cast<uint32_t>(box_bytes(load.geometry));
  block_.complain("TMA load writes shared memory", to, block_.races().begin_write(thread, to, bytes));
  block_.races().release(thread, load.issued);
  if (block_.options().late_tma)
    loads_.push_back(std::move(load));
  else
    finish_load(load);
}

void TmaEngine::finish_load(const Transfer& load) {
  const auto swizzle = static_cast<uint32_t>(load.geometry.swizzle_bytes);
  SharedMemory& shared = block_.shared_memory();
  each_row(load.geometry, load.at,
           [&](int64_t offset, int64_t row_bytes, int64_t skip, int64_t inside, uintptr_t from) {
             std::array<unsigned char, 2048> row{};
             if (inside > 0)
               std::memcpy(row.data() + skip, reinterpret_cast<const void*>(from), static_cast<size_t>(inside));
             for (int64_t chunk = 0; chunk < row_bytes; chunk += 16)
               std::memcpy(shared.at(swizzled(load.shared + static_cast<uint32_t>(offset + chunk), swizzle)),
                           row.data() + chunk, 16);
           });
  MBarrier& barrier = barriers_.at(load.barrier);
  const auto bytes = box_bytes(load.geometry);
  const int engine = block_.races().tma_engine(barrier.number);
  block_.races().end_write(engine, load.shared, static_cast<uint32_t>(bytes));
  RaceDetector::join(barrier.arrived, load.issued);
  block_.races().release_agent(engine, barrier.arrived);
  barrier.bytes -= bytes;
  complete_if_done(barrier);
}

bool TmaEngine::step(bool any, uint64_t draw) {
  if (loads_.empty()) return false;
  size_t chosen = any ? draw % loads_.size() : 0;
  if (!any)
    for (size_t i = 0; i < loads_.size(); ++i)
      if (!barriers_.at(loads_[i].barrier).waiting.empty()) {
        chosen = i;
        break;
      }
  const Transfer load = std::move(loads_[chosen]);
  loads_.erase(loads_.begin() + static_cast<std::ptrdiff_t>(chosen));
  finish_load(load);
  return true;
}

void TmaEngine::store(const void* map, uint32_t from, const int* at, int rank) {
  ++block_.statistics().tma_stores;
  Transfer store = transfer("TMA store", from, map, at, rank);
  const int thread = static_cast<int>(block_.thread_index);
  const auto bytes = static_cast<uint32_t>(box_bytes(store.geometry));
  block_.complain("TMA store reads shared memory", from, block_.races().begin_read(thread, from, bytes));
  stores_[thread].open.push_back(std::move(store));
  if (!block_.options().late_tma) finish_store(stores_[thread].open.back());
}

void TmaEngine::finish_store(const Transfer& store) {
  const auto swizzle = static_cast<uint32_t>(store.geometry.swizzle_bytes);
  SharedMemory& shared = block_.shared_memory();
  each_row(store.geometry, store.at,
           [&](int64_t offset, int64_t row_bytes, int64_t skip, int64_t inside, uintptr_t to) {
             if (inside == 0) return;
             std::array<unsigned char, 2048> row{};
             for (int64_t chunk = 0; chunk < row_bytes; chunk += 16)
               std::memcpy(row.data() + chunk,
                           shared.at(swizzled(store.shared + static_cast<uint32_t>(offset + chunk), swizzle)), 16);
             std::memcpy(reinterpret_cast<void*>(to), row.data() + skip, static_cast<size_t>(inside));
           });
}

void TmaEngine::commit_stores() {
  Stores& stores = stores_[static_cast<int>(block_.thread_index)];
  stores.groups.push_back(std::move(stores.open));
  stores.open.clear();
}

void TmaEngine::wait_stores(int groups) {
  const int thread = static_cast<int>(block_.thread_index);
  Stores& stores = stores_[thread];
  while (stores.groups.size() > static_cast<size_t>(groups)) {
    for (const Transfer& store : stores.groups.front()) {
      if (block_.options().late_tma) finish_store(store);
      block_.races().end_read(thread, store.shared, static_cast<uint32_t>(box_bytes(store.geometry)));
    }
    stores.groups.pop_front();
  }
}

std::string TmaEngine::left_by(int thread) const {
  const auto found = stores_.find(thread);
  if (found == stores_.end()) return {};
  if (!found->second.open.empty()) return "a thread ends with a TMA store that it did not commit";
  if (!found->second.groups.empty()) return "a thread ends while its TMA store may still read shared memory";
  return {};
}

std::string TmaEngine::left() const {
  if (!loads_.empty()) return "a TMA load is in flight at the end";
  for (const auto& [address, barrier] : barriers_)
    if (barrier.bytes != 0)
      return fmt::format("the mbarrier at {} is left with {} bytes that it expects", address, barrier.bytes);
  return {};
}

void install_tma(EmulatedBlock& block) {
  block.mbarrier_init = [](EmulatorInterface* e, unsigned address, unsigned count) {
    engine(e).initialise(address, count);
  };
  block.mbarrier_init_fence = [](EmulatorInterface*) {};
  block.mbarrier_arrive = [](EmulatorInterface* e, unsigned address) { engine(e).arrive(address); };
  block.mbarrier_expect = [](EmulatorInterface* e, unsigned address, unsigned bytes) {
    engine(e).expect(address, bytes);
  };
  block.mbarrier_wait = [](EmulatorInterface* e, unsigned address, unsigned parity) {
    engine(e).wait(address, parity);
  };
  block.tma_load = [](EmulatorInterface* e, unsigned to, const void* map, unsigned barrier, const int* at, int rank) {
    engine(e).load(to, map, barrier, at, rank);
  };
  block.tma_store = [](EmulatorInterface* e, const void* map, unsigned from, const int* at, int rank) {
    engine(e).store(map, from, at, rank);
  };
  block.tma_store_commit = [](EmulatorInterface* e) { engine(e).commit_stores(); };
  block.tma_store_wait_read = [](EmulatorInterface* e, int groups) { engine(e).wait_stores(groups); };
  block.fence_proxy_async = [](EmulatorInterface* e) {
    auto& self = *static_cast<EmulatedBlock*>(e);
    self.races().fence_proxy(static_cast<int>(self.thread_index));
  };
}

}  // namespace tilewright
