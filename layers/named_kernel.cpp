#include "layers/named_kernel.h"

#include "runtime/stopwatch.h"

namespace tilewright {
namespace {

TensorView find(const TensorsByName& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  TW_CHECK(found != tensors.end());
  return found->second;
}

}  // namespace

Result<NamedKernel> NamedKernel::compile(const Engine& engine, const Graph& graph, const CompileOptions& options,
                                         std::string role) {
  auto kernel = engine.compile(graph, options);
  if (!kernel) return kernel.error();
  NamedKernel out(std::move(*kernel), engine.executor()->workers());
  out.diagnostics_.role = std::move(role);
  out.diagnostics_.stats = out.kernel_.stats();
  return out;
}

std::vector<TensorView> NamedKernel::params(const TensorsByName& inputs) const {
  std::vector<TensorView> views;
  for (const ValueId id : graph().params) views.push_back(find(inputs, graph()[id].name));
  return views;
}

Result<std::vector<NamedKernel::ResultShape>> NamedKernel::result_shapes(const TensorsByName& inputs) const {
  const auto dims = kernel_.bind(params(inputs));
  if (!dims) return dims.error();
  auto shapes = kernel_.result_shapes(*dims);
  if (!shapes) return shapes.error();
  std::vector<ResultShape> out;
  for (size_t i = 0; i < shapes->size(); ++i) {
    const ValueId id = graph().results[i];
    out.push_back({graph()[id].name, graph().type(id), std::move((*shapes)[i])});
  }
  return out;
}

Result<Done> NamedKernel::run(const TensorsByName& inputs, const TensorsByName& outputs) {
  const std::vector<TensorView> views = params(inputs);
  std::vector<TensorView> results;
  for (const ValueId id : graph().results) results.push_back(find(outputs, graph()[id].name));
  const Stopwatch watch;
  if (auto done = kernel_.run(views, results); !done) return done;
  diagnostics_.last_run_ms = watch.milliseconds();
  if (const auto dims = kernel_.bind(views))
    if (const auto memory = kernel_.memory_estimate(*dims, workers_)) diagnostics_.memory = *memory;
  return Done{};
}

std::string print(const KernelDiagnostics& diagnostics) {
  const CompileStats& stats = diagnostics.stats;
  std::string out = fmt::format("{}: {} ops in {} steps, {} fused attention{}, precision {}, compiled in {:.1f} ms{}\n",
                                diagnostics.role, stats.graph_ops, stats.steps, stats.fused_attentions,
                                stats.fused_attentions == 1 ? "" : "s", to_string(stats.precision), stats.total_ms,
                                stats.cache_hit ? " (cached)" : "");
  for (const StepReport& step : stats.step_reports) {
    for (size_t i = 0; i < step.schedules.size(); ++i) {
      out += fmt::format("  {}: {}, runs when {}\n", step.name, print(step.schedules[i]), step.use_when[i]);
      if (const std::string& arithmetic = step.schedules[i].arithmetic; !arithmetic.empty())
        out += fmt::format("    computes {}\n", arithmetic);
      for (const std::string& reason : step.schedules[i].reasons) out += fmt::format("    because {}\n", reason);
    }
    for (const CpuPlan::Refusal& refusal : step.refused)
      out += fmt::format("  {}: {} refused: {}\n", step.name, to_string(refusal.kernel), refusal.reason);
  }
  for (const FusionNote& note : stats.not_fused)
    out += fmt::format("  not fused at %{}: {}\n", note.value, note.reason);
  for (const FusionNote& note : stats.kept_rows)
    out += fmt::format("  a step of its own: %{}: {}\n", note.value, note.reason);
  if (diagnostics.last_run_ms > 0)
    out += fmt::format("  last run {:.3f} ms; {} bytes of results, {} of workspace, {} of scratch; unfused {}\n",
                       diagnostics.last_run_ms, diagnostics.memory.outputs, diagnostics.memory.workspace,
                       diagnostics.memory.scratch, diagnostics.memory.unfused);
  return out;
}

}  // namespace tilewright
