// TuningDatabase: which schedule was measured best for a class of shapes on a device, as JSON that people can read.
//
//   { "format": "tilewright tuning 1",
//     "entries": [ { "device": "avx512 … l1 49152 l2 2097152 cores 1-4 l3 … of 2",      device_fingerprint
//                    "compiler": "llvm 19.1.7 source …",                          codegen_version
//                    "class": "prefill avx512 | …",                               compiler/shape_class.h
//                    "schedule": { "block_q": 384, … },                           integers of schedule_fields() alone,
//                                                                                 of cuda_schedule_fields() on a GPU
//                    "gflops": 190.5, "rules_gflops": 181.0, "date": "2026-11-21" } ] }
//
// Whatever a file says is only ever a suggestion: integers are put into the schedule of the rules and validated against
// the legal space of the step at hand, and nothing else of an entry reaches a kernel.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "compiler/cuda_schedule_space.h"

namespace tilewright {

/// Devices that share defaults: ISA and features, L1, L2, few, some or many cores.
std::string device_family(const CpuTarget& target);
/// What a measurement depends on besides the code: "avx512 bf16 fp16 l1 49152 l2 2097152 cores 1-4 l3 272629760 of 2".
std::string device_fingerprint(const CpuTarget& target);

/// What a measurement was made with, one line each. A GPU's: CudaDevice::measured_with().
struct MeasuredWith {
  std::string device, compiler;
};

struct TuningEntry {
  std::string device, compiler, shape_class;
  std::vector<std::pair<std::string, int64_t>> integers;  ///< by names of schedule_fields() or cuda_schedule_fields()
  double gflops = 0, rules_gflops = 0;
  std::string date;  ///< YYYY-MM-DD
};

/// Why the entry's schedule is used: "tuned on avx512 …: 1.08 times the rules' speed (measured 124.2 GFLOP/s against
/// 115.0 on 2026-11-21)".
std::string tuned_reason(const TuningEntry& entry);

/// The integers of `rules` replaced by the entry's, with the reason. Errors: an integer that no schedule has, or a
/// schedule outside the legal space of the step, by the bound that it breaks.
Result<CpuSchedule> tuned_schedule(const TuningEntry& entry, const CpuSchedule& rules, const ScheduledStep& step,
                                   const CpuTarget& target);
Result<CudaSchedule> tuned_schedule(const TuningEntry& entry, const CudaSchedule& rules, const ScheduledStep& step,
                                    const CudaTarget& target);
/// The entry's integers as those of the schedule.
void set_integers(TuningEntry& entry, const CpuSchedule& schedule);
void set_integers(TuningEntry& entry, const CudaSchedule& schedule);

class TuningDatabase {
 public:
  static constexpr int64_t kLargestFile = int64_t{16} << 20;

  /// Errors: one sentence why the text is no database of ours. Entries that are not well-formed are left out;
  /// `left_out` counts them.
  static Result<TuningDatabase> parse(std::string_view text, int64_t& left_out);
  std::string text() const;

  /// Replaces what is there for the device, compiler and class.
  void put(TuningEntry entry);
  void merge(const TuningDatabase& other);
  /// Null when there is none. An empty compiler matches any.
  const TuningEntry* find(const std::string& device, const std::string& compiler, const std::string& shape_class) const;
  size_t size() const { return entries_.size(); }

 private:
  using Key = std::pair<std::string, std::string>;  ///< device, class
  std::map<Key, TuningEntry> entries_;
};

}  // namespace tilewright
