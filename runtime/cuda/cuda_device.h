// CudaDevice: what runs kernels of the GPU backend. The driver's (runtime/cuda/driver_device) and the emulator's
// (emulator/emulator_device) look alike from here.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>

#include "codegen/cuda/cuda_source.h"
#include "ir/cuda_target.h"
#include "ir/tensor_view.h"
#include "runtime/cuda/compile_cuda.h"
#include "runtime/tuning_database.h"

namespace tilewright {

/// A TensorMapPlan over a tensor as it lies in memory.
struct TensorMapView {
  static constexpr int kMaxAxes = 5;
  void* address = nullptr;  ///< 16-byte aligned
  DType dtype = DType::bf16;
  int rank = 0;
  std::array<int64_t, kMaxAxes> sizes{}, byte_strides{}, box{};  ///< innermost first; at least 1, multiples of 16
};

/// One launch of one phase of a module's source.
struct CudaKernelCall {
  size_t phase = 0;
  int64_t blocks = 0;
  std::span<const uint64_t> args;  ///< the words of Args
  std::span<const TensorMapView> tensor_maps;
  void* stream = nullptr;  ///< a CUstream; null is the default one
};

/// The kernels of one CudaSource, ready to launch. Thread-safe.
class CudaModule {
 public:
  virtual ~CudaModule() = default;
  virtual Result<Done> launch(const CudaKernelCall& call) const = 0;
  /// What the machine code says of itself; null where there is none.
  virtual const CudaBinary* binary() const { return nullptr; }
};

/// Times what is enqueued on a stream.
class CudaClock {
 public:
  virtual ~CudaClock() = default;
  /// Enqueues what overwrites every line of L2.
  virtual Result<Done> flush(void* stream) = 0;
  virtual Result<Done> begin(void* stream) = 0;
  virtual Result<Done> end(void* stream) = 0;
  /// Waits for `end`; seconds since `begin`.
  virtual Result<double> seconds() = 0;
};

class CudaDevice {
 public:
  virtual ~CudaDevice() = default;
  virtual const CudaTarget& target() const = 0;

  /// Builds or finds the kernels of a source. Thread-safe.
  virtual Result<std::shared_ptr<const CudaModule>> load(const CudaSource& source) const = 0;

  /// Whether kernels may be launched now: on this thread, on that stream. Allocates and waits for nothing.
  virtual Result<Done> check_stream(void* stream) const = 0;
  /// Whether kernels reach that memory. Errors name `name`.
  virtual Result<Done> check_memory(const std::string& name, const void* data) const = 0;
  /// 256 zero bytes that kernels may read: what tensors without elements point to.
  virtual void* zeros() const = 0;

  // Setting up a run; never called by one.
  /// Whether kernels reach the host's memory, so that nothing has to be copied.
  virtual bool shares_host_memory() const = 0;
  /// 256-byte aligned memory of the device.
  virtual Result<std::shared_ptr<void>> allocate(int64_t bytes) const = 0;
  virtual Result<Done> copy_in(void* device, const void* host, int64_t bytes) const = 0;
  /// Waits for every launch before.
  virtual Result<Done> copy_out(void* host, const void* device, int64_t bytes) const = 0;

  // Measuring.
  /// Errors: one sentence, where times would mean nothing.
  virtual Result<std::unique_ptr<CudaClock>> make_clock() const { return unsupported("this device has no clock"); }
  /// What measurements depend on: the key of the tuning database. Empty where there are none.
  virtual MeasuredWith measured_with() const { return {}; }
};

}  // namespace tilewright
