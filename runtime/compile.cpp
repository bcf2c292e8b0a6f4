#include "runtime/compile.h"

#include <algorithm>
#include <map>

#include "compiler/passes.h"
#include "compiler/plan_loop.h"
#include "compiler/plan_rules.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "runtime/compile_jobs.h"
#include "runtime/host_tiles.h"
#include "runtime/kernel_entry.h"
#include "runtime/stopwatch.h"

namespace tilewright {
namespace {

/// A step with everything that was decided about it before any code is generated.
struct PlannedStep {
  const ScoreSpace* space = nullptr;       // of a fused step, forward or backward
  std::optional<TileProgram> program;      // forward
  const BackwardSpec* backward = nullptr;  // backward
  CpuPlan plan;
  std::vector<size_t> jobs;      // one per choice of the plan
  std::optional<TierStep> tier;  // instead of jobs
};

/// Values that an unfused run would write to memory; views and leaves move nothing.
std::vector<TensorSize> intermediates(const Graph& graph, const Signature& signature) {
  std::vector<TensorSize> out;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    const OpGroup group = info(node.op).group;
    const bool is_result =
        std::find(graph.results.begin(), graph.results.end(), static_cast<ValueId>(i)) != graph.results.end();
    if (group == OpGroup::leaf || group == OpGroup::view || is_result || node.type.shape.empty()) continue;
    out.push_back(tensor_size(node.type, signature.dims()));
  }
  return out;
}

int count_ops(const Graph& graph) {
  return static_cast<int>(std::count_if(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    return node.op != Op::param && node.op != Op::constant;
  }));
}

constexpr const char* kTilesRefused =
    "the operating system refuses this process tiles (ARCH_REQ_XCOMP_PERM), as where a thread has a signal stack under "
    "12 KB";

/// ".1" when there are several of a kind, "" otherwise.
std::string suffix(bool several, const std::string& what) { return several ? "." + what : ""; }

class BackEnd {
 public:
  BackEnd(const Graph& graph, FrontEnd front, const CompileRequest& request)
      : graph_(graph), front_(std::move(front)), request_(request) {}

  Result<Compilation> compile() {
    out_.compiled = std::make_shared<Compiled>(graph_);
    CompileStats& stats = compiled().stats;
    stats.stages = std::move(front_.stages);
    text("00_input.graph", [&] { return print(graph_); });
    text("01_canonical.graph", [&] { return front_.canonical_text; });

    watch_.lap(ignored_, "");
    auto program = request_.options.materialise ? lower_unfused(front_.canonical) : fuse(front_.canonical);
    if (!program) return program.error();
    compiled().program = std::move(*program);
    watch_.lap(stats.stages, "fuse");
    if (auto ok = note_fusion(); !ok) return ok.error();

    if (auto ok = plan_within_permission(); !ok) return ok.error();
    watch_.lap(stats.stages, "plan");
    if (!jobs_.empty()) run_jobs(jobs_, request_);
    if (auto ok = assemble(); !ok) return ok.error();
    stats.total_ms = watch_.milliseconds() + front_ms_;
    return std::move(out_);
  }

 private:
  Compiled& compiled() { return *out_.compiled; }
  template <class Make>
  void text(const std::string& file, const Make& make) {
    if (request_.want_texts) out_.texts.push_back({file, make()});
  }

  Result<Done> note_fusion() {
    const Program& program = compiled().program;
    CompileStats& stats = compiled().stats;
    stats.precision = graph_.precision.value_or(PrecisionPolicy::f32);
    stats.graph_ops = count_ops(graph_);
    stats.steps = static_cast<int>(program.steps.size());
    stats.not_fused = program.not_fused;
    stats.kept_rows = program.kept_rows;
    for (const Step& step : program.steps) {
      stats.fused_attentions += std::holds_alternative<AttentionStep>(step.what) ? 1 : 0;
      stats.fused_backwards += std::holds_alternative<BackwardStep>(step.what) ? 1 : 0;
    }
    if (stats.steps != stats.fused_attentions + stats.fused_backwards || stats.steps != 1)
      text("02_fused.program", [&] { return print(program); });
    if (!request_.options.require_fused) return Done{};
    Diagnostics errors = complain_unfused(program);
    if (!errors.empty()) return errors;
    return Done{};
  }

  /// Plans, and once more without tiles where a step would take them and the operating system refuses them. Nobody asks
  /// it before a kernel needs them, as the answer lasts (host_tiles.h).
  Result<Done> plan_within_permission() {
    const size_t texts = out_.texts.size();
    if (auto ok = plan_steps(); !ok) return ok;
    if (request_.target.isa != CpuIsa::amx || !request_.link || request_.ahead_of_time) return Done{};
    for (const PlannedStep& planned : planned_) {
      std::vector<CpuTemplate>& tiles = refused_tiles_.emplace_back();
      for (const CpuPlan::Choice& choice : planned.plan.choices)
        if (takes_tiles(choice.schedule.kernel)) tiles.push_back(choice.schedule.kernel);
    }
    const bool none = std::ranges::all_of(refused_tiles_, [](const auto& tiles) { return tiles.empty(); });
    if (none || request_tile_permission()) {
      refused_tiles_.clear();
      return Done{};
    }
    request_.target.isa = CpuIsa::avx512;
    planned_.clear();
    jobs_.clear();
    out_.texts.resize(texts);
    return plan_steps();
  }

  Result<Done> plan_steps() {
    const auto& steps = compiled().program.steps;
    planned_.resize(steps.size());
    const bool several = compiled().stats.fused_attentions + compiled().stats.fused_backwards > 1;
    const bool several_schedules = std::count_if(steps.begin(), steps.end(), has_choices) > 1;
    const PlanOptions options{request_.options.force_generic, compiled().stats.fused_backwards > 0};
    std::vector<const CpuPlan*> backward_plans;
    for (size_t i = 0; i < steps.size(); ++i)
      if (const auto* backward = std::get_if<BackwardStep>(&steps[i].what)) {
        planned_[i].plan = plan_backward(backward->spec, request_.target, options);
        backward_plans.push_back(&planned_[i].plan);
      }
    for (size_t i = 0; i < steps.size(); ++i) {
      PlannedStep& planned = planned_[i];
      const std::string number = suffix(several, std::to_string(i));
      if (const auto* attention = std::get_if<AttentionStep>(&steps[i].what)) {
        planned.space = &attention->spec;
        planned.program = build_tile_program(attention->spec);
        planned.plan = plan_cpu(*planned.program, request_.target, options);
        if (!options.force_generic) follow_backward(planned.plan, *planned.program, request_.target, backward_plans);
        tune(planned.plan, &*planned.program);
        if (auto ok = override_tiles(planned.plan, *planned.program, request_.target, request_.options.tiles); !ok)
          return ok;
        text("02_fused" + number + ".attention", [&] { return print(attention->spec); });
        text("03_tile" + number + ".tile", [&] { return print(*planned.program); });
      } else if (const auto* backward = std::get_if<BackwardStep>(&steps[i].what)) {
        planned.space = planned.backward = &backward->spec;
        tune(planned.plan, &backward->spec);
        if (auto ok = override_tiles(planned.plan, backward->spec, request_.target, request_.options.tiles); !ok)
          return ok;
        text("02_fused" + number + ".backward", [&] { return print(backward->spec); });
      } else {
        const auto& loop = std::get<LoopStep>(steps[i].what);
        planned.plan = plan_loop(loop, request_.target);
        if (!has_choices(steps[i])) continue;
        tune(planned.plan, &loop);
      }
      if (!refused_tiles_.empty())
        for (const CpuTemplate tiles : refused_tiles_[i]) planned.plan.refused.push_back({tiles, kTilesRefused});
      if (request_.ahead_of_time) continue;
      text("04_schedule" + suffix(several_schedules, std::to_string(i)) + ".txt",
           [&] { return describe(planned.plan, tensors_of(steps[i])); });
    }
    if (request_.ahead_of_time) return take_tier();
    std::map<std::string, size_t> jobs_by_key;  // layers repeat their steps
    for (size_t i = 0; i < steps.size(); ++i) {
      PlannedStep& planned = planned_[i];
      for (const CpuPlan::Choice& choice : planned.plan.choices) {
        CompileJob job;
        job.step = i;
        job.symbol_prefix = "kernel_";
        job.schedule = choice.schedule;
        job.program = planned.program ? &*planned.program : nullptr;
        job.backward = planned.backward;
        if (!planned.space) job.loop = &std::get<LoopStep>(steps[i].what);
        if (steps.size() > 1) job.key = kernel_key(job, request_.target);
        const auto [found, is_new] = jobs_by_key.emplace(job.key, jobs_.size());
        const bool shared = !is_new && !job.key.empty();
        planned.jobs.push_back(shared ? found->second : jobs_.size());
        if (!shared) jobs_.push_back(std::move(job));
      }
    }
    return Done{};
  }

  /// Tile sizes that the caller wants go before measured ones.
  void tune(CpuPlan& plan, const ScheduledStep& step) const {
    const CompileOptions& options = request_.options;
    if (request_.tuning && !request_.ahead_of_time && options.tiles.empty() && !options.force_generic &&
        !options.materialise)
      request_.tuning->apply(plan, step, request_.target);
  }

  /// The plan has been made nevertheless: it checks the caller's tile sizes.
  Result<Done> take_tier() {
    const auto& steps = compiled().program.steps;
    for (size_t i = 0; i < steps.size(); ++i) {
      auto step = make_tier_step(steps[i], request_.target);
      if (!step) return step.error();
      CpuPlan::Choice choice{step->launch.schedule, {}};
      choice.use_when.set_root(choice.use_when.constant_int(1, DType::boolean));
      planned_[i].plan = {{std::move(choice)}, {}};
      planned_[i].tier = std::move(*step);
      text("04_schedule" + suffix(steps.size() > 1, std::to_string(i)) + ".txt",
           [&] { return describe(planned_[i].plan, tensors_of(steps[i])); });
    }
    compiled().stats.tier = ExecutionTier::ahead_of_time;
    return Done{};
  }

  static const std::vector<SpecTensor>& tensors_of(const Step& step) {
    if (const auto* attention = std::get_if<AttentionStep>(&step.what)) return attention->spec.tensors;
    if (const auto* backward = std::get_if<BackwardStep>(&step.what)) return backward->spec.tensors;
    return std::get<LoopStep>(step.what).tensors;
  }

  /// Attention and contractions; plain loops have nothing to choose.
  static bool has_choices(const Step& step) {
    const auto* loop = std::get_if<LoopStep>(&step.what);
    return !loop || loop->kind == LoopKind::contract;
  }

  static std::string describe(const CpuPlan& plan, const std::vector<SpecTensor>& tensors) {
    std::string out;
    for (const CpuPlan::Choice& choice : plan.choices) {
      out += fmt::format("{}\n  runs when {}\n", print(choice.schedule), condition(choice.use_when, tensors));
      if (!choice.schedule.arithmetic.empty()) out += fmt::format("  computes {}\n", choice.schedule.arithmetic);
      for (const std::string& reason : choice.schedule.reasons) out += fmt::format("  because {}\n", reason);
    }
    for (const CpuPlan::Refusal& refusal : plan.refused)
      out += fmt::format("{} refused: {}\n", to_string(refusal.kernel), refusal.reason);
    return out;
  }

  static std::string condition(const Expr& expr, const std::vector<SpecTensor>& tensors) {
    if (expr.is_constant_true()) return "always";
    return infix(expr, expr.root()).value_or(print(expr, tensors));
  }

  /// "Sq <= 16 and Sk > 512"; nothing where there is more in it than comparisons of dims.
  static std::optional<std::string> infix(const Expr& expr, ExprId id) {
    const ExprNode& node = expr[id];
    if (node.kind == ExprKind::dim) return to_string(node.dim);
    if (node.kind == ExprKind::constant && is_integer(node.dtype)) return fmt::format("{}", node.literal.integer);
    if (node.kind != ExprKind::op || node.args.size() != 2) return {};
    const char* const sign = node.op == Op::le            ? "<="
                             : node.op == Op::lt          ? "<"
                             : node.op == Op::ge          ? ">="
                             : node.op == Op::gt          ? ">"
                             : node.op == Op::logical_and ? "and"
                                                          : nullptr;
    const auto left = infix(expr, node.args[0]), right = infix(expr, node.args[1]);
    if (!sign || !left || !right) return {};
    return fmt::format("{} {} {}", *left, sign, *right);
  }

  Result<Done> assemble() {
    const auto& names = compiled().signature.dims();
    for (const ProgramTensor& tensor : compiled().program.tensors)
      compiled().tensors.push_back(tensor_size(tensor.type, names));
    compiled().intermediates = intermediates(graph_, compiled().signature);
    const auto& steps = compiled().program.steps;
    for (size_t i = 0; i < steps.size(); ++i) {
      CompiledStep step = bind_step(steps[i], names);
      const ScoreSpace* space = planned_[i].space;
      StepReport report;
      report.fused = space != nullptr;
      report.name = space ? space->name : std::get<LoopStep>(steps[i].what).name;
      report.refused = planned_[i].plan.refused;
      for (size_t choice = 0; choice < planned_[i].jobs.size(); ++choice)
        if (auto ok = take_job(i, choice, step, report); !ok) return ok;
      if (const auto& tier = planned_[i].tier) take_choice(i, 0, tier->launch, {}, tier->kernel, step, report);
      compiled().steps.push_back(std::move(step));
      compiled().stats.step_reports.push_back(std::move(report));
    }
    return Done{};
  }

  Result<Done> take_job(size_t index, size_t choice_index, CompiledStep& step, StepReport& report) {
    CompileJob& job = jobs_[planned_[index].jobs[choice_index]];
    if (!job.errors.empty()) return job.errors;
    take_choice(index, choice_index, *job.launch, job.functions, nullptr, step, report);
    step.choices.back().code = job.code;
    if (job.step != index) {
      report.same_as = compiled().stats.step_reports[job.step].name;
      return Done{};
    }
    compiled().stats.kernels_from_disk += job.from_disk ? 1 : 0;
    report.code_bytes += job.code_bytes;
    report.ir_instructions += job.ir_instructions;
    for (const StageTime& stage : job.stages) Stopwatch::add(compiled().stats.stages, stage.stage, stage.milliseconds);
    if (request_.want_texts) add_texts(job, choice_index);
    return Done{};
  }

  /// As make_choice, and into the report.
  void take_choice(size_t index, size_t number, const LaunchInfo& launch, const std::vector<KernelFunction>& functions,
                   std::shared_ptr<const TierKernel> tier, CompiledStep& step, StepReport& report) {
    const CpuPlan::Choice& plan = planned_[index].plan.choices[number];
    step.choices.push_back(make_choice(launch, plan.use_when, compiled().signature.dims(), functions, std::move(tier)));
    report.schedules.push_back(plan.schedule);
    report.use_when.push_back(condition(plan.use_when, tensors_of(compiled().program.steps[index])));
    report.scratch_bytes = std::max(report.scratch_bytes, launch.scratch_bytes);
  }

  void add_texts(CompileJob& job, size_t choice_index) {
    const bool several_choices = planned_[job.step].jobs.size() > 1;
    // Buckets of lengths may have a kernel each of one template.
    const auto& choices = planned_[job.step].plan.choices;
    const auto same = std::count_if(choices.begin(), choices.end(), [&](const CpuPlan::Choice& choice) {
      return choice.schedule.kernel == job.schedule.kernel;
    });
    const std::string number = suffix(planned_.size() > 1, std::to_string(job.step)) +
                               suffix(several_choices, std::string(to_string(job.schedule.kernel))) +
                               suffix(same > 1, std::to_string(choice_index));
    out_.texts.push_back({"05_emit" + number + ".ll", std::move(job.emitted_ir)});
    out_.texts.push_back({"06_opt" + number + ".ll", std::move(job.final_ir)});
    out_.texts.push_back({"07_machine" + number + ".s", std::move(job.assembly)});
  }

  const Graph& graph_;
  FrontEnd front_;
  CompileRequest request_;
  double front_ms_ = sum(front_.stages);
  Stopwatch watch_;
  std::vector<StageTime> ignored_;
  Compilation out_;
  std::vector<PlannedStep> planned_;
  std::vector<CompileJob> jobs_;
  std::vector<std::vector<CpuTemplate>> refused_tiles_;  ///< by step, once they are; else empty

  static double sum(const std::vector<StageTime>& stages) {
    double total = 0;
    for (const StageTime& stage : stages) total += stage.milliseconds;
    return total;
  }
};

}  // namespace

Diagnostics complain_unfused(const Program& program) {
  Diagnostics errors;
  for (const FusionNote& note : program.not_fused)
    errors.add({ErrorKind::unsupported, "does not fuse: " + note.reason, note.value, note.line});
  if (errors.empty())
    for (const Step& step : program.steps)
      if (const auto* loop = std::get_if<LoopStep>(&step.what))
        errors.add({ErrorKind::unsupported, "runs as a step of its own, outside any attention", loop->name, 0});
  return errors;
}

Result<FrontEnd> compile_front(const Graph& graph) {
  FrontEnd front;
  Stopwatch watch;
  if (Diagnostics errors = verify(graph); !errors.empty()) return errors;
  watch.lap(front.stages, "verify");
  auto canonical = canonicalize(graph);
  if (!canonical) return canonical.error();
  front.canonical = std::move(*canonical);
  watch.lap(front.stages, "canonicalize");
  front.canonical_text = print(front.canonical);
  watch.lap(front.stages, "key");
  return front;
}

Result<Compilation> compile_back(const Graph& graph, FrontEnd front, const CompileRequest& request) {
  return BackEnd(graph, std::move(front), request).compile();
}

Result<Compilation> compile_ahead_of_time(const Graph& graph, FrontEnd front, CompileRequest request) {
  request.ahead_of_time = true;
  auto fused = compile_back(graph, front, request);
  if (fused || request.options.materialise || request.options.require_fused) return fused;
  request.options.materialise = true;
  auto unfused = compile_back(graph, std::move(front), request);
  return unfused ? std::move(unfused) : std::move(fused);
}

}  // namespace tilewright
