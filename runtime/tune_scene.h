// TuneScene: data for a graph at certain dims, on which candidates run: to be judged, and to be timed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/successive_halving.h"
#include "runtime/tune_data.h"
#include "runtime/tuner.h"

namespace tilewright {

class TuneScene {
 public:
  struct Setup {
    TuneData::Setup data;
    TuneOptions::Run run;     ///< empty = kernel.run
    int64_t flush_bytes = 0;  ///< memory that is read before a cold run
    WorkSlice slice;          ///< what runs compute; of a part of the work there is agreement alone
  };
  /// Errors: missing dims, no memory.
  static Result<std::unique_ptr<TuneScene>> create(Setup setup);

  /// What is wrong with the candidate; empty when nothing is. The first one judged must be the rules' kernel: others
  /// are compared with its outputs.
  std::string judge(const Kernel& kernel, const CpuSchedule& schedule);

  /// Seconds of the step in one run, an average of several where one is short; nothing when the run fails. Cold: after
  /// every worker has read memory of its own, more than its caches hold.
  std::optional<WarmCold> time(const Kernel& kernel, const CpuSchedule& schedule, size_t step);

  const std::vector<TensorView>& inputs() const { return data_.inputs(); }
  const DimBindings& dims() const { return data_.dims(); }

 private:
  TuneScene(Setup setup, TuneData data) : setup_(std::move(setup)), data_(std::move(data)) {}
  Result<Done> run(const Kernel& kernel, const CpuSchedule& schedule, double* step_seconds);

  Setup setup_;
  TuneData data_;
  AlignedBuffer workspace_, flush_;
};

}  // namespace tilewright
