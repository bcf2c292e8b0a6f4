// A stand-in for libcuda: a shared library that the real loader opens, and that tests steer and ask what it saw.
// Memory is the host's, kernels do nothing, everything that a driver would refuse can be made to be refused.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "runtime/cuda/driver_api.h"

namespace tilewright::testing {

struct FakeMemory {
  size_t bytes = 0;
  int ordinal = 0;
  bool managed = false;
};

struct FakeLaunch {
  std::string kernel;
  unsigned blocks = 0, threads = 0, shared_bytes = 0, cluster = 1;
  CuStream stream = nullptr;
};

struct FakeTensorMap {
  int data_type = 0, swizzle = 0, outside = 0;
  void* address = nullptr;
  std::vector<uint64_t> sizes, byte_strides;
  std::vector<unsigned> box;
};

/// One per process. `FakeDriver()` is a machine with one Hopper GPU and no context.
struct FakeDriver {
  // What tests set.
  std::map<std::string, CuResult> fails;  ///< by function: what it returns instead
  int devices = 1, capability = 90, shared_bytes_per_block = 227 << 10, blocks_per_multiprocessor_of_a_kernel = 1;
  CuContext current = nullptr;
  int device_of_current = 0;
  std::map<CuStream, CuContext> streams;
  float milliseconds = 1;  ///< between any two events
  /// Reads a kernel's parameters: Args, then tensor maps.
  std::function<void(void** parameters)> on_launch;

  // What it saw.
  std::vector<std::string> calls;
  std::vector<FakeLaunch> launches;
  std::vector<FakeTensorMap> tensor_maps;
  std::map<std::string, int> shared_bytes_asked_for;  ///< by kernel
  std::map<uintptr_t, FakeMemory> memory;
  int modules = 0;  ///< loaded and not unloaded
  int events = 0;   ///< made and not destroyed
};

/// The context of every device's cuDevicePrimaryCtxRetain.
inline CuContext fake_primary_context() { return reinterpret_cast<CuContext>(0x1000); }

}  // namespace tilewright::testing

extern "C" tilewright::testing::FakeDriver* fake_driver();
