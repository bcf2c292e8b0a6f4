// Two runs of the benchmark, row by row: what got slower, and what is noise.
#pragma once

#include <string>
#include <vector>

#include "bench/run_file.h"

namespace tilewright::bench {

enum class Outcome : uint8_t {
  within_noise,  ///< the spreads overlap, or the change is under kNoiseFloor
  better,
  worse,         ///< slower (or, where a row is not about time, more) beyond both spreads
  incomparable,  ///< void, skipped or not measured in one of the two, or nothing to compare by
  only_before,
  only_after,
};

/// Changes of less than this part of the old figure are noise whatever the spreads say: few repeats may agree by luck.
constexpr double kNoiseFloor = 0.03;

std::string_view to_string(Outcome outcome);  ///< "within noise", "faster", "slower", …

struct Change {
  std::string group, name;
  Outcome outcome = Outcome::incomparable;
  std::string what;      ///< what is compared: "ms", or "% of FMA peak" where device or limit differ
  Figure before, after;  ///< of it
  double percent = 0;    ///< after over before, relative; in points where the figure is a cost in percent
  bool points = false;
  std::string why;  ///< not compared as time, or not at all, because
};

struct Comparison {
  std::string device_differences;  ///< empty: the same device
  std::vector<Change> changes;     ///< in the order of the later run, then what only the earlier has
  int count(Outcome outcome) const;
};

/// On the same device a row is compared by its time; where its limit moved beyond both spreads besides (the machine's
/// clock did, or another program ran), by its share of the limit, and is then worse only when its time is, too. On
/// different devices shares alone are compared. Rows without a bar are limits of the machine: they may differ, but not
/// get worse.
Comparison compare(const BenchRun& before, const BenchRun& after);

}  // namespace tilewright::bench
