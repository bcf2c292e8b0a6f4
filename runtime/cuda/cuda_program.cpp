#include "runtime/cuda/cuda_program.h"

#include "compiler/passes.h"
#include "ir/text.h"
#include "runtime/stopwatch.h"

namespace tilewright {
namespace {

/// A step with what plans and texts need of it.
struct StepView {
  const TileProgram* attention = nullptr;
  const BackwardSpec* backward = nullptr;
  const LoopStep* loop = nullptr;

  const ScoreSpace* space() const { return attention ? &attention->spec : static_cast<const ScoreSpace*>(backward); }
  const std::string& name() const { return loop ? loop->name : space()->name; }
  const std::vector<SpecTensor>& tensors() const { return loop ? loop->tensors : space()->tensors; }
  ScheduledStep scheduled() const {
    if (attention) return attention;
    if (backward) return backward;
    return loop;
  }
  CudaPlan plan(const CudaTarget& target, const CudaPlanOptions& options) const {
    if (attention) return plan_cuda(*attention, target, options);
    if (backward) return plan_cuda(*backward, target, options);
    return plan_cuda(*loop, target, options);
  }
  Result<CudaSource> generate(const CudaSchedule& schedule, const CudaTarget& target) const {
    constexpr const char* kPrefix = "kernel";
    if (attention) return generate_cuda(*attention, schedule, target, kPrefix);
    if (backward) return generate_cuda(*backward, schedule, target, kPrefix);
    return generate_cuda(*loop, schedule, target, kPrefix);
  }
};

std::string describe(const CudaStep& step) {
  std::string out;
  for (const CudaChoice& choice : step.choices) {
    const CudaSchedule& schedule = choice.source.launch.schedule;
    out += fmt::format("{}\n  runs when {}\n", print(schedule), choice.condition);
    for (const std::string& reason : schedule.reasons) out += fmt::format("  because {}\n", reason);
  }
  for (const CudaPlan::Refusal& refusal : step.refused)
    out += fmt::format("{} refused: {}\n", to_string(refusal.kernel), refusal.reason);
  return out;
}

/// What a step's memory plan must make room for, whichever choice the layouts lead to.
Expr largest_workspace(const std::vector<CudaChoice>& choices) {
  Expr largest;
  ExprId root = largest.constant_int(0, DType::i64);
  for (const CudaChoice& choice : choices)
    if (const Expr& bytes = choice.source.launch.workspace_bytes; !bytes.empty())
      root = largest.op(Op::max, DType::i64, {root, largest.import(bytes)});
  largest.set_root(root);
  return largest;
}

Diagnostic nothing_takes(const StepView& step, const CudaPlan& plan, const CudaTarget& target) {
  std::string reasons;
  for (const CudaPlan::Refusal& refusal : plan.refused)
    reasons += fmt::format("; {}: {}", to_string(refusal.kernel), refusal.reason);
  return {ErrorKind::unsupported,
          fmt::format("no GPU template takes this step on {}{}", target.architecture(), reasons), step.name(), 0};
}

/// ".1" when there are several of a kind, "" otherwise.
std::string file_suffix(bool several, const std::string& what) { return several ? "." + what : ""; }

/// Kernels know tensors by number, so that steps that differ in names alone are one kernel, and no text of a user's
/// reaches a compiler.
std::vector<SpecTensor> numbered(std::vector<SpecTensor> tensors) {
  for (size_t i = 0; i < tensors.size(); ++i) tensors[i].name = fmt::format("t{}", i);
  return tensors;
}

/// What dumps say before the text.
std::string legend(const std::vector<SpecTensor>& tensors) {
  std::string text;
  for (size_t i = 0; i < tensors.size(); ++i)
    text += fmt::format("// t{} is %{}: {}\n", i, tensors[i].name, to_string(tensors[i].type));
  return text;
}

void add_texts(const StepView& view, const CudaStep& step, const std::string& number, std::vector<StageText>& texts) {
  if (view.attention) {
    texts.push_back({"02_fused" + number + ".attention", print(view.attention->spec)});
    texts.push_back({"03_tile" + number + ".tile", print(*view.attention)});
  } else if (view.backward) {
    texts.push_back({"02_fused" + number + ".backward", print(*view.backward)});
  }
  texts.push_back({"04_schedule" + number + ".txt", describe(step)});
  for (size_t i = 0; i < step.choices.size(); ++i) {
    const std::string name = choice_name(step, i);
    texts.push_back({"05_emit" + number + file_suffix(!name.empty(), name) + ".cu",
                     legend(view.tensors()) + nvrtc_text(step.choices[i].source)});
  }
}

/// A schedule's kernels in the place of those that the choice has.
Result<Done> set_schedule(CudaChoice& choice, const StepView& unnamed, const CudaSchedule& schedule,
                          const CudaTarget& target, std::span<const std::string> names) {
  auto source = unnamed.generate(schedule, target);
  if (!source) return source.error();
  choice.blocks.clear();
  choice.workspace_tensors.clear();
  for (const CudaPhase& phase : source->launch.phases) choice.blocks.emplace_back(phase.blocks, names);
  for (const WorkspaceTensor& tensor : source->launch.workspace_tensors)
    choice.workspace_tensors.push_back({tensor.name, tensor.type.dtype, tensor_size(tensor.type, names).shape,
                                        LaunchExpr(tensor.offset_bytes, names)});
  choice.source = std::move(*source);
  return Done{};
}

/// `view` has the user's names, `unnamed` is the same step without.
Result<CudaStep> make_step(const StepView& view, const StepView& unnamed, const CudaTarget& target,
                           const CudaProgramOptions& options, std::span<const std::string> names) {
  CudaStep step;
  step.name = view.name();
  step.fused = view.loop == nullptr;
  for (const SpecTensor& tensor : view.tensors()) step.tensors.push_back(tensor.name);
  CudaPlan plan = view.plan(target, options.plan);
  if (plan.choices.empty()) return nothing_takes(view, plan, target);
  if (options.tuning.store && !options.plan.force_generic)
    options.tuning.store->apply(plan, view.scheduled(), target, options.tuning.with);
  for (CudaPlan::Choice& planned : plan.choices) {
    CudaChoice choice;
    choice.use_when = LaunchExpr(planned.use_when, names);
    choice.condition = planned.use_when.is_constant_true() ? "always" : print(planned.use_when, view.tensors());
    if (auto ok = set_schedule(choice, unnamed, planned.schedule, target, names); !ok) return ok.error();
    step.choices.push_back(std::move(choice));
  }
  step.refused = std::move(plan.refused);
  if (const ScoreSpace* space = view.space())
    for (const auto* sizes : {&space->batch, &space->heads})
      for (const Dim& dim : *sizes) step.head_count.emplace_back(dim, names);
  return step;
}

/// A step as the user wrote it, and without names; keeps what the two refer to.
class NamedStep {
 public:
  explicit NamedStep(const Step& step) : copy_(step) {
    if (auto* attention = std::get_if<AttentionStep>(&copy_.what)) {
      view.attention = &tiles_.emplace(build_tile_program(attention->spec));
      unnamed_tiles_ = tiles_;
      unnamed_tiles_->spec.name = "attention";
      unnamed_tiles_->spec.tensors = numbered(attention->spec.tensors);
      unnamed.attention = &*unnamed_tiles_;
    } else if (auto* backward = std::get_if<BackwardStep>(&copy_.what)) {
      view.backward = &std::get<BackwardStep>(step.what).spec;
      backward->spec.name = "backward";
      backward->spec.tensors = numbered(backward->spec.tensors);
      unnamed.backward = &backward->spec;
    } else {
      auto& loop = std::get<LoopStep>(copy_.what);
      view.loop = &std::get<LoopStep>(step.what);
      loop.name = "loop";
      loop.tensors = numbered(loop.tensors);
      unnamed.loop = &loop;
    }
  }
  NamedStep(const NamedStep&) = delete;
  NamedStep& operator=(const NamedStep&) = delete;
  StepView view, unnamed;

 private:
  Step copy_;
  std::optional<TileProgram> tiles_, unnamed_tiles_;
};

CompiledStep bind_cuda_step(const Step& step, const CudaStep& made, std::span<const std::string> names) {
  CompiledStep bound = bind_step(step, names);
  LaunchInfo sizes;
  sizes.workspace_bytes = largest_workspace(made.choices);
  bound.choices.push_back(make_choice(sizes, {}, names, {}));
  return bound;
}

/// What puts a staged result where the caller wants it: the step of a graph that returns its parameter.
Result<CudaCopy> make_copy(const TensorType& type, const CudaTarget& target, std::span<const std::string> names) {
  const auto graph = parse_graph(fmt::format("graph @copy(%x: {0}) -> {0} {{\n  return %x\n}}\n", to_string(type)));
  TW_CHECK(graph && "a copy of a tensor is a graph");
  const auto program = fuse(*graph);
  TW_CHECK(program && program->steps.size() == 1);
  auto loop = std::get<LoopStep>(program->steps[0].what);
  loop.tensors = numbered(loop.tensors);
  StepView view;
  view.loop = &loop;
  auto step = make_step(view, view, target, {}, names);
  if (!step) return step.error();
  CompiledStep bound = bind_cuda_step(program->steps[0], *step, names);
  return CudaCopy{std::move(*step), std::move(bound)};
}

}  // namespace

TensorView WorkspaceView::at(void* workspace, std::span<const int64_t> dims) const {
  TensorView view;
  view.data = static_cast<std::byte*>(workspace) + offset_bytes.evaluate(dims);
  view.dtype = dtype;
  view.rank = static_cast<int>(shape.size());
  int64_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0; stride *= view.shape[axis]) {
    view.shape[axis] = shape[axis].evaluate(dims);
    view.strides[axis] = stride;
  }
  return view;
}

Result<std::shared_ptr<const CudaProgram>> compile_cuda_program(const Graph& graph, const CudaTarget& target,
                                                                const CudaProgramOptions& options) {
  auto front = compile_front(graph);
  if (!front) return front.error();
  auto out = std::make_shared<CudaProgram>(graph, target);
  out->stages = std::move(front->stages);
  Stopwatch watch;
  auto program = options.materialise ? lower_unfused(front->canonical) : fuse(front->canonical);
  if (!program) return program.error();
  Compiled& compiled = out->compiled;
  compiled.program = std::move(*program);
  watch.lap(out->stages, "fuse");
  if (options.require_fused)
    if (Diagnostics errors = complain_unfused(compiled.program); !errors.empty()) return errors;
  const auto& steps = compiled.program.steps;
  if (options.want_texts) {
    out->texts.push_back({"00_input.graph", print(graph)});
    out->texts.push_back({"01_canonical.graph", front->canonical_text});
    if (steps.size() > 1) out->texts.push_back({"02_fused.program", print(compiled.program)});
  }
  const auto& names = compiled.signature.dims();
  for (const ProgramTensor& tensor : compiled.program.tensors)
    compiled.tensors.push_back(tensor_size(tensor.type, names));
  for (size_t i = 0; i < steps.size(); ++i) {
    const NamedStep named(steps[i]);
    auto step = make_step(named.view, named.unnamed, target, options, names);
    if (!step) return step.error();
    compiled.steps.push_back(bind_cuda_step(steps[i], *step, names));
    if (options.want_texts) add_texts(named.view, *step, file_suffix(steps.size() > 1, std::to_string(i)), out->texts);
    out->steps.push_back(std::move(*step));
  }
  if (compiled.signature.has_inout())
    for (const TensorType& type : compiled.signature.result_types()) {
      auto copy = make_copy(type, target, names);
      if (!copy) return copy.error();
      out->copies.push_back(std::move(*copy));
    }
  watch.lap(out->stages, "emit");
  return std::shared_ptr<const CudaProgram>(std::move(out));
}

Result<std::shared_ptr<const CudaProgram>> with_schedule(const CudaProgram& program, size_t step, size_t choice,
                                                         const CudaSchedule& schedule) {
  auto out = std::make_shared<CudaProgram>(program);
  Compiled& compiled = out->compiled;
  const auto& names = compiled.signature.dims();
  const NamedStep named(compiled.program.steps[step]);
  if (auto ok = validate(schedule, named.view.scheduled(), program.target); !ok) return ok.error();
  CudaChoice& changed = out->steps[step].choices[choice];
  if (auto ok = set_schedule(changed, named.unnamed, schedule, program.target, names); !ok) return ok.error();
  compiled.steps[step] = bind_cuda_step(compiled.program.steps[step], out->steps[step], names);
  return std::shared_ptr<const CudaProgram>(std::move(out));
}

std::string choice_name(const CudaStep& step, size_t choice) {
  if (step.choices.size() == 1) return {};
  const auto kernel_of = [&](size_t i) { return step.choices[i].source.launch.schedule.kernel; };
  size_t earlier = 0;
  for (size_t i = 0; i < choice; ++i) earlier += kernel_of(i) == kernel_of(choice);
  return earlier == 0 ? std::string(to_string(kernel_of(choice)))
                      : fmt::format("{}.{}", to_string(kernel_of(choice)), earlier + 1);
}

}  // namespace tilewright
