// CudaTuneScene: TuneData on a device, where candidates run to be judged and to be timed.
#pragma once

#include "runtime/cuda/cuda_kernel.h"
#include "runtime/cuda/device_tensors.h"
#include "runtime/successive_halving.h"
#include "runtime/tune_data.h"

namespace tilewright {

class CudaTuneScene {
 public:
  /// Data, copied to the device. Errors: missing dims, no memory.
  static Result<std::unique_ptr<CudaTuneScene>> create(TuneData::Setup setup, const CudaDevice& device);

  /// What is wrong with the candidate; empty when nothing is. The first one judged must be the rules' kernel. Its
  /// workspace starts as NaN, too. `taken` as in CudaRunOptions.
  std::string judge(const CudaKernel& kernel, std::vector<CudaStepRun>* taken = nullptr);

  /// Seconds of the step in one run: cold behind a flush, warm behind a flush and runs of the same kernel. Work is in
  /// flight while a timed run is enqueued, so that the host's time for that is hidden. Errors: what the device says.
  Result<WarmCold> time(const CudaKernel& kernel, size_t step, CudaClock& clock);

  const TuneData& data() const { return data_; }

 private:
  CudaTuneScene(TuneData data, const CudaDevice& device)
      : data_(std::move(data)), device_(device), in_(device), out_(device) {}
  Result<Done> run(const CudaKernel& kernel, CudaRunOptions options);
  Result<Done> make_workspace(const CudaKernel& kernel);
  Result<Done> judged_run(const CudaKernel& kernel, std::vector<CudaStepRun>* taken);

  TuneData data_;
  const CudaDevice& device_;
  DeviceTensors in_, out_;
  std::shared_ptr<void> workspace_;
  int64_t workspace_bytes_ = 0;
};

}  // namespace tilewright
