// CudaKernel: a CudaProgram whose kernels are loaded on a device. What engines call.
#pragma once

#include "runtime/cuda/cuda_device.h"
#include "runtime/cuda/cuda_program.h"
#include "runtime/cuda/run_report.h"

namespace tilewright {

struct CudaRunOptions {
  void* stream = nullptr;     ///< a CUstream of the current context; null is its default stream
  void* workspace = nullptr;  ///< device memory, 256-byte aligned
  int64_t workspace_bytes = 0;
  std::vector<CudaStepRun>* taken = nullptr;  ///< where not null, filled with what was launched, per step
  CudaClock* clock = nullptr;                 ///< where not null, it times the launches of one step
  size_t timed_step = 0;
};

class CudaKernel {
 public:
  /// GPU kernels count rows, keys, heads and blocks in 32 bits, with room for sums: all of them stay below this.
  static constexpr int64_t kLargestSize = int64_t{1} << 30;

  /// Compiles what is not in a cache, on several threads. Errors: what the device says of a kernel, more shared memory
  /// than it has.
  static Result<CudaKernel> load(std::shared_ptr<const CudaProgram> program, std::shared_ptr<const CudaDevice> device) {
    return load(std::move(program), std::move(device), nullptr);
  }
  /// With the modules that a kernel of the same device has already.
  static Result<CudaKernel> load(std::shared_ptr<const CudaProgram> program, const CudaKernel& like) {
    return load(std::move(program), like.device_, &like);
  }

  /// Enqueues the launches of one run: inputs in signature order, outputs in return order, device pointers with any
  /// strides. Allocates nothing, waits for nothing, may be captured in a CUDA graph. Everything is checked before the
  /// first launch. Thread-safe; runs that share a workspace must be ordered by their streams.
  Result<Done> run(std::span<const TensorView> inputs, std::span<const TensorView> outputs,
                   const CudaRunOptions& options = {}) const;

  /// What `run` needs at these dims.
  Result<int64_t> workspace_bytes(const DimBindings& dims) const;
  Result<std::vector<std::vector<int64_t>>> result_shapes(const DimBindings& dims) const;
  const CudaProgram& program() const { return *program_; }
  const CudaDevice& device() const { return *device_; }
  const CudaModule& module(size_t step, size_t choice) const { return *modules_[step][choice]; }
  double load_ms() const { return load_ms_; }

 private:
  CudaKernel() = default;
  static Result<CudaKernel> load(std::shared_ptr<const CudaProgram> program, std::shared_ptr<const CudaDevice> device,
                                 const CudaKernel* like);
  Result<Done> check_sizes(std::span<const int64_t> dims, std::span<const TensorView> inputs) const;
  Result<Done> check_places(std::span<const TensorView> inputs, std::span<const TensorView> outputs,
                            const CudaRunOptions& options, int64_t workspace_bytes) const;

  std::shared_ptr<const CudaProgram> program_;
  std::shared_ptr<const CudaDevice> device_;
  std::vector<std::vector<std::shared_ptr<const CudaModule>>> modules_;  ///< per step, then per copy: its choices
  double load_ms_ = 0;
};

/// Runs on tensors of the host: copies them to the device, runs, copies results and written inout parameters back.
/// Gaps between elements keep what they held. Copies are aligned as the host's tensors are, so that the same choices
/// run; `taken` as in CudaRunOptions.
Result<Done> run_from_host(const CudaKernel& kernel, std::span<const TensorView> inputs,
                           std::span<const TensorView> outputs, std::vector<CudaStepRun>* taken = nullptr);

}  // namespace tilewright
