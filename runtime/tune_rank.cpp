// Which schedules are worth compiling: the neighbours of the rules' and the best by the model, no kind too often.
#include <algorithm>
#include <map>

#include "compiler/passes.h"
#include "ir/interp.h"
#include "runtime/tune_step.h"
#include "runtime/work.h"

namespace tilewright {
namespace {

constexpr size_t kListedPruned = 400;

/// One step along one axis away from the rules' schedule, as far as settling lets one tell.
bool is_neighbour(const CpuSchedule& s, const ScheduleSpace& space) {
  for (const ScheduleAxis& axis : space.axes) {
    const auto at = std::ranges::find(axis.values, space.rules.*axis.member);
    for (const auto& other :
         {at == axis.values.begin() ? axis.values.end() : at - 1, at == axis.values.end() ? at : at + 1}) {
      if (other == axis.values.end()) continue;
      CpuSchedule near = space.rules;
      near.*axis.member = *other;
      settle(near);
      if (same_choice(near, s)) return true;
    }
  }
  return false;
}

}  // namespace

SearchSubject::SearchSubject(const Step& step) : step_(step) {
  if (const auto* attention = std::get_if<AttentionStep>(&step.what)) program_ = build_tile_program(attention->spec);
}

ScheduledStep SearchSubject::step() const {
  if (program_) return &*program_;
  if (const auto* backward = std::get_if<BackwardStep>(&step_.what)) return &backward->spec;
  return &std::get<LoopStep>(step_.what);
}

int64_t length_at(const ClassTemplate& kernel, const ScheduledStep& step, const DimBindings& dims) {
  const std::array<int64_t, 12> axes{};
  return evaluate_int(class_length(kernel, step), dims, {}, axes);
}

double guess_flops(const Program& program, const Step& step, const DimBindings& dims) {
  std::vector<TensorView> tensors(step.tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i)
    tensors[i].rank = static_cast<int>(program.tensors[static_cast<size_t>(step.tensors[i])].type.rank());
  return count_flops(step, dims, tensors);
}

std::vector<TunedCandidate> rank_candidates(const CpuSchedule& rules, const ScheduledStep& step,
                                            const CpuTarget& target, const DimBindings& dims, int workers, int wanted,
                                            TunedStep& out) {
  const ScheduleSpace space = schedule_space(rules, step);
  out.axes = space.axes;
  std::vector<TunedCandidate> all;
  for (CpuSchedule& schedule : legal_schedules(space, step, target)) all.push_back({{}, std::move(schedule), {}, {}});
  out.legal = static_cast<int64_t>(all.size());
  for (TunedCandidate& each : all) each.cost = estimate_cost(each.schedule, step, target, dims, workers);
  all[0].schedule.reasons = rules.reasons;
  std::stable_sort(all.begin() + 1, all.end(),
                   [](const TunedCandidate& a, const TunedCandidate& b) { return a.cost.cycles < b.cost.cycles; });

  // Half of the places are for neighbours of the rules' schedule, which is seldom far off. The model's favourites take
  // the rest, but not all of them with one micro-kernel, nor with the same tiles and another unrolling.
  const size_t places = std::min(static_cast<size_t>(wanted), all.size());
  std::vector<bool> taken(all.size(), false);
  taken[0] = true;
  size_t count = 1;
  for (size_t i = 1; i < all.size() && count < (places + 1) / 2; ++i)
    if (is_neighbour(all[i].schedule, space)) taken[i] = ++count > 0;
  std::map<std::pair<int64_t, int64_t>, size_t> per_kernel;
  std::map<std::vector<int64_t>, size_t> per_tile;
  for (size_t limit = std::max<size_t>(places / 6, 1); count < places; limit *= 2)
    for (size_t i = 1; i < all.size() && count < places; ++i) {
      const CpuSchedule& s = all[i].schedule;
      if (taken[i] || per_kernel[{s.mr, s.nv}] >= limit) continue;
      CpuSchedule tile = s;
      tile.k_unroll = tile.share_packed = 0;
      std::vector<int64_t> key;
      for (const ScheduleField& field : schedule_fields()) key.push_back(tile.*field.member);
      if (per_tile[key] >= limit / 2 + 1) continue;
      ++per_kernel[{s.mr, s.nv}];
      ++per_tile[key];
      taken[i] = true;
      ++count;
    }
  std::vector<TunedCandidate> chosen, pruned;
  for (size_t i = 0; i < all.size(); ++i) {
    if (taken[i])
      chosen.push_back(std::move(all[i]));
    else if (pruned.size() < kListedPruned)
      pruned.push_back(std::move(all[i]));
  }
  out.candidates = std::move(pruned);
  return chosen;
}

}  // namespace tilewright
