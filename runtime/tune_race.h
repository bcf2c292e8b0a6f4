// The race of a search: candidates that were judged, by their medians against the rules', with the winner judged again.
#pragma once

#include "runtime/successive_halving.h"
#include "runtime/tuner.h"

namespace tilewright {

/// What a race asks of a search. Candidates are numbered; 0 is the rules' schedule.
struct RaceField {
  std::vector<TunedOutcome*> outcomes;
  std::vector<size_t> runners;  ///< into outcomes: those who are right, 0 first
  std::function<Result<WarmCold>(size_t candidate)> measure;
  std::function<std::string(size_t candidate)> judge;  ///< what is wrong with it; empty when nothing is
  std::function<void(size_t candidate, std::string why)> disqualify;
  std::function<double()> seconds_left;
  double seconds_after = 0;  ///< that must be left when it is over
  std::function<void(const std::string& stage, size_t left)> progress;
};

struct RaceResult {
  size_t chosen = 0;
  double noise = 0;
  bool out_of_time = false;
};

/// Fills warm, cold and fate of the outcomes. Timed runs are checked as well: a winner that is wrong by then is out,
/// and the others race again. Whoever is not faster than the rules by more than the noise loses to them.
RaceResult race_field(const RaceField& field);

/// Where a search stands, to who asked to be told.
void tell_progress(const SearchOptions& options, TuneProgress progress, std::span<const TunedOutcome* const> outcomes);
template <class Candidate>
void tell_progress(const SearchOptions& options, TuneProgress progress, const std::vector<Candidate>& candidates) {
  std::vector<const TunedOutcome*> outcomes;
  for (const Candidate& each : candidates) outcomes.push_back(&each);
  tell_progress(options, std::move(progress), std::span<const TunedOutcome* const>(outcomes));
}

}  // namespace tilewright
