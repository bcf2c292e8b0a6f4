#include "runtime/tune_part.h"

#include <algorithm>

namespace tilewright {
namespace {

/// Runs that a candidate makes on average: one to be judged; a warm and a cold one, four times.
constexpr double kRuns = 1 + 2 * 4;
constexpr double kMostOfIt = 0.9;  ///< of the time

void add_names(const Dim& dim, std::vector<std::string>& names) {
  for (const auto& [name, coefficient] : dim.terms())
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
}

}  // namespace

const ScoreSpace* StepCost::space() const {
  if (const auto* program = std::get_if<const TileProgram*>(&step_)) return &(*program)->spec;
  if (const auto* backward = std::get_if<const BackwardSpec*>(&step_)) return *backward;
  return nullptr;
}

double StepCost::seconds(const DimBindings& dims) const { return guess_flops(program_, source_, dims) / rate() + 1e-5; }

double StepCost::others(const DimBindings& dims) const {
  double flops = 0;
  for (const Step& step : program_.steps)
    if (&step != &source_) flops += guess_flops(program_, step, dims);
  return flops / rate();
}

std::vector<std::string> StepCost::batches() const {
  std::vector<std::string> names;
  if (space())
    for (const Dim& dim : space()->batch) add_names(dim, names);
  return names;
}

std::vector<std::string> StepCost::lengths() const {
  std::vector<std::string> names;
  if (space()) {
    add_names(space()->q_len, names);
    add_names(space()->kv_len, names);
  } else {
    for (const Dim& dim : std::get<const LoopStep*>(step_)->extents) add_names(dim, names);
  }
  return names;
}

int64_t StepCost::pairs(const DimBindings& dims) const {
  // A backward pass also has phases whose items are not of one head.
  if (!std::holds_alternative<const TileProgram*>(step_)) return 1;
  int64_t pairs = 1;
  for (const auto* list : {&space()->batch, &space()->heads})
    for (const Dim& dim : *list) pairs *= std::max<int64_t>(dim.evaluate(dims).value_or(1), 1);
  return std::max<int64_t>(pairs / space()->head_group, 1);
}

RacePart choose_part(const StepCost& cost, size_t step, const DimBindings& dims, int candidates, double seconds,
                     int workers, const std::function<bool(const DimBindings&)>& same_kernel) {
  RacePart part{dims, {}, candidates};
  const auto needed = [&](const DimBindings& at) {
    const double share = static_cast<double>(part.slice.part) / static_cast<double>(part.slice.whole);
    return (cost.seconds(at) * share + cost.others(at)) * kRuns * candidates;
  };
  const auto shrink = [&](const std::vector<std::string>& names, int64_t least) {
    while (needed(part.dims) > seconds) {
      DimBindings smaller = part.dims;
      for (const std::string& name : names)
        if (smaller[name] > least) smaller[name] = std::max<int64_t>(1, smaller[name] * 7 / 8);
      if (smaller == part.dims || !same_kernel(smaller)) return;
      part.dims = std::move(smaller);
    }
  };
  shrink(cost.batches(), 1);
  const int64_t pairs = cost.pairs(part.dims);
  part.slice = {step, pairs, pairs};
  const double own = cost.seconds(part.dims), all = own + cost.others(part.dims);
  if (const double share = seconds / needed(part.dims); share < 1 && own > kMostOfIt * all) {
    const auto fits = static_cast<int64_t>(share * static_cast<double>(pairs));
    part.slice.part = std::clamp<int64_t>(fits, std::min<int64_t>(workers, pairs), pairs);
  }
  shrink(cost.lengths(), 128);
  part.candidates = static_cast<int>(std::clamp(candidates * seconds / needed(part.dims), 2.0, 1e6));
  part.candidates = std::min(part.candidates, candidates);
  return part;
}

}  // namespace tilewright
