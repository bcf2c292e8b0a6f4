#include "bench/comparison.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace tilewright::bench {
namespace {

bool positive(const Figure& figure) { return std::isfinite(figure.median) && figure.median > 0; }

/// −1, 0 or 1: after lies below, about or above before.
int moved(const Figure& before, const Figure& after, double floor) {
  if (after.low > before.high && after.median - before.median > floor) return 1;
  if (after.high < before.low && before.median - after.median > floor) return -1;
  return 0;
}
int moved(const Figure& before, const Figure& after) { return moved(before, after, kNoiseFloor * before.median); }

bool is_cost(const Row& row) { return row.bar && !row.bar->at_least && row.unit == "%"; }
/// Of judged values. A cost in percent may be about 0: its floor is in points.
int moved_value(const Row& before, const Row& after) {
  return moved(before.value, after.value, is_cost(after) ? 100 * kNoiseFloor : kNoiseFloor * before.value.median);
}

Outcome outcome_of(int direction, bool more_is_better) {
  if (direction == 0) return Outcome::within_noise;
  return (direction > 0) == more_is_better ? Outcome::better : Outcome::worse;
}

std::string state(const Row& row) {
  if (row.verdict() == Verdict::skipped) return "skipped: " + row.skipped;
  if (row.verdict() == Verdict::void_row) return "void: " + row.fall_back;
  return "";
}

void compare_time(Change& change, const Row& before, const Row& after) {
  change.what = "ms";
  change.before = before.ms;
  change.after = after.ms;
  change.outcome = outcome_of(moved(before.ms, after.ms), false);
}

void compare_value(Change& change, const Row& before, const Row& after) {
  change.what = after.unit;
  if (after.unit == "%" && !is_cost(after) && !after.limit_name.empty()) change.what += " of " + after.limit_name;
  change.before = before.value;
  change.after = after.value;
  change.points = is_cost(after);
  change.outcome = outcome_of(moved_value(before, after), !after.bar || after.bar->at_least);
}

Change compare_rows(const Row& before, const Row& after, bool same_device) {
  Change change{.group = after.group, .name = after.name};
  if (!state(before).empty() || !state(after).empty()) {
    change.why = state(after).empty() ? "was " + state(before) : state(after);
    return change;
  }
  const bool same_value = before.unit == after.unit && before.limit_name == after.limit_name &&
                          before.limit_unit == after.limit_unit && before.bar.has_value() == after.bar.has_value() &&
                          (!before.bar || before.bar->at_least == after.bar->at_least);
  const bool values = same_value && std::isfinite(before.value.median) && std::isfinite(after.value.median);
  const bool times = same_device && positive(before.ms) && positive(after.ms);
  const bool limits = positive(before.limit) && positive(after.limit);
  if (!after.bar || after.unit == "MB") {  // no time is judged
    if (!values || (after.bar && !same_device)) {
      change.why = values ? "the devices differ and it is no share of a limit" : "the figures mean different things";
      return change;
    }
    compare_value(change, before, after);
    if (!after.bar && change.outcome == Outcome::worse) {
      change.outcome = Outcome::within_noise;
      change.why = "a limit of the machine";
    }
  } else if (times && !(values && limits && moved(before.limit, after.limit) != 0)) {
    compare_time(change, before, after);
  } else if (values && limits) {
    compare_value(change, before, after);
    change.why = same_device ? fmt::format("as share, since the limit moved from {:.4g} to {:.4g} {}",
                                           before.limit.median, after.limit.median, after.limit_unit)
                             : "as share, since the devices differ";
    if (same_device && change.outcome == Outcome::worse && times && moved(before.ms, after.ms) <= 0)
      change.outcome = Outcome::within_noise;
  } else {
    change.why =
        same_device ? "nothing was measured that both have" : "the devices differ and it is no share of a limit";
  }
  return change;
}

}  // namespace

std::string_view to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::within_noise: return "within noise";
    case Outcome::better: return "faster";
    case Outcome::worse: return "slower";
    case Outcome::only_before: return "only before";
    case Outcome::only_after: return "only now";
    case Outcome::incomparable: break;
  }
  return "not comparable";
}

int Comparison::count(Outcome outcome) const {
  return static_cast<int>(
      std::count_if(changes.begin(), changes.end(), [&](const Change& change) { return change.outcome == outcome; }));
}

Comparison compare(const BenchRun& before, const BenchRun& after) {
  Comparison comparison;
  comparison.device_differences = differences(before.device, after.device);
  std::map<std::string, const Row*> earlier;
  for (const Row& row : before.rows) earlier.emplace(row.key(), &row);
  for (const Row& row : after.rows) {
    const auto at = earlier.find(row.key());
    if (at == earlier.end()) {
      comparison.changes.push_back({.group = row.group, .name = row.name, .outcome = Outcome::only_after});
      continue;
    }
    Change change = compare_rows(*at->second, row, comparison.device_differences.empty());
    const double difference = change.after.median - change.before.median;
    change.percent = change.points ? difference : 100 * difference / std::abs(change.before.median);
    comparison.changes.push_back(std::move(change));
    earlier.erase(at);
  }
  for (const Row& row : before.rows)
    if (earlier.contains(row.key()))
      comparison.changes.push_back({.group = row.group, .name = row.name, .outcome = Outcome::only_before});
  return comparison;
}

}  // namespace tilewright::bench
