#include "emulator/wgmma.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "emulator/collectives.h"
#include "emulator/swizzle.h"

namespace tilewright {
namespace {

constexpr int kSteps = 16, kRows = 64, kMaxColumns = 256;
/// A NaN that nothing computes.
constexpr uint32_t kInFlight = 0x7fedcafe;

/// PTX ISA, "Asynchronous warpgroup-level matrix shared memory layout": 14-bit fields in units of 16 bytes, the swizzle
/// in bits 62–63.
struct Descriptor {
  uint32_t start, leading, stride, base_offset, swizzle_bytes;
  explicit Descriptor(uint64_t bits)
      : start(field(bits, 0)),
        leading(field(bits, 16)),
        stride(field(bits, 32)),
        base_offset(static_cast<uint32_t>(bits >> 49 & 7)) {
    constexpr std::array<uint32_t, 4> kSwizzles = {0, 128, 64, 32};
    swizzle_bytes = kSwizzles[bits >> 62];
  }
  static uint32_t field(uint64_t bits, int at) { return static_cast<uint32_t>(bits >> at & 0x3fff) << 4; }

  /// Address of the 8 elements (16 bytes) of `row` from k = 8 · chunk on, K-major: rows of the swizzle's width, 8 rows
  /// to an atom, atoms `stride` bytes apart; without swizzle, 8 × 16-byte matrices, `leading` apart along k.
  uint32_t k_major(uint32_t row, uint32_t chunk) const {
    if (swizzle_bytes == 0) return start + row / 8 * stride + chunk * leading + row % 8 * 16;
    return swizzled(start + row / 8 * stride + row % 8 * swizzle_bytes + chunk * 16, swizzle_bytes);
  }
  /// Address of the 8 elements of row k from column 8 · chunk on, MN-major: an atom is 8 rows of k, each as wide as the
  /// swizzle; atoms are `leading` apart along the columns and `stride` apart along k.
  uint32_t mn_major(uint32_t k, uint32_t chunk) const {
    if (swizzle_bytes == 0) return start + chunk * stride + k / 8 * leading + k % 8 * 16;
    const uint32_t per_atom = swizzle_bytes / 16;
    return swizzled(start + chunk / per_atom * leading + k / 8 * stride + k % 8 * swizzle_bytes + chunk % per_atom * 16,
                    swizzle_bytes);
  }
};

/// Where sum i of thread t lies. PTX ISA, "Register fragments for wgmma.mma_async.m64nNk16", matrix D.
constexpr int sum_row(int t, int i) { return t / 32 * 16 + t % 32 / 4 + 8 * (i / 2 % 2); }
constexpr int sum_column(int t, int i) { return i / 4 * 8 + t % 4 * 2 + i % 2; }

}  // namespace

void Warpgroups::reset(int threads, int blocks_per_multiprocessor) {
  groups_.clear();
  groups_.resize(static_cast<size_t>((threads + 127) / 128));
  // What __launch_bounds__(threads, blocks_per_multiprocessor) gives to each thread.
  const int each = std::min((64 << 10) / blocks_per_multiprocessor / threads / 8 * 8, 248);
  for (Group& group : groups_) {
    group.rendezvous.size = 128;
    group.registers = each;
  }
  free_registers_ = 0;
  waiting_.clear();
  block_.statistics().peak_registers = std::max<int64_t>(block_.statistics().peak_registers, int64_t{each} * threads);
}

Warpgroups::Group& Warpgroups::mine() {
  const size_t index = block_.thread_index / 128;
  if ((index + 1) * 128 > block_.threads())
    block_.fail("an instruction of warpgroups by threads that do not fill one of 128");
  return groups_[index];
}

int Warpgroups::position() const { return static_cast<int>(block_.thread_index % 128); }

void Warpgroups::fence() { block_.current().wgmma_fenced = true; }

void Warpgroups::gather_chunks(Pending& pending) {
  const Product& product = pending.product;
  const Descriptor b(product.b_descriptor);
  if (!product.a) {
    const Descriptor a(product.a_descriptor);
    for (uint32_t row = 0; row < kRows; ++row)
      for (uint32_t chunk = 0; chunk < 2; ++chunk) pending.chunks.push_back(a.k_major(row, chunk));
  }
  const auto columns = static_cast<uint32_t>(product.n);
  if (product.b_is_mn_major) {
    for (uint32_t k = 0; k < kSteps; ++k)
      for (uint32_t chunk = 0; chunk < columns / 8; ++chunk) pending.chunks.push_back(b.mn_major(k, chunk));
  } else {
    for (uint32_t column = 0; column < columns; ++column)
      for (uint32_t chunk = 0; chunk < 2; ++chunk) pending.chunks.push_back(b.k_major(column, chunk));
  }
}

void Warpgroups::check_reads(const Pending& pending) {
  const Product& product = pending.product;
  for (const uint64_t bits : {product.a ? product.b_descriptor : product.a_descriptor, product.b_descriptor})
    if (Descriptor(bits).base_offset != 0)
      block_.fail(fmt::format("wgmma with a descriptor {:#x} whose base offset is not 0", bits));
  for (const uint32_t chunk : pending.chunks) {
    if (!block_.shared_memory().contains(chunk, 16))
      block_.fail(fmt::format("wgmma reads shared memory at {} by its descriptors, outside of {} to {}", chunk,
                              SharedMemory::kBase, block_.shared_memory().end()));
    block_.complain("wgmma reads shared memory", chunk,
                    block_.races().begin_read(static_cast<int>(block_.thread_index), chunk, 16));
  }
}

void Warpgroups::multiply(const Product& product) {
  Lane lane{product, block_.current().wgmma_fenced};
  Group& group = mine();
  block_.meet(group.rendezvous, position(), "wgmma.mma_async", &lane,
              [&](std::array<void*, 128>& lanes) { issue(group, lanes); });
}

void Warpgroups::issue(Group& group, const std::array<void*, 128>& lanes) {
  ++block_.statistics().wgmma;
  Pending pending;
  pending.product = static_cast<Lane*>(lanes[0])->product;
  const Product& product = pending.product;
  for (size_t t = 0; t < 128; ++t) {
    const Lane& lane = *static_cast<Lane*>(lanes[t]);
    const Product& its = lane.product;
    if (its.n != product.n || its.a_descriptor != product.a_descriptor || its.b_descriptor != product.b_descriptor ||
        its.accumulate != product.accumulate || its.b_is_mn_major != product.b_is_mn_major ||
        its.is_bf16 != product.is_bf16 || (its.a == nullptr) != (product.a == nullptr))
      block_.fail(fmt::format("wgmma: the descriptors or flags of thread {} of the warpgroup differ from others'", t));
    if (!lane.fenced)
      block_.fail(
          fmt::format("wgmma with no wgmma.fence since registers could change, by thread {} of its warpgroup", t));
    if (its.a) std::copy_n(its.a, 4, pending.a[t].begin());
  }
  gather_chunks(pending);
  check_reads(pending);
  pending.sums = &sums_of(group, lanes);
  ++pending.sums->in_flight;
  if (!block_.options().late_wgmma) compute(pending);
  // What the registers hold until the wait.
  const Sums& sums = *pending.sums;
  for (int t = 0; t < 128; ++t)
    for (int i = 0; i < sums.columns / 2; ++i)
      sums.registers[static_cast<size_t>(t)][i] =
          block_.options().late_wgmma
              ? std::bit_cast<float>(kInFlight)
              : sums.matrix[static_cast<size_t>(sum_row(t, i) * sums.columns + sum_column(t, i))];
  group.open.push_back(std::move(pending));
}

Warpgroups::Sums& Warpgroups::sums_of(Group& group, const std::array<void*, 128>& lanes) {
  std::array<float*, 128> registers{};
  for (size_t t = 0; t < 128; ++t) registers[t] = static_cast<Lane*>(lanes[t])->product.d;
  const int columns = static_cast<Lane*>(lanes[0])->product.n;
  for (Sums& sums : group.sums)
    if (sums.registers[0] == registers[0]) {
      if (sums.registers != registers || sums.columns != columns)
        block_.fail("wgmma with sums of which some are in flight in another shape");
      return sums;
    }
  Sums& sums = group.sums.emplace_back();
  sums.registers = registers;
  sums.columns = columns;
  sums.matrix.resize(static_cast<size_t>(kRows * columns));
  for (int t = 0; t < 128; ++t)
    for (int i = 0; i < columns / 2; ++i)
      sums.matrix[static_cast<size_t>(sum_row(t, i) * columns + sum_column(t, i))] =
          registers[static_cast<size_t>(t)][i];
  return sums;
}

/// c[64][columns] += a · b, term by term.
[[gnu::target("avx2")]] static void add_products(const float (&a)[kRows][kSteps], const float (&b)[kSteps][kMaxColumns],
                                                 float* c, int columns) {
  for (int m = 0; m < kRows; ++m, c += columns)
    for (int k = 0; k < kSteps; ++k) {
      const float factor = a[m][k];
      const float* row = b[k];
      for (int n = 0; n < columns; ++n) c[n] += factor * row[n];
    }
}

void Warpgroups::compute(const Pending& pending) {
  const Product& product = pending.product;
  const int columns = product.n;
  float a[kRows][kSteps], b[kSteps][kMaxColumns];
  const auto value = [&](uint16_t bits) { return product.is_bf16 ? bf16_value(bits) : f16_value(bits); };
  size_t next = 0;
  std::array<uint16_t, 8> chunk{};
  const auto read_chunk = [&] { std::memcpy(chunk.data(), block_.shared_memory().at(pending.chunks[next++]), 16); };
  if (product.a) {
    for (int t = 0; t < 128; ++t)
      for (int i = 0; i < 8; ++i)  // as the A fragment of mma.m16n8k16, a warp for 16 rows
        a[t / 32 * 16 + t % 32 / 4 + 8 * (i / 2 % 2)][t % 4 * 2 + i % 2 + 8 * (i / 4)] = value(
            static_cast<uint16_t>(pending.a[static_cast<size_t>(t)][static_cast<size_t>(i / 2)] >> (16 * (i % 2))));
  } else {
    for (auto& row : a)
      for (int k = 0; k < kSteps; k += 8) {
        read_chunk();
        for (int i = 0; i < 8; ++i) row[k + i] = value(chunk[static_cast<size_t>(i)]);
      }
  }
  if (product.b_is_mn_major) {
    for (auto& row : b)
      for (int n = 0; n < columns; n += 8) {
        read_chunk();
        for (int i = 0; i < 8; ++i) row[n + i] = value(chunk[static_cast<size_t>(i)]);
      }
  } else {
    for (int n = 0; n < columns; ++n)
      for (int k = 0; k < kSteps; k += 8) {
        read_chunk();
        for (int i = 0; i < 8; ++i) b[k + i][n] = value(chunk[static_cast<size_t>(i)]);
      }
  }
  std::vector<float>& sums = pending.sums->matrix;
  if (!product.accumulate) std::fill(sums.begin(), sums.end(), 0.0f);
  add_products(a, b, sums.data(), columns);
}

void Warpgroups::commit() {
  Group& group = mine();
  block_.meet(group.rendezvous, position(), "wgmma.commit_group", nullptr, [&](std::array<void*, 128>&) {
    group.groups.push_back(std::move(group.open));
    group.open.clear();
  });
}

/// All products of these sums are done: the kernel gets them.
void Warpgroups::give_back(const Sums& sums) {
  for (int t = 0; t < 128; ++t)
    for (int i = 0; i < sums.columns / 2; ++i) {
      float& sum = sums.registers[static_cast<size_t>(t)][i];
      const float done = sums.matrix[static_cast<size_t>(sum_row(t, i) * sums.columns + sum_column(t, i))];
      const float meanwhile = block_.options().late_wgmma ? std::bit_cast<float>(kInFlight) : done;
      if (std::bit_cast<uint32_t>(sum) != std::bit_cast<uint32_t>(meanwhile))
        block_.fail(
            fmt::format("sum {} of thread {} of the warpgroup was written while a wgmma had it in flight", i, t));
      sum = done;
    }
}

void Warpgroups::finish(Group& group, size_t keep) {
  const int agent = block_.races().products(static_cast<int>(block_.thread_index / 128));
  while (group.groups.size() > keep) {
    for (const Pending& pending : group.groups.front()) {
      if (block_.options().late_wgmma) compute(pending);
      for (const uint32_t chunk : pending.chunks) block_.races().end_read(agent, chunk, 16);
      --pending.sums->in_flight;
    }
    group.groups.pop_front();
  }
  for (const Sums& sums : group.sums)
    if (sums.in_flight == 0) give_back(sums);
  group.sums.remove_if([](const Sums& sums) { return sums.in_flight == 0; });
}

void Warpgroups::wait(int groups) {
  Group& group = mine();
  block_.meet(group.rendezvous, position(), "wgmma.wait_group", nullptr, [&](std::array<void*, 128>&) {
    finish(group, static_cast<size_t>(groups));
    RaceDetector::Clock clock;
    block_.races().release_agent(block_.races().products(static_cast<int>(block_.thread_index / 128)), clock);
    const int first = static_cast<int>(block_.thread_index / 128 * 128);
    for (int t = 0; t < 128; ++t) block_.races().acquire(first + t, clock);
  });
  block_.current().wgmma_fenced = false;
}

void Warpgroups::set_registers(int count, bool increase) {
  Group& group = mine();
  const char* who = increase ? "setmaxnreg.inc" : "setmaxnreg.dec";
  if (count < 24 || count > 256 || count % 8 != 0)
    block_.fail(fmt::format("{} to {} registers; it takes multiples of 8 from 24 to 256", who, count));
  if (increase ? count < group.registers : count > group.registers)
    block_.fail(fmt::format("{} to {} registers by a warpgroup that has {}", who, count, group.registers));
  block_.meet(group.rendezvous, position(), who, nullptr, [](std::array<void*, 128>&) {});
  // One thread asks for its warpgroup; the others wait for what it gets.
  if (position() == 0) {
    while ((count - group.registers) * 128 > free_registers_) {
      waiting_.push_back(static_cast<int>(block_.thread_index));
      block_.block({"setmaxnreg.inc to registers", count});
    }
    free_registers_ -= (count - group.registers) * 128;
    group.registers = count;
    block_.wake(waiting_);
  }
  block_.meet(group.rendezvous, position(), who, nullptr, [](std::array<void*, 128>&) {});
}

std::string Warpgroups::left_by_current() const {
  const Group& group = groups_[block_.thread_index / 128];
  if (group.rendezvous.arrived != 0)
    return fmt::format("a thread ends while its warpgroup waits at {}", group.rendezvous.kind);
  if (!group.open.empty()) return "a thread ends with wgmma that it did not commit";
  if (!group.groups.empty()) return "a thread ends while its wgmma are in flight";
  return {};
}

void install_wgmma(EmulatedBlock& block) {
  block.wgmma_fence = [](EmulatorInterface* e) { static_cast<EmulatedBlock*>(e)->warpgroups().fence(); };
  block.wgmma_commit = [](EmulatorInterface* e) { static_cast<EmulatedBlock*>(e)->warpgroups().commit(); };
  block.wgmma_wait = [](EmulatorInterface* e, int groups) {
    static_cast<EmulatedBlock*>(e)->warpgroups().wait(groups);
  };
  block.wgmma = [](EmulatorInterface* e, float* d, int n, const unsigned* a, unsigned long long a_descriptor,
                   unsigned long long b_descriptor, int accumulate, int b_is_mn_major, int is_bf16) {
    static_cast<EmulatedBlock*>(e)->warpgroups().multiply(
        {d, n, a, a_descriptor, b_descriptor, accumulate != 0, b_is_mn_major != 0, is_bf16 != 0});
  };
  block.set_registers = [](EmulatorInterface* e, int count, int increase) {
    static_cast<EmulatedBlock*>(e)->warpgroups().set_registers(count, increase != 0);
  };
}

}  // namespace tilewright
