#include "runtime/cuda/tune_cuda.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "compiler/shape_class.h"
#include "runtime/cuda/cuda_tune_scene.h"
#include "runtime/stopwatch.h"
#include "runtime/tune_graph.h"
#include "runtime/tune_race.h"
#include "runtime/tune_step.h"
#include "runtime/work.h"

namespace tilewright {
namespace {

using Fate = TunedOutcome::Fate;

// Of a search's time: the oracle's rows; what is left when nothing more is compiled, and nothing more is judged; the
// winner's last check.
constexpr double kOracleShare = 0.1, kAfterCompile = 0.6, kAfterJudging = 0.35, kLastCheck = 0.05;

/// A graph on a device, and what its searches share.
struct Session {
  const CudaDevice& device;
  const CudaKernel& rules;
  const SearchOptions& options;
  CudaClock& clock;

  const Program& program() const { return rules.program().compiled.program; }
};

/// One step at the dims of a scene, whose kernel of the rules was judged, and the choice that ran.
class CudaSearch {
 public:
  CudaSearch(const Session& session, CudaTuneScene& scene, size_t step, size_t choice, double seconds)
      : session_(session),
        scene_(scene),
        step_(step),
        choice_(choice),
        seconds_(seconds),
        source_(session.program().steps[step]),
        subject_(source_) {}

  CudaTunedStep run(const std::string& shape) {
    const CudaStep& step = session_.rules.program().steps[step_];
    out_.name = step.name;
    out_.dims = scene_.data().dims();
    out_.shape_class = shape;
    out_.flops = count_flops(source_, out_.dims, step_tensors(session_.program(), source_, scene_.data().inputs()));
    choose_candidates(step.choices[choice_].source.launch.schedule);
    tell("compile", out_.candidates.size());
    compile();
    judge();
    race();
    return std::move(out_);
  }

 private:
  double left() const { return seconds_ - watch_.milliseconds() * 1e-3; }

  void choose_candidates(const CudaSchedule& rules) {
    const CudaTarget& target = session_.rules.program().target;
    for (CudaSchedule& schedule : legal_cuda_schedules(rules, subject_.step(), target)) {
      ++out_.legal;
      if (out_.candidates.size() < static_cast<size_t>(session_.options.candidates))
        out_.candidates.emplace_back().schedule = std::move(schedule);
    }
    kernels_.resize(out_.candidates.size());
    kernels_[0] = session_.rules;
  }

  void tell(const std::string& stage, size_t left_in_race) const {
    TuneProgress progress;
    progress.step = out_.name;
    progress.kernel = to_string(out_.rules().schedule.kernel);
    progress.stage = stage;
    progress.left = static_cast<int>(left_in_race);
    progress.seconds_left = left();
    tell_progress(session_.options, std::move(progress), out_.candidates);
  }

  void fail(size_t candidate, Fate fate, std::string why) {
    out_.candidates[candidate].fate = fate;
    out_.candidates[candidate].why = std::move(why);
    kernels_[candidate].reset();
  }

  /// On several threads, in the order of the candidates, until their share of the time is spent.
  void compile() {
    const double until = kAfterCompile * seconds_;
    std::vector<std::optional<Result<CudaKernel>>> made(kernels_.size());  // nothing: its turn never came
    std::atomic<size_t> next{1};
    const auto work = [&] {
      for (size_t i = next.fetch_add(1); i < made.size() && left() > until; i = next.fetch_add(1)) {
        auto program = with_schedule(session_.rules.program(), step_, choice_, out_.candidates[i].schedule);
        made[i] = program ? CudaKernel::load(*program, session_.rules) : program.error();
      }
    };
    std::vector<std::thread> helpers;
    const size_t threads = std::min<size_t>(made.size() - 1, std::max(1u, std::thread::hardware_concurrency()));
    for (size_t i = 1; i < threads; ++i) helpers.emplace_back(work);
    work();
    for (std::thread& helper : helpers) helper.join();
    for (size_t i = 1; i < made.size(); ++i) {
      if (!made[i])
        out_.out_of_time = true;
      else if (*made[i])
        kernels_[i] = std::move(**made[i]);
      else
        fail(i, Fate::failed, to_string(made[i]->error()));
    }
  }

  void judge() {
    for (size_t i = 1; i < kernels_.size(); ++i) {
      tell("check", kernels_.size() - i);
      if (!kernels_[i]) continue;
      if (left() < kAfterJudging * seconds_) {
        out_.out_of_time = true;
        kernels_[i].reset();  // not judged, so not timed
      } else if (std::string wrong = scene_.judge(*kernels_[i]); !wrong.empty()) {
        fail(i, Fate::wrong, std::move(wrong));
      }
    }
  }

  void race() {
    RaceField field;
    for (CudaTunedCandidate& each : out_.candidates) field.outcomes.push_back(&each);
    for (size_t i = 0; i < kernels_.size(); ++i)
      if (kernels_[i]) field.runners.push_back(i);
    field.measure = [&](size_t i) { return scene_.time(*kernels_[i], step_, session_.clock); };
    field.judge = [&](size_t i) { return scene_.judge(*kernels_[i]); };
    field.disqualify = [&](size_t i, std::string why) { fail(i, Fate::wrong, std::move(why)); };
    field.seconds_left = [&] { return left(); };
    field.seconds_after = kLastCheck * seconds_;
    field.progress = [&](const std::string& stage, size_t left_in_race) { tell(stage, left_in_race); };
    const RaceResult result = race_field(field);
    out_.chosen = result.chosen;
    out_.noise = result.noise;
    out_.out_of_time |= result.out_of_time;
  }

  const Session& session_;
  CudaTuneScene& scene_;
  const size_t step_, choice_;
  const double seconds_;
  const Step& source_;
  SearchSubject subject_;
  Stopwatch watch_;
  CudaTunedStep out_;
  std::vector<std::optional<CudaKernel>> kernels_;
};

class CudaTuner {
 public:
  CudaTuner(const Session& session, CudaTuneResult& result) : session_(session), result_(result) {}

  Result<Done> run(const DimBindings& dims) {
    std::vector<DimBindings> places = {dims};
    const auto& steps = session_.program().steps;
    for (size_t i = 0; i < steps.size() && places.size() == 1 && session_.options.twins; ++i)
      if (auto one = one_query(steps[i], dims); one && *one != dims) places.push_back(std::move(*one));
    for (size_t i = 0; i < places.size(); ++i)
      if (auto ok = tune_at(places[i], places.size() - i); !ok) return ok;
    return Done{};
  }

  std::vector<TuningEntry> take_entries() { return std::move(entries_); }

 private:
  double left() const { return session_.options.budget_seconds - watch_.milliseconds() * 1e-3; }

  /// All steps at dims; `places_left` are still to come, this one among them.
  Result<Done> tune_at(const DimBindings& dims, size_t places_left) {
    const double seconds = left() / static_cast<double>(places_left);
    auto scene = judged_scene(dims, seconds);
    if (!scene) return scene.error();
    std::vector<CudaStepRun> taken;
    if (std::string wrong = (*scene)->judge(session_.rules, &taken); !wrong.empty()) return wrong_rules(wrong);
    std::vector<std::pair<size_t, std::string>> todo;  // step, class
    for (size_t i = 0; i < taken.size(); ++i) {
      const CudaStep& step = session_.rules.program().steps[i];
      if (!step.fused) continue;
      const SearchSubject subject(session_.program().steps[i]);
      const CudaSchedule& rules = step.choices[taken[i].choice].source.launch.schedule;
      std::string shape = class_at(rules, subject.step(), dims);
      if (std::ranges::find(classes_, shape) != classes_.end()) continue;  // a layer like one before, or the same twin
      classes_.push_back(shape);
      todo.emplace_back(i, std::move(shape));
    }
    for (size_t i = 0; i < todo.size(); ++i) {
      const auto& [step, shape] = todo[i];
      const double share = std::max(
          (left() - seconds * static_cast<double>(places_left - 1)) / static_cast<double>(todo.size() - i), 1e-3);
      keep(CudaSearch(session_, **scene, step, taken[step].choice, share).run(shape));
    }
    return Done{};
  }

  std::string class_at(const CudaSchedule& rules, const ScheduledStep& step, const DimBindings& dims) const {
    const ClassTemplate kernel = class_template(rules, session_.rules.program().target);
    return shape_class(kernel, step, length_bucket(length_at(kernel, step, dims)));
  }

  Diagnostic wrong_rules(const std::string& how) const {
    return {ErrorKind::invalid, fmt::format("the kernel of the rules is wrong, so nothing is tuned: {}", how), {}, 0};
  }

  TuneData::Setup setup(const DimBindings& dims, int64_t rows) const {
    return {session_.rules.program().graph, dims, executor_, {}, rows};
  }

  /// Data at these dims, with an oracle where it can afford a few rows. Else the rules' kernel is judged at smaller
  /// dims, and at these everybody must agree with it.
  Result<std::unique_ptr<CudaTuneScene>> judged_scene(const DimBindings& dims, double seconds) {
    const auto rows = [&](const DimBindings& at) {
      return affordable_oracle_rows(session_.program(), at, std::max(kOracleShare * seconds, 0.2));
    };
    if (const int64_t affordable = rows(dims); affordable >= kFewestOracleRows)
      return CudaTuneScene::create(setup(dims, affordable), session_.device);
    DimBindings small = dims;
    while (rows(small) < kFewestOracleRows) {
      DimBindings smaller = small;
      for (auto& [name, size] : smaller)
        if (size > 1) size = (size + 1) / 2;
      if (smaller == small) break;
      small = std::move(smaller);
    }
    auto scene = CudaTuneScene::create(setup(small, std::max(rows(small), kFewestOracleRows)), session_.device);
    if (!scene) return scene.error();
    if (std::string wrong = (*scene)->judge(session_.rules); !wrong.empty()) return wrong_rules(wrong);
    result_.notes.push_back("the oracle judged the rules' kernel at smaller sizes; candidates agree with it at these");
    return CudaTuneScene::create(setup(dims, 0), session_.device);
  }

  void keep(CudaTunedStep step) {
    if (step.gflops(step.rules()) > 0) {
      TuningEntry entry{result_.device,           result_.compiler,          step.shape_class, {},
                        step.gflops(step.best()), step.gflops(step.rules()), result_.date};
      set_integers(entry, step.best().schedule);
      if (step.chosen != 0) step.candidates[step.chosen].schedule.reasons = {tuned_reason(entry)};
      entries_.push_back(std::move(entry));
    } else if (step.legal == 1) {
      result_.notes.push_back(fmt::format("%{} has one legal schedule: {}", step.name, print(step.rules().schedule)));
      return;
    }
    result_.steps.push_back(std::move(step));
  }

  const Session& session_;
  CudaTuneResult& result_;
  Stopwatch watch_;
  std::shared_ptr<Executor> executor_ =
      make_thread_pool(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  std::vector<std::string> classes_;
  std::vector<TuningEntry> entries_;
};

}  // namespace

Result<CudaTuneResult> tune_cuda(const Graph& graph, const std::shared_ptr<const CudaDevice>& device,
                                 const DimBindings& dims, const SearchOptions& options, TuningStore* store) {
  const Stopwatch watch;
  if (auto ok = check(options); !ok) return ok.error();
  const auto clock = device->make_clock();
  if (!clock) return clock.error();
  if (options.save && store)
    if (auto ok = store->check_writable(); !ok) return ok.error();
  const auto program = compile_cuda_program(graph, device->target());
  if (!program) return program.error();
  const Program& lowered = (*program)->compiled.program;
  if (std::ranges::none_of((*program)->steps, [](const CudaStep& step) { return step.fused; }))
    return Diagnostic{ErrorKind::unsupported, nothing_to_tune(lowered), {}, 0};
  if (const auto known = (*program)->compiled.signature.from_bindings(dims); !known) return known.error();
  if (std::ranges::none_of(lowered.steps, [&](const Step& step) { return guess_flops(lowered, step, dims) > 0; }))
    return invalid("{}", nothing_to_compute(lowered, dims));
  const auto rules = CudaKernel::load(*program, device);
  if (!rules) return rules.error();

  CudaTuneResult result;
  result.graph = lowered.name;
  const MeasuredWith with = device->measured_with();
  result.device = with.device;
  result.compiler = with.compiler;
  result.date = today();
  for (const FusionNote& note : lowered.not_fused)
    result.notes.push_back(fmt::format("%{} does not fuse: {}", note.value, note.reason));
  const Session session{*device, *rules, options, **clock};
  CudaTuner tuner(session, result);
  if (auto ok = tuner.run(dims); !ok) return ok.error();
  const std::vector<TuningEntry> entries = tuner.take_entries();
  if (options.save && !entries.empty()) {
    if (!store)
      result.not_saved = "tuning databases are off";
    else if (auto saved = store->add(entries))
      result.database = store->file();
    else
      result.not_saved = saved.error().list.front().message;
  }
  result.seconds = watch.milliseconds() * 1e-3;
  return result;
}

}  // namespace tilewright
