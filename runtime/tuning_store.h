// TuningStore: the tuning databases that an engine consults: the user's own file, then what is shipped for the device
// family, then the planner's rules. Thread-safe; readers work on a snapshot that writers replace.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "runtime/tuning_database.h"

namespace tilewright {

class TuningStore {
 public:
  /// Reads `file` when it is there; "" = nothing but what is shipped. A file that cannot be used is as good as none;
  /// a line under TILEWRIGHT_VERBOSE says why. An `owned` file lies in our own cache folder and may be replaced
  /// whatever it holds; any other is only written when it is new or a tuning database.
  TuningStore(std::string file, bool owned);

  /// Puts measured schedules into the plan where they are legal. Where the class' length is not known yet and buckets
  /// have schedules of their own, a choice becomes several, one for each bucket.
  void apply(CpuPlan& plan, const ScheduledStep& step, const CpuTarget& target) const;
  /// The same for a GPU, by what was measured on one like it. Nothing is shipped for GPUs.
  void apply(CudaPlan& plan, const ScheduledStep& step, const CudaTarget& target, const MeasuredWith& with) const;

  /// Whether `add` is likely to reach a file that somebody named. Errors: one sentence.
  Result<Done> check_writable() const;
  /// Adds to the snapshot and to what the file holds by then: another process may have written since. Errors: there is
  /// no file, or it cannot be written; the snapshot has the entries all the same.
  Result<Done> add(const std::vector<TuningEntry>& entries);
  /// Adds to the snapshot alone.
  void remember(const std::vector<TuningEntry>& entries);

  /// Changes whenever `apply` may answer differently.
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
  const std::string& file() const { return file_; }
  bool owned() const { return owned_; }

 private:
  using Snapshot = std::shared_ptr<const TuningDatabase>;
  Snapshot user() const;

  std::string file_;
  bool owned_;
  std::shared_ptr<const TuningDatabase> shipped_;
  mutable std::mutex mutex_;
  Snapshot user_;
  std::atomic<uint64_t> generation_{0};
};

/// By what TILEWRIGHT_TUNING or an engine's options say: "off" = null, the rules alone; a file; "" = our own
/// "tuning.json" in the cache's folder, if there is one ("" = none).
std::unique_ptr<TuningStore> open_tuning(const std::string& wanted, const std::string& cache_folder);
/// As an engine without options has it, for who needs no engine. A `wanted` that is not empty goes before the
/// environment's.
std::unique_ptr<TuningStore> open_environment_tuning(const std::string& wanted = {});
/// The JSON texts of runtime/tuned/, built in.
std::vector<std::string_view> shipped_tunings();

}  // namespace tilewright
