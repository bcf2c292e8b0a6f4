// What a launch on the emulator is told and what it tells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ir/tensor_view.h"

namespace tilewright {

/// Memory that a kernel may touch. What a tensor of strides leaves out between its elements may lie inside.
struct EmulatedBuffer {
  const void* data = nullptr;
  size_t bytes = 0;
  bool writable = true;
  std::string name = {};  ///< what complaints call it
};
/// From the first byte of a tensor's elements to the last.
EmulatedBuffer buffer_of(const TensorView& view, bool writable = true, std::string name = {});

/// A legal execution to try. A kernel is right when it is right in all of them.
struct EmulatorOptions {
  /// Order of threads and blocks: 0 as numbered, else drawn from it.
  uint64_t seed = 0;
  // Asynchronous engines finish at once, or as late as something waits for them.
  bool late_copies = false;  ///< cp.async
  bool late_tma = false;
  bool late_wgmma = false;
  bool count_bank_conflicts = false;
  bool check_races = true;  ///< of shared memory
  /// Where primitives may read and write global memory; empty: anywhere.
  std::vector<EmulatedBuffer> buffers;
};

/// Warp-wide accesses of one kind to shared memory, and the passes over its banks that they take.
struct BankCounts {
  int64_t accesses = 0;
  int64_t passes = 0;
};

struct EmulatorStatistics {
  int64_t blocks = 0, switches = 0, barriers = 0, shuffles = 0;
  int64_t mma = 0, wgmma = 0, ldmatrix = 0;
  int64_t cp_async = 0, tma_loads = 0, tma_stores = 0;
  int64_t peak_registers = 0;  ///< that warpgroups held by setmaxnreg, of one block
  // Where EmulatorOptions::count_bank_conflicts; ldmatrix always.
  BankCounts loads, stores, matrix_loads;

  /// Of both launches together.
  EmulatorStatistics& operator+=(const EmulatorStatistics& other);
};

}  // namespace tilewright
