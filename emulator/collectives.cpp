#include "emulator/collectives.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "emulator/bank_counter.h"
#include "emulator/block.h"

namespace tilewright {

float bf16_value(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

namespace {

std::vector<float> all_f16_values() {
  std::vector<float> values(1 << 16);
  for (uint32_t bits = 0; bits < values.size(); ++bits) {
    const int exponent = (bits >> 10) & 31;
    const auto fraction = static_cast<float>(bits & 0x3ff);
    float magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024.0f + fraction, exponent - 25);
    if (exponent == 31) magnitude = fraction == 0 ? INFINITY : NAN;
    values[bits] = bits & 0x8000 ? -magnitude : magnitude;
  }
  return values;
}

}  // namespace

float f16_value(uint16_t bits) {
  static const std::vector<float> values = all_f16_values();
  return values[bits];
}

namespace {

/// ex2, lg2, rcp with .approx.ftz and tanh.approx: subnormals flushed where the instruction flushes them.
float approximate(int function, float x) {
  const auto flushed = [](float y) { return std::fpclassify(y) == FP_SUBNORMAL ? std::copysign(0.0f, y) : y; };
  switch (function) {
    case kEmulatedExp2: return flushed(std::exp2(flushed(x)));
    case kEmulatedLog2: return std::log2(flushed(x));
    case kEmulatedReciprocal: return flushed(1.0f / flushed(x));
    default: return std::tanh(x);
  }
}

// cp.async ----------------------------------------------------------------------------------------------------------

void finish(EmulatedBlock& block, const AsyncCopy& copy) {
  unsigned char* to = block.shared_memory().at(copy.to);
  if (copy.from)
    std::memcpy(to, copy.from, 16);
  else
    std::memset(to, 0, 16);
}

void cp_async(EmulatedBlock& block, unsigned to, const void* from, bool valid) {
  if (!block.shared_memory().contains(to, 16) || to % 16 != 0)
    block.fail(fmt::format("cp.async writes 16 bytes of shared memory at {}, which must be a multiple of 16 up to {}",
                           to, block.shared_memory().end() - 16));
  if (valid) block.check_global(from, 16, false, "cp.async");
  ++block.statistics().cp_async;
  block.complain("cp.async writes shared memory", to,
                 block.races().begin_write(static_cast<int>(block.thread_index), to, 16));
  const AsyncCopy copy{to, valid ? from : nullptr};
  block.current().copies.open.push_back(copy);
  if (!block.options().late_copies) finish(block, copy);
}

void cp_async_wait(EmulatedBlock& block, int groups) {
  auto& committed = block.current().copies.groups;
  while (committed.size() > static_cast<size_t>(groups)) {
    for (const AsyncCopy& copy : committed.front()) {
      if (block.options().late_copies) finish(block, copy);
      block.races().end_write(static_cast<int>(block.thread_index), copy.to, 16);
    }
    committed.pop_front();
  }
}

// ldmatrix ----------------------------------------------------------------------------------------------------------

struct MatrixLoad {
  unsigned* r;
  unsigned address;
};

/// Register m of lane l holds the elements (row l / 4, columns 2 · (l mod 4) and one more) of matrix m, or of its
/// transpose; lane 8m + i gave the address of its row i. PTX ISA, "ldmatrix".
void ldmatrix_x4(EmulatedBlock& block, std::array<void*, 128>& lanes, bool transposed) {
  const auto lane = [&](size_t l) { return static_cast<MatrixLoad*>(lanes[l]); };
  for (size_t m = 0; m < 4; ++m) {
    std::array<uint32_t, 8> addresses{};
    std::array<std::array<uint16_t, 8>, 8> matrix{};
    for (size_t i = 0; i < 8; ++i) {
      addresses[i] = lane(8 * m + i)->address;
      std::memcpy(matrix[i].data(), block.shared_memory().at(addresses[i]), 16);
    }
    ++block.statistics().matrix_loads.accesses;
    block.statistics().matrix_loads.passes += bank_passes(addresses, 16);
    for (size_t l = 0; l < 32; ++l) {
      const size_t row = l / 4, column = 2 * (l % 4);
      const uint32_t low = transposed ? matrix[column][row] : matrix[row][column];
      const uint32_t high = transposed ? matrix[column + 1][row] : matrix[row][column + 1];
      lane(l)->r[m] = low | high << 16;
    }
  }
}

// mma ---------------------------------------------------------------------------------------------------------------

struct Mma {
  float* c;
  const unsigned* a;
  unsigned b[2];
  int is_bf16;
};

/// PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type": with group g = lane / 4 and t = lane mod 4,
/// a[i] holds A[g + 8 · (i mod 2)][2t + 8 · (i / 2) and one more], b[i] holds B[2t + 8i and one more][g], c[i] is
/// C[g + 8 · (i / 2)][2t + i mod 2].
void mma_m16n8k16(EmulatedBlock& block, std::array<void*, 128>& lanes) {
  const auto lane = [&](size_t l) { return static_cast<Mma*>(lanes[l]); };
  const bool is_bf16 = lane(0)->is_bf16 != 0;
  const auto half = [&](unsigned word, size_t h) {
    const auto bits = static_cast<uint16_t>(word >> (16 * h));
    return is_bf16 ? bf16_value(bits) : f16_value(bits);
  };
  float a[16][16], b[16][8], c[16][8];
  for (size_t l = 0; l < 32; ++l) {
    const size_t g = l / 4, t = l % 4;
    for (size_t i = 0; i < 4; ++i)
      for (size_t h = 0; h < 2; ++h) a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + h] = half(lane(l)->a[i], h);
    for (size_t i = 0; i < 2; ++i)
      for (size_t h = 0; h < 2; ++h) b[2 * t + 8 * i + h][g] = half(lane(l)->b[i], h);
    for (size_t i = 0; i < 4; ++i) c[g + 8 * (i / 2)][2 * t + i % 2] = lane(l)->c[i];
  }
  for (auto m = 0; m < 16; ++m)
    for (auto k = 0; k < 16; ++k)
      for (auto n = 0; n < 8; ++n) c[m][n] += a[m][k] * b[k][n];
  for (size_t l = 0; l < 32; ++l)
    for (size_t i = 0; i < 4; ++i) lane(l)->c[i] = c[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2];
  ++block.statistics().mma;
}

}  // namespace

void install_collectives(EmulatedBlock& block) {
  block.shuffle = [](EmulatorInterface* e, unsigned long long value, unsigned source_lane) {
    struct Lane {
      unsigned long long value, result;
      unsigned source;
    } mine{value, 0, source_lane};
    EmulatedBlock& self = block_of(e);
    self.meet(self.warp_rendezvous(), self.lane(), "shfl.sync", &mine, [&](std::array<void*, 128>& lanes) {
      ++self.statistics().shuffles;
      for (size_t l = 0; l < 32; ++l) {
        auto* to = static_cast<Lane*>(lanes[l]);
        to->result = static_cast<Lane*>(lanes[to->source])->value;
      }
    });
    return mine.result;
  };
  block.warp_ballot = [](EmulatorInterface* e, int value) {
    EmulatedBlock& self = block_of(e);
    unsigned mine = value != 0;
    self.meet(self.warp_rendezvous(), self.lane(), "vote.sync", &mine, [](std::array<void*, 128>& lanes) {
      unsigned bits = 0;
      for (size_t l = 0; l < 32; ++l) bits |= *static_cast<unsigned*>(lanes[l]) << l;
      for (size_t l = 0; l < 32; ++l) *static_cast<unsigned*>(lanes[l]) = bits;
    });
    return mine;
  };
  block.warp_sync = [](EmulatorInterface* e) {
    EmulatedBlock& self = block_of(e);
    self.meet(self.warp_rendezvous(), self.lane(), "bar.warp.sync", nullptr, [&](std::array<void*, 128>&) {
      RaceDetector::Clock clock;
      for (int l = 0; l < 32; ++l) self.races().release(self.warp() * 32 + l, clock);
      for (int l = 0; l < 32; ++l) self.races().acquire(self.warp() * 32 + l, clock);
    });
  };
  block.approximate = [](EmulatorInterface*, int function, float x) { return approximate(function, x); };

  block.cp_async = [](EmulatorInterface* e, unsigned to, const void* from, int valid) {
    cp_async(block_of(e), to, from, valid != 0);
  };
  block.cp_async_commit = [](EmulatorInterface* e) {
    AsyncCopies& copies = block_of(e).current().copies;
    copies.groups.push_back(std::move(copies.open));
    copies.open.clear();
  };
  block.cp_async_wait = [](EmulatorInterface* e, int groups) { cp_async_wait(block_of(e), groups); };

  block.ldmatrix_x4 = [](EmulatorInterface* e, unsigned* r, unsigned address, int transposed) {
    EmulatedBlock& self = block_of(e);
    if (!self.shared_memory().contains(address, 16) || address % 16 != 0)
      self.fail(fmt::format("ldmatrix reads 16 bytes of shared memory at {}, which must be a multiple of 16 up to {}",
                            address, self.shared_memory().end() - 16));
    self.complain("ldmatrix reads shared memory", address,
                  self.races().read(static_cast<int>(self.thread_index), address, 16));
    MatrixLoad mine{r, address};
    self.meet(self.warp_rendezvous(), self.lane(), transposed ? "ldmatrix.trans" : "ldmatrix", &mine,
              [&](std::array<void*, 128>& lanes) {
                ++self.statistics().ldmatrix;
                ldmatrix_x4(self, lanes, transposed != 0);
              });
  };
  block.mma_m16n8k16 = [](EmulatorInterface* e, float* c, const unsigned* a, unsigned b0, unsigned b1, int is_bf16) {
    EmulatedBlock& self = block_of(e);
    Mma mine{c, a, {b0, b1}, is_bf16};
    self.meet(self.warp_rendezvous(), self.lane(), is_bf16 ? "mma.m16n8k16.bf16" : "mma.m16n8k16.f16", &mine,
              [&](std::array<void*, 128>& lanes) { mma_m16n8k16(self, lanes); });
  };
}

}  // namespace tilewright
