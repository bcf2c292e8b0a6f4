#include "runtime/tune_step.h"

#include <algorithm>
#include <thread>

#include "compiler/passes.h"
#include "compiler/shape_class.h"
#include "ir/interp.h"
#include "runtime/compile_jobs.h"
#include "runtime/limits.h"
#include "runtime/stopwatch.h"
#include "runtime/tune_part.h"
#include "runtime/tune_race.h"
#include "runtime/work.h"

namespace tilewright {
namespace {

constexpr double kOracleShare = 0.2, kRaceShare = 0.5;    // of the budget
constexpr double kJudgeShare = 0.05, kWholeShare = 0.35;  // runs to be judged at dims of their own; the last race
constexpr int kWholeRepeats = 5;                          // of the race on the whole shape, at most

class Search {
 public:
  explicit Search(const StepSearch& search)
      : search_(search),
        request_(search.request),
        rules_(request_.rules),
        source_(rules_->compiled->program.steps[search.step]),
        subject_(source_),
        step_(subject_.step()),
        executor_(rules_->executor),
        cost_(program(), source_, step_, rules_->stats.step_reports[search.step].schedules[search.choice],
              executor_->workers()) {}

  Result<TunedStep> run() {
    const CpuSchedule& rules = rules_->stats.step_reports[search_.step].schedules[search_.choice];
    out_.name = rules_->stats.step_reports[search_.step].name;
    out_.dims = search_.dims;
    out_.workers = executor_->workers();
    out_.shape_class =
        shape_class(class_template(rules), step_, length_bucket(length_at(class_template(rules), step_, search_.dims)));
    const int64_t shortest = shortest_in_bucket(length_bucket(length_at(class_template(rules), step_, search_.dims)));
    const RacePart part = choose_part(cost_, search_.step, search_.dims, most_candidates(rules),
                                      search_.seconds * kRaceShare, out_.workers, [&](const DimBindings& dims) {
                                        return length_at(class_template(rules), step_, dims) >= shortest &&
                                               choice_at(dims) == search_.choice;
                                      });
    out_.measured_at = part.dims;
    out_.slice = part.slice;
    candidates_ = rank_candidates(rules, step_, request_.target, out_.measured_at, out_.workers, part.candidates, out_);
    tell("compile", candidates_.size());
    compile();
    if (auto ok = measure(); !ok) return ok.error();
    finish();
    return std::move(out_);
  }

 private:
  const Program& program() const { return rules_->compiled->program; }
  double left() const { return search_.seconds - watch_.milliseconds() * 1e-3; }

  /// Nothing, where compiling took all the time.
  Result<Done> measure() {
    if (left() <= 0) {
      out_.out_of_time = true;
      return Done{};
    }
    if (auto ok = judge_all(); !ok) return ok;
    race_right_ones();
    if (!is_whole() && out_.chosen != 0)
      if (auto ok = race_on_the_whole(); !ok) return ok;
    measure_limits();
    return Done{};
  }

  void tell(const std::string& stage, size_t left_in_race) {
    TuneProgress progress;
    progress.step = out_.name;
    progress.kernel = to_string(candidates_[0].schedule.kernel);
    progress.stage = stage;
    progress.left = static_cast<int>(left_in_race);
    progress.seconds_left = left();
    tell_progress(request_.options, std::move(progress), candidates_);
  }

  /// As many as are asked for, where there are as many; time is not shared with others that do not exist.
  int most_candidates(const CpuSchedule& rules) const {
    const size_t legal = legal_schedules(schedule_space(rules, step_), step_, request_.target).size();
    return static_cast<int>(std::min(static_cast<size_t>(request_.options.candidates), std::max<size_t>(legal, 2)));
  }

  /// Whether the race runs all that was asked for.
  bool is_whole() const { return out_.measured_at == search_.dims && out_.slice.all(); }

  Result<std::unique_ptr<TuneScene>> make_scene(const DimBindings& dims, int64_t rows,
                                                const WorkSlice& slice = {}) const {
    std::vector<int64_t> borders;
    for (const TunedCandidate& each : candidates_)
      if (std::ranges::find(borders, each.schedule.block_q) == borders.end()) borders.push_back(each.schedule.block_q);
    if (rows < kMostOracleRows) borders.clear();  // too dear
    // Every L2, and L3 where that does not take longer than the runs it is meant for.
    constexpr int64_t kMost = int64_t{64} << 20;
    const CpuTarget& target = request_.target;
    const int64_t l3 = target.l3_bytes <= kMost ? target.l3_bytes : 0;
    const int64_t flush = std::min(std::max(4 * target.l2_bytes * out_.workers, l3), kMost);
    return TuneScene::create({{rules_->graph, dims, executor_, borders, rows}, request_.options.run, flush, slice});
  }

  /// A guess; the other steps of the graph run as well.
  double run_seconds(const DimBindings& dims) const { return cost_.seconds(dims) + cost_.others(dims); }

  size_t choice_at(const DimBindings& dims) const {
    const auto choices = Kernel(rules_).choices(dims);
    return choices ? (*choices)[search_.step] : SIZE_MAX;
  }

  /// Kernels of the candidates, on several threads, while there is time; the rules' own is there already.
  void compile() {
    kernels_.resize(candidates_.size());
    kernels_[0] = Kernel(rules_);
    const size_t at_once = 4 * std::max(1u, std::thread::hardware_concurrency());
    for (size_t first = 1; first < candidates_.size(); first += at_once) {
      if (left() <= 0) {
        out_.out_of_time = true;
        return;
      }
      std::vector<CompileJob> jobs;
      for (size_t i = first; i < std::min(first + at_once, candidates_.size()); ++i)
        jobs.push_back(job_for(candidates_[i].schedule));
      CompileRequest request{request_.target, {}};
      run_jobs(jobs, request);
      for (size_t i = 0; i < jobs.size(); ++i) {
        if (!jobs[i].errors.empty())
          fail(first + i, TunedCandidate::Fate::failed, to_string(jobs[i].errors));
        else
          kernels_[first + i] = kernel_with(jobs[i]);
      }
    }
  }

  CompileJob job_for(const CpuSchedule& schedule) const {
    CompileJob job;
    job.symbol_prefix = "kernel_";
    job.schedule = schedule;
    if (const auto* program = std::get_if<const TileProgram*>(&step_)) job.program = *program;
    if (const auto* backward = std::get_if<const BackwardSpec*>(&step_)) job.backward = *backward;
    if (const auto* loop = std::get_if<const LoopStep*>(&step_)) job.loop = *loop;
    return job;
  }

  /// The rules' kernel with another choice in the place of the one that is searched.
  Kernel kernel_with(const CompileJob& job) const {
    auto compiled = std::make_shared<Compiled>(*rules_->compiled);
    CompiledChoice& choice = compiled->steps[search_.step].choices[search_.choice];
    const LaunchExpr use_when = choice.use_when;
    choice = make_choice(*job.launch, Expr(), compiled->signature.dims(), job.functions);
    choice.code = job.code;
    choice.use_when = use_when;
    auto state = std::make_shared<Kernel::State>(*rules_);
    state->compiled = std::move(compiled);
    state->stats.step_reports[search_.step].schedules[search_.choice] = job.schedule;
    return Kernel(std::move(state));
  }

  void fail(size_t candidate, TunedCandidate::Fate fate, std::string why) {
    candidates_[candidate].fate = fate;
    candidates_[candidate].why = std::move(why);
    kernels_[candidate].reset();
  }

  /// Rows that the oracle can afford at these dims, at most as many as the accuracy rule takes.
  int64_t oracle_rows(const DimBindings& dims) const {
    return affordable_oracle_rows(program(), dims, std::max(search_.seconds * kOracleShare, 0.2));
  }

  /// Judged at the measured dims where all of the step runs there and the oracle can afford a few rows; else by the
  /// oracle at smaller dims, and by agreement with the rules' kernel at the measured ones.
  Result<Done> judge_all() {
    const int64_t rows = out_.slice.all() ? oracle_rows(out_.measured_at) : 0;
    auto scene = make_scene(out_.measured_at, rows >= kFewestOracleRows ? rows : 0, out_.slice);
    if (!scene) return scene.error();
    scene_ = std::move(*scene);
    if (rows < kFewestOracleRows) {
      DimBindings dims = out_.measured_at;
      std::vector<std::string> names = cost_.batches();
      for (const std::string& name : cost_.lengths()) names.push_back(name);
      const auto too_dear = [&] {
        const double runs = run_seconds(dims) * static_cast<double>(candidates_.size());
        return oracle_rows(dims) < kFewestOracleRows || runs > kJudgeShare * search_.seconds;
      };
      while (too_dear()) {
        DimBindings smaller = dims;
        for (const std::string& name : names)
          if (smaller[name] > 1) smaller[name] = (smaller[name] + 1) / 2;
        if (smaller == dims || choice_at(smaller) != search_.choice) break;
        dims = std::move(smaller);
      }
      auto small = make_scene(dims, std::max(oracle_rows(dims), kFewestOracleRows));
      if (!small) return small.error();
      if (auto ok = judge_on(**small); !ok) return ok;
    }
    return judge_on(*scene_);
  }

  Diagnostic rules_are_wrong(const std::string& how) const {
    return {ErrorKind::invalid, fmt::format("the kernel of the rules is wrong, so nothing is tuned: {}", how),
            out_.name, 0};
  }

  Result<Done> judge_on(TuneScene& scene) {
    for (size_t i = 0; i < candidates_.size(); ++i) {
      tell("check", candidates_.size() - i);
      if (!kernels_[i]) continue;
      if (i > 0 && left() <= 0) {
        out_.out_of_time = true;
        kernels_[i].reset();  // not judged, so not timed
        continue;
      }
      std::string wrong = scene.judge(*kernels_[i], candidates_[i].schedule);
      if (wrong.empty()) continue;
      if (i == 0 && std::holds_alternative<const BackwardSpec*>(step_) && rules_->stats.fused_attentions == 0)
        return Diagnostic{
            ErrorKind::unsupported,
            "a backward pass alone cannot be checked, since its row statistics are of a forward pass that "
            "is not there; tune the graph that `tilewright gradient --recompute` prints",
            out_.name, 0};
      if (i == 0) return rules_are_wrong(wrong);
      fail(i, TunedCandidate::Fate::wrong, std::move(wrong));
    }
    return Done{};
  }

  void race_right_ones() {
    RaceField field;
    for (TunedCandidate& each : candidates_) field.outcomes.push_back(&each);
    for (size_t i = 0; i < candidates_.size(); ++i)
      if (kernels_[i]) field.runners.push_back(i);
    field.measure = [&](size_t i) -> Result<WarmCold> {
      const auto seconds = scene_->time(*kernels_[i], candidates_[i].schedule, search_.step);
      if (!seconds) return invalid("it did not run");
      return *seconds;
    };
    field.judge = [&](size_t i) { return scene_->judge(*kernels_[i], candidates_[i].schedule); };
    field.disqualify = [&](size_t i, std::string why) { fail(i, TunedCandidate::Fate::wrong, std::move(why)); };
    field.seconds_left = [&] { return left(); };
    // The winner's last check and the limits come after the race, and where it runs a part, the race on the whole.
    field.seconds_after = 0.05 * search_.seconds + (is_whole() ? 0 : seconds_on_the_whole());
    field.progress = [&](const std::string& stage, size_t left_in_race) { tell(stage, left_in_race); };
    const RaceResult result = race_field(field);
    out_.chosen = result.chosen;
    out_.noise = result.noise;
    out_.out_of_time |= result.out_of_time;
  }

  /// What a race of three on all that was asked for takes, no more than its share of the budget: data, a run to be
  /// judged and two more each.
  double seconds_on_the_whole() const {
    return std::min(run_seconds(search_.dims) * 3 * (1 + 2), kWholeShare * search_.seconds);
  }

  /// Who won on a part of the shape must be faster than the rules' schedule on the whole: the winner and the next best
  /// of its last round try, in turn with the rules. Nobody does where it would take too long.
  Result<Done> race_on_the_whole() {
    tell("whole shape", 3);
    if (run_seconds(search_.dims) * 2 * (1 + 2) > std::max(left(), 0.0)) return Done{};
    const int64_t rows = oracle_rows(search_.dims);
    auto scene = make_scene(search_.dims, rows >= kFewestOracleRows ? kFewestOracleRows : 0);
    if (!scene) return Done{};  // no memory for all of it
    std::vector<size_t> runners{0, out_.chosen};
    size_t next = 0;
    for (size_t i = 1; i < candidates_.size(); ++i) {
      const TunedCandidate& each = candidates_[i];
      if (i == out_.chosen || !kernels_[i] || each.warm.size() < candidates_[out_.chosen].warm.size()) continue;
      if (each.seconds() < candidates_[0].seconds() * (1 - out_.noise) &&
          (next == 0 || each.seconds() < candidates_[next].seconds()))
        next = i;
    }
    if (next != 0) runners.push_back(next);
    for (const size_t i : runners) {
      std::string wrong = (*scene)->judge(*kernels_[i], candidates_[i].schedule);
      if (wrong.empty()) continue;
      if (i == 0) return rules_are_wrong(wrong);
      fail(i, TunedCandidate::Fate::wrong, "on the whole shape: " + wrong);
    }
    std::erase_if(runners, [&](size_t i) { return !kernels_[i]; });
    for (int repeat = 0; repeat < kWholeRepeats && (repeat == 0 || left() > 0.05 * search_.seconds); ++repeat)
      for (const size_t i : runners)
        if (const auto seconds = (*scene)->time(*kernels_[i], candidates_[i].schedule, search_.step))
          candidates_[i].whole.push_back((seconds->warm + seconds->cold) / 2);
    out_.whole_flops = count_flops(source_, search_.dims, step_tensors(program(), source_, (*scene)->inputs()));
    size_t best = 0;
    for (const size_t i : runners)
      if (!candidates_[i].whole.empty() && median(candidates_[i].whole) < median(candidates_[best].whole)) best = i;
    for (const size_t i : runners) {
      if (i == 0 || i == best) continue;
      candidates_[i].fate = TunedCandidate::Fate::dropped;
      candidates_[i].why = fmt::format("on the whole shape it takes {:.3f} times as long as the {}",
                                       median(candidates_[i].whole) / median(candidates_[best].whole),
                                       best == 0 ? "rules' schedule" : "chosen one");
    }
    candidates_[best].fate = TunedCandidate::Fate::chosen;
    out_.chosen = best;
    return Done{};
  }

  void measure_limits() {
    tell("limits", 0);
    const auto views = step_tensors(program(), source_, scene_->inputs());
    const double share = static_cast<double>(out_.slice.part) / static_cast<double>(out_.slice.whole);
    out_.flops = count_flops(source_, out_.measured_at, views) * share;
    std::vector<MemoryRange> operands;
    for (size_t i = 0; i < views.size(); ++i) {
      const auto& tensor = program().tensors[static_cast<size_t>(source_.tensors[i])];
      double bytes = static_cast<double>(size_of(tensor.type.dtype));
      for (const Dim& dim : tensor.type.shape) bytes *= static_cast<double>(dim.evaluate(out_.measured_at).value_or(0));
      out_.bytes += bytes;
      if (views[i].data) operands.push_back({views[i].data, static_cast<int64_t>(bytes)});
    }
    const bool wide = std::visit([](const auto* what) { return accumulation(*what); }, step_) == DType::f64;
    const CpuIsa isa = std::min(candidates_[0].schedule.isa, CpuIsa::avx512);
    const TimeOf clock = out_.workers == 1 ? TimeOf::thread : TimeOf::wall;
    out_.fma_peak_gflops = measure_fma_peak(isa, wide ? DType::f64 : DType::f32, *executor_, 0.1, clock);
    if (takes_tiles(candidates_[0].schedule.kernel))
      out_.amx_peak_gflops = measure_amx_peak(request_.target, *executor_, 0.1, clock);
    std::vector<double> reads;
    double bytes = 0;
    for (const MemoryRange& range : operands) bytes += static_cast<double>(range.bytes);
    for (int i = 0; i < 5 && bytes > 0; ++i) reads.push_back(time_read(operands, *executor_, clock));
    out_.bytes *= share;
    const double seconds = median(std::move(reads));
    out_.read_gbs = seconds > 0 ? bytes / seconds * 1e-9 : 0;
  }
  static DType accumulation(const TileProgram& program) { return program.spec.accumulate; }
  static DType accumulation(const BackwardSpec& spec) { return spec.accumulate; }
  static DType accumulation(const LoopStep& step) { return step.accumulate; }

  void finish() {
    if (request_.options.want_assembly) {
      std::vector<CompileJob> jobs;
      jobs.push_back(job_for(candidates_[out_.chosen].schedule));
      CompileRequest request{request_.target, {}};
      request.want_texts = true;
      request.link = false;
      run_jobs(jobs, request);
      out_.assembly = std::move(jobs[0].assembly);
    }
    // Compiled ones first, then those that the model left out.
    std::ranges::move(out_.candidates, std::back_inserter(candidates_));
    out_.candidates = std::move(candidates_);
  }

  const StepSearch& search_;
  const TuneRequest& request_;
  std::shared_ptr<const Kernel::State> rules_;
  const Step& source_;
  SearchSubject subject_;
  ScheduledStep step_;
  std::shared_ptr<Executor> executor_;
  StepCost cost_;
  Stopwatch watch_;
  std::vector<TunedCandidate> candidates_;
  std::vector<std::optional<Kernel>> kernels_;
  std::unique_ptr<TuneScene> scene_;
  TunedStep out_;
};

}  // namespace

Result<TunedStep> search_step(const StepSearch& search) { return Search(search).run(); }

}  // namespace tilewright
