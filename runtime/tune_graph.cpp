#include "runtime/tune_graph.h"

#include <algorithm>
#include <ctime>

#include "codegen/cpu/target_features.h"
#include "compiler/shape_class.h"
#include "runtime/stopwatch.h"
#include "runtime/successive_halving.h"
#include "runtime/tune_step.h"

namespace tilewright {
namespace {

/// A step at dims, and what it weighs in the budget.
struct Task {
  size_t step, choice;
  DimBindings dims;
  double weight;
};

bool can_be_tuned(const TuneRequest& request, size_t step, size_t choice) {
  const SearchSubject subject(request.rules->compiled->program.steps[step]);
  return !schedule_space(request.rules->stats.step_reports[step].schedules[choice], subject.step()).axes.empty();
}

TuningEntry entry_of(const TunedStep& step, const TuneResult& result) {
  const bool whole = !step.best().whole.empty() && !step.rules().whole.empty();
  const auto rate = [&](const TunedCandidate& each) {
    return whole ? step.whole_flops / median(each.whole) * 1e-9 : step.gflops(each);
  };
  TuningEntry entry{result.device,     result.compiler,    step.shape_class, {},
                    rate(step.best()), rate(step.rules()), result.date};
  set_integers(entry, step.best().schedule);
  return entry;
}

/// A search on fewer threads than the device has cores stays in this engine, unless the file was named for it: the
/// database serves every number of threads.
void keep(const TuneRequest& request, const std::vector<TuningEntry>& entries, TuneResult& result) {
  TuningStore* const store = request.store;
  const int workers = request.rules->executor->workers(), cores = request.target.cores;
  if (!store) {
    result.not_saved = "tuning databases are off";
  } else if (store->owned() && workers < cores && !request.options.for_family) {
    store->remember(entries);
    result.not_saved =
        fmt::format("it was measured on {} of {} cores, and serves any number of threads", workers, cores);
  } else if (const auto saved = store->add(entries)) {
    result.database = store->file();
  } else {
    result.not_saved = saved.error().list.front().message;
  }
}

}  // namespace

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", &utc);
  return text;
}

std::optional<DimBindings> one_query(const Step& step, const DimBindings& dims) {
  const auto* attention = std::get_if<AttentionStep>(&step.what);
  if (!attention) return {};
  const Dim& q_len = attention->spec.q_len;
  if (q_len.terms().size() != 1 || q_len.constant() != 0 || q_len.terms().begin()->second != 1) return {};
  DimBindings one = dims;
  one[q_len.terms().begin()->first] = 1;
  if (attention->spec.kv_len.evaluate(one).value_or(0) < 64) return {};
  return one;
}

std::string nothing_to_tune(const Program& program) {
  if (!program.not_fused.empty()) {
    const FusionNote& note = program.not_fused.front();
    return fmt::format("graph @{} has nothing to tune: %{} does not fuse: {}", program.name, note.value, note.reason);
  }
  return fmt::format("graph @{} has nothing to tune: no attention and no product is in it", program.name);
}

std::string nothing_to_compute(const Program& program, const DimBindings& dims) {
  std::string text;
  for (const auto& [name, size] : dims) text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, size);
  return fmt::format("graph @{} computes nothing at {}; give dims that leave something to measure", program.name, text);
}

std::string_view to_string(TunedOutcome::Fate fate) {
  switch (fate) {
    case TunedOutcome::Fate::failed: return "failed";
    case TunedOutcome::Fate::wrong: return "wrong";
    case TunedOutcome::Fate::dropped: return "dropped";
    case TunedOutcome::Fate::tied: return "tied";
    case TunedOutcome::Fate::chosen: return "chosen";
    case TunedOutcome::Fate::pruned: break;
  }
  return "pruned";
}

double TunedOutcome::seconds() const { return (median(warm) + median(cold)) / 2; }

double TunedOutcome::spread() const {
  if (warm.size() < 2) return 0;
  std::vector<double> sorted = warm;
  std::sort(sorted.begin(), sorted.end());
  const double quartiles = sorted[sorted.size() * 3 / 4] - sorted[sorted.size() / 4];
  return quartiles / 2 / median(std::move(sorted));
}

double TunedStep::speedup() const {
  const bool both = !best().whole.empty() && !rules().whole.empty();
  const double base = both ? median(rules().whole) : rules().seconds();
  const double own = both ? median(best().whole) : best().seconds();
  return base > 0 && own > 0 ? base / own : 1;
}

Result<Done> check(const SearchOptions& options) {
  if (!(options.budget_seconds > 0) || options.budget_seconds > 1e6)
    return invalid("the budget is {} seconds; a search takes more than 0 and at most 1000000", options.budget_seconds);
  if (options.candidates < 2 || options.candidates > 100'000)
    return invalid("{} candidates are asked for; a search takes 2 to 100000, the rules' schedule among them",
                   options.candidates);
  return Done{};
}

Result<TuneResult> tune_graph(const TuneRequest& request) {
  const Stopwatch watch;
  const Program& program = request.rules->compiled->program;
  const auto choices = Kernel(request.rules).choices(request.dims);
  if (!choices) return choices.error();

  TuneResult result;
  result.graph = program.name;
  result.device = device_fingerprint(request.target);
  result.compiler = codegen_version();
  result.date = today();
  const bool fused = request.rules->stats.fused_attentions + request.rules->stats.fused_backwards > 0;
  std::vector<Task> tasks;
  std::vector<std::string> classes;
  bool idle = false;
  const auto add = [&](size_t step, const DimBindings& dims, size_t choice) {
    if (!can_be_tuned(request, step, choice)) return;
    const double flops = guess_flops(program, program.steps[step], dims);
    if (flops <= 0) {
      idle = true;
      return;
    }
    const StepReport& report = request.rules->stats.step_reports[step];
    const SearchSubject subject(program.steps[step]);
    const CpuSchedule& rules = report.schedules[choice];
    std::string shape = shape_class(class_template(rules), subject.step(),
                                    length_bucket(length_at(class_template(rules), subject.step(), dims)));
    if (std::ranges::find(classes, shape) != classes.end()) {
      result.notes.push_back(fmt::format("%{} is of a class that is tuned already", report.name));
      return;
    }
    classes.push_back(std::move(shape));
    tasks.push_back({step, choice, dims, flops});
  };
  for (size_t step = 0; step < program.steps.size(); ++step) {
    // A graph whose attention did not fuse is not what was meant to be tuned.
    if (!fused && !program.not_fused.empty()) break;
    add(step, request.dims, (*choices)[step]);
    if (const auto one = one_query(program.steps[step], request.dims); one && request.options.twins)
      if (const auto twin = Kernel(request.rules).choices(*one); twin && (*twin)[step] != (*choices)[step])
        add(step, *one, (*twin)[step]);
  }
  if (tasks.empty() && idle) return invalid("{}", nothing_to_compute(program, request.dims));
  if (tasks.empty()) return Diagnostic{ErrorKind::unsupported, nothing_to_tune(program), {}, 0};
  for (const FusionNote& note : program.not_fused)
    result.notes.push_back(fmt::format("%{} does not fuse: {}", note.value, note.reason));

  // Nobody gets less than half of an even share: the budget also pays for compiling and checking.
  double weights = 0;
  for (const Task& task : tasks) weights += task.weight;
  std::vector<TuningEntry> entries;
  for (const Task& task : tasks) {
    const double share = 0.5 / static_cast<double>(tasks.size()) + 0.5 * task.weight / weights;
    auto tuned = search_step({request, task.step, task.choice, task.dims, request.options.budget_seconds * share});
    if (!tuned) return tuned.error();
    if (tuned->gflops(tuned->rules()) > 0) {
      entries.push_back(entry_of(*tuned, result));
      if (tuned->chosen != 0) tuned->candidates[tuned->chosen].schedule.reasons = {tuned_reason(entries.back())};
      if (request.options.for_family) entries.back().device = device_family(request.target);
    }
    result.steps.push_back(std::move(*tuned));
  }
  if (request.options.save && !entries.empty()) keep(request, entries, result);
  result.seconds = watch.milliseconds() * 1e-3;
  return result;
}

}  // namespace tilewright
