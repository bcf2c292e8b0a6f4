#include "runtime/tune_race.h"

#include <algorithm>
#include <cmath>

#include "runtime/stopwatch.h"

namespace tilewright {
namespace {

using Fate = TunedOutcome::Fate;

void mark_ties(const RaceField& field, double noise) {
  const double base = field.outcomes[0]->seconds();
  for (TunedOutcome* each : field.outcomes)
    if (each->fate == Fate::dropped && each->seconds() > 0 && std::fabs(each->seconds() / base - 1) <= noise)
      each->fate = Fate::tied;
}

void forget_times(TunedOutcome& outcome) {
  outcome.warm.clear();
  outcome.cold.clear();
}

}  // namespace

RaceResult race_field(const RaceField& field) {
  std::vector<size_t> runners = field.runners;
  const auto measure = [&](size_t candidate) -> std::optional<WarmCold> {
    const auto seconds = field.measure(candidate);
    TunedOutcome& outcome = *field.outcomes[candidate];
    if (!seconds) {
      outcome.fate = Fate::failed;
      outcome.why = seconds.error().list.front().message;
      return {};
    }
    outcome.warm.push_back(seconds->warm);
    outcome.cold.push_back(seconds->cold);
    return *seconds;
  };
  HalvingOptions options;
  options.seconds_left = [&] { return field.seconds_left() - field.seconds_after; };
  // How long a repeat takes, to fit the rounds into what is left.
  double one = 1e-3;
  const Stopwatch watch;
  if (measure(0)) one = watch.milliseconds() * 1e-3;
  forget_times(*field.outcomes[0]);
  const double repeats = field.seconds_left() / (one * 5 * static_cast<double>(runners.size()));
  options.first_repeats = static_cast<int>(std::clamp(repeats, 1.0, 5.0));
  options.final_repeats = std::clamp(static_cast<int>(std::min(repeats * 8, 1e6)), 5, 40);
  options.progress = [&](int round, size_t left) { field.progress(fmt::format("round {}", round), left); };
  RaceResult result;
  while (runners.size() > 1) {
    const HalvingResult halved = race(runners.size(), [&](size_t i) { return measure(runners[i]); }, options);
    result.noise = halved.noise;
    result.out_of_time |= halved.out_of_time;
    for (const size_t i : runners)
      if (field.outcomes[i]->fate == Fate::pruned) field.outcomes[i]->fate = Fate::dropped;
    result.chosen = runners[halved.winner];
    field.outcomes[result.chosen]->fate = Fate::chosen;
    if (result.chosen == 0) {
      mark_ties(field, result.noise);
      return result;
    }
    std::string wrong = field.judge(result.chosen);
    if (wrong.empty()) return result;
    field.disqualify(result.chosen, "after it was timed: " + wrong);
    std::erase(runners, result.chosen);
    for (const size_t i : runners) forget_times(*field.outcomes[i]);
  }
  field.outcomes[0]->fate = Fate::chosen;
  result.chosen = 0;
  return result;
}

void tell_progress(const SearchOptions& options, TuneProgress progress, std::span<const TunedOutcome* const> outcomes) {
  if (!options.progress) return;
  progress.candidates = static_cast<int>(outcomes.size());
  progress.seconds_left = std::max(progress.seconds_left, 0.0);
  for (const TunedOutcome* each : outcomes)
    if (const double seconds = each->seconds();
        seconds > 0 && (progress.best_seconds == 0 || seconds < progress.best_seconds))
      progress.best_seconds = seconds;
  if (!outcomes.empty()) progress.rules_seconds = outcomes[0]->seconds();
  options.progress(progress);
}

}  // namespace tilewright
