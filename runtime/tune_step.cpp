#include "runtime/tune_step.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "compiler/passes.h"
#include "compiler/shape_class.h"
#include "ir/interp.h"
#include "runtime/compile_jobs.h"
#include "runtime/limits.h"
#include "runtime/stopwatch.h"
#include "runtime/successive_halving.h"
#include "runtime/work.h"

namespace tilewright {
namespace {

constexpr double kOracleShare = 0.2, kRaceShare = 0.55;  // of the budget
constexpr double kOracleSeconds = 3e-9;                  // for one product, both precisions together, on a slow machine
constexpr int64_t kMostRows = 256, kFewestRows = 16;     // of a sample; the accuracy rule's own count is 256

/// Names of dims in a list of them.
void add_names(const Dim& dim, std::vector<std::string>& names) {
  for (const auto& [name, coefficient] : dim.terms())
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
}

class Search {
 public:
  explicit Search(const StepSearch& search)
      : search_(search),
        request_(search.request),
        rules_(request_.rules),
        source_(rules_->compiled->program.steps[search.step]),
        subject_(source_),
        step_(subject_.step()),
        executor_(rules_->executor) {}

  Result<TunedStep> run() {
    const CpuSchedule& rules = rules_->stats.step_reports[search_.step].schedules[search_.choice];
    out_.name = rules_->stats.step_reports[search_.step].name;
    out_.dims = search_.dims;
    out_.workers = executor_->workers();
    out_.shape_class = shape_class(rules, step_, length_bucket(length_at(rules, step_, search_.dims)));
    if (auto ok = choose_dims(rules); !ok) return ok.error();
    candidates_ = rank_candidates(rules, step_, request_.target, out_.measured_at, out_.workers,
                                  std::min(request_.options.candidates, most_candidates_), out_);
    tell("compile", candidates_.size());
    compile();
    if (auto ok = judge_all(); !ok) return ok.error();
    race_right_ones();
    measure_limits();
    finish();
    return std::move(out_);
  }

 private:
  const Program& program() const { return rules_->compiled->program; }
  double left() const { return search_.seconds - watch_.milliseconds() * 1e-3; }

  void tell(const std::string& stage, size_t left_in_race) {
    if (!request_.options.progress) return;
    TuneProgress progress{out_.name,
                          stage,
                          static_cast<int>(candidates_.size()),
                          static_cast<int>(left_in_race),
                          0,
                          0,
                          std::max(left(), 0.0)};
    for (const TunedCandidate& candidate : candidates_) {
      const double seconds = candidate.seconds();
      if (seconds > 0 && (progress.best_seconds == 0 || seconds < progress.best_seconds))
        progress.best_seconds = seconds;
    }
    if (!candidates_.empty()) progress.rules_seconds = candidates_[0].seconds();
    request_.options.progress(progress);
  }

  /// Dims whose names decide how long a run takes, and may shrink within the class: batches, then lengths.
  void collect_names(std::vector<std::string>& batch, std::vector<std::string>& lengths) const {
    if (const auto* loop = std::get_if<const LoopStep*>(&step_)) {
      for (const Dim& dim : (*loop)->extents) add_names(dim, lengths);
      return;
    }
    const ScoreSpace& space = std::holds_alternative<const TileProgram*>(step_)
                                  ? static_cast<const ScoreSpace&>(std::get<const TileProgram*>(step_)->spec)
                                  : *std::get<const BackwardSpec*>(step_);
    add_names(space.q_len, lengths);
    add_names(space.kv_len, lengths);
    for (const Dim& dim : space.batch) add_names(dim, batch);
  }

  Result<std::unique_ptr<TuneScene>> make_scene(const DimBindings& dims, int64_t rows) const {
    std::vector<int64_t> borders;
    for (const TunedCandidate& each : candidates_)
      if (std::ranges::find(borders, each.schedule.block_q) == borders.end()) borders.push_back(each.schedule.block_q);
    if (rows < kMostRows) borders.clear();  // too dear
    // Every L2, and L3 where that does not take longer than the runs it is meant for.
    constexpr int64_t kMost = int64_t{64} << 20;
    const CpuTarget& target = request_.target;
    const int64_t l3 = target.l3_bytes <= kMost ? target.l3_bytes : 0;
    const int64_t flush = std::min(std::max(4 * target.l2_bytes * out_.workers, l3), kMost);
    return TuneScene::create({rules_->graph, dims, executor_, request_.options.run, flush, borders, rows});
  }

  /// Where a race of all candidates would not fit into the budget, smaller dims of the same class stand for the ones
  /// asked for; where even those run too long, fewer candidates do.
  Result<Done> choose_dims(const CpuSchedule& rules) {
    out_.measured_at = search_.dims;
    std::vector<std::string> batch, lengths;
    collect_names(batch, lengths);
    const int wanted = request_.options.candidates;
    // A first guess without running anything: six tenths of two FMAs a cycle at 2.5 GHz.
    const double rate = 0.6 * static_cast<double>(4 * rules.lanes) * 2.5e9 * out_.workers;
    const auto guess = [&](const DimBindings& dims) { return guess_flops(program(), source_, dims) / rate + 1e-5; };
    // One warm and one cold run per candidate and repeat, one to judge it.
    const auto needed = [&](const DimBindings& dims) { return guess(dims) * (1 + 2 * 4) * wanted; };
    const double budget = search_.seconds * kRaceShare;
    DimBindings& dims = out_.measured_at;
    const int64_t floor = shortest_in_bucket(length_bucket(length_at(rules, step_, dims)));
    const auto in_class = [&](const DimBindings& smaller) {
      return length_at(rules, step_, smaller) >= floor && choice_at(smaller) == search_.choice;
    };
    for (bool shrunk = true; shrunk && needed(dims) > budget;) {
      shrunk = false;
      for (const auto* names : {&batch, &lengths}) {
        DimBindings smaller = dims;
        for (const std::string& name : *names)
          if (smaller[name] > (names == &batch ? 1 : 128)) smaller[name] = std::max<int64_t>(1, smaller[name] * 7 / 8);
        if (smaller == dims || !in_class(smaller)) continue;
        dims = std::move(smaller);
        shrunk = true;
        break;
      }
    }
    most_candidates_ = static_cast<int>(std::clamp(wanted * budget / needed(dims), 2.0, 1e6));
    return Done{};
  }

  size_t choice_at(const DimBindings& dims) const {
    const auto choices = Kernel(rules_).choices(dims);
    return choices ? (*choices)[search_.step] : SIZE_MAX;
  }

  /// Kernels of all candidates, on several threads; the rules' own is there already.
  void compile() {
    kernels_.resize(candidates_.size());
    kernels_[0] = Kernel(rules_);
    std::vector<CompileJob> jobs;
    for (size_t i = 1; i < candidates_.size(); ++i) jobs.push_back(job_for(candidates_[i].schedule));
    CompileRequest request{request_.target, {}};
    run_jobs(jobs, request);
    for (size_t i = 1; i < candidates_.size(); ++i) {
      CompileJob& job = jobs[i - 1];
      if (!job.errors.empty())
        fail(i, TunedCandidate::Fate::failed, to_string(job.errors));
      else
        kernels_[i] = kernel_with(job);
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

  /// Products that the oracle forms for each row that it computes, and those of every contraction, which it forms
  /// whole.
  std::pair<double, double> oracle_products(const DimBindings& dims) const {
    double per_row = 0, whole = 0;
    for (const Step& step : program().steps) {
      const auto* attention = std::get_if<AttentionStep>(&step.what);
      const auto* backward = std::get_if<BackwardStep>(&step.what);
      const auto* loop = std::get_if<LoopStep>(&step.what);
      if (attention) {
        double columns = static_cast<double>(attention->spec.value_dim);
        for (const DotTerm& dot : attention->spec.dots) columns += static_cast<double>(dot.head_dim);
        per_row += columns * static_cast<double>(attention->spec.kv_len.evaluate(dims).value_or(1));
      } else if (backward || (loop && loop->kind == LoopKind::contract)) {
        whole += guess_flops(program(), step, dims);
      }
    }
    return {per_row, whole};
  }

  /// Judged at the measured dims where the oracle can afford a few rows there; else by the oracle at smaller dims, and
  /// by agreement with the rules' kernel at the measured ones.
  Result<Done> judge_all() {
    const double budget = std::max(search_.seconds * kOracleShare, 0.2) / kOracleSeconds;
    const auto rows_at = [&](const DimBindings& dims) {
      const auto [per_row, whole] = oracle_products(dims);
      return whole > budget ? 0 : static_cast<int64_t>((budget - whole) / std::max(per_row, 1.0));
    };
    const int64_t rows = std::min(rows_at(out_.measured_at), kMostRows);
    auto scene = make_scene(out_.measured_at, rows >= kFewestRows ? rows : 0);
    if (!scene) return scene.error();
    scene_ = std::move(*scene);
    if (rows < kFewestRows) {
      DimBindings dims = out_.measured_at;
      std::vector<std::string> batch, lengths;
      collect_names(batch, lengths);
      for (const std::string& name : lengths) batch.push_back(name);
      while (rows_at(dims) < kFewestRows) {
        DimBindings smaller = dims;
        for (const std::string& name : batch)
          if (smaller[name] > 1) smaller[name] = (smaller[name] + 1) / 2;
        if (smaller == dims || choice_at(smaller) != search_.choice) break;
        dims = std::move(smaller);
      }
      auto small = make_scene(dims, std::clamp(rows_at(dims), kFewestRows, kMostRows));
      if (!small) return small.error();
      if (auto ok = judge_on(**small); !ok) return ok;
    }
    return judge_on(*scene_);
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
      if (i == 0)
        return Diagnostic{ErrorKind::invalid,
                          fmt::format("the kernel of the rules is wrong, so nothing is tuned: {}", wrong), out_.name,
                          0};
      fail(i, TunedCandidate::Fate::wrong, std::move(wrong));
    }
    return Done{};
  }

  void race_right_ones() {
    std::vector<size_t> runners;
    for (size_t i = 0; i < candidates_.size(); ++i)
      if (kernels_[i]) runners.push_back(i);
    // How long a repeat takes, to fit the rounds into what is left.
    double one = 1e-3;
    HalvingOptions options;
    // The winner's last check and the limits come after the race.
    options.seconds_left = [&] { return left() - 0.05 * search_.seconds; };
    const Stopwatch watch;
    if (measure(0)) one = watch.milliseconds() * 1e-3;
    candidates_[0].warm.clear();
    candidates_[0].cold.clear();
    const double repeats = left() / (one * 5 * static_cast<double>(runners.size()));
    options.first_repeats = static_cast<int>(std::clamp(repeats, 1.0, 5.0));
    options.final_repeats = std::clamp(static_cast<int>(repeats * 8), 5, 40);
    options.progress = [&](int round, size_t left_in_race) { tell(fmt::format("round {}", round), left_in_race); };
    const auto run = [&](size_t i) { return measure(runners[i]); };
    while (runners.size() > 1) {
      const HalvingResult result = race(runners.size(), run, options);
      out_.noise = result.noise;
      out_.out_of_time |= result.out_of_time;
      for (const size_t i : runners)
        if (candidates_[i].fate == TunedCandidate::Fate::pruned) candidates_[i].fate = TunedCandidate::Fate::dropped;
      const size_t winner = runners[result.winner];
      candidates_[winner].fate = TunedCandidate::Fate::chosen;
      out_.chosen = winner;
      if (winner == 0) {
        mark_ties();
        return;
      }
      // Timed runs are checked as well: whoever was right once only is out, and the others race again.
      std::string wrong = scene_->judge(*kernels_[winner], candidates_[winner].schedule);
      if (wrong.empty()) return;
      fail(winner, TunedCandidate::Fate::wrong, "after it was timed: " + wrong);
      std::erase(runners, winner);
      for (const size_t i : runners) {
        candidates_[i].warm.clear();
        candidates_[i].cold.clear();
      }
    }
    candidates_[0].fate = TunedCandidate::Fate::chosen;
    out_.chosen = 0;
  }

  void mark_ties() {
    const double base = candidates_[0].seconds();
    for (TunedCandidate& each : candidates_)
      if (each.fate == TunedCandidate::Fate::dropped && each.seconds() > 0 &&
          std::fabs(each.seconds() / base - 1) <= out_.noise)
        each.fate = TunedCandidate::Fate::tied;
  }

  std::optional<WarmCold> measure(size_t candidate) {
    const auto seconds = scene_->time(*kernels_[candidate], candidates_[candidate].schedule, search_.step);
    if (!seconds) {
      candidates_[candidate].fate = TunedCandidate::Fate::failed;
      candidates_[candidate].why = "it did not run";
      return {};
    }
    candidates_[candidate].warm.push_back(seconds->warm);
    candidates_[candidate].cold.push_back(seconds->cold);
    return WarmCold{seconds->warm, seconds->cold};
  }

  void measure_limits() {
    tell("limits", 0);
    const auto views = step_tensors(program(), source_, scene_->inputs());
    out_.flops = count_flops(source_, out_.measured_at, views);
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
    std::vector<double> reads;
    double bytes = 0;
    for (const MemoryRange& range : operands) bytes += static_cast<double>(range.bytes);
    for (int i = 0; i < 5 && bytes > 0; ++i) reads.push_back(time_read(operands, *executor_, clock));
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
  Stopwatch watch_;
  int most_candidates_ = 0;
  std::vector<TunedCandidate> candidates_;
  std::vector<std::optional<Kernel>> kernels_;
  std::unique_ptr<TuneScene> scene_;
  TunedStep out_;
};

}  // namespace

Result<TunedStep> search_step(const StepSearch& search) { return Search(search).run(); }

}  // namespace tilewright
