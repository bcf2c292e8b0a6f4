// tilewright run --target cuda…: a graph as GPU kernels, on the emulator or a device, and on demand proven right.
#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "cli/cuda.h"
#include "cli/inputs.h"
#include "cli/run_emulated.h"
#include "ir/accuracy.h"
#include "runtime/cuda/cuda_dump.h"
#include "runtime/cuda/cuda_kernel.h"

namespace tilewright::cli {
namespace {

/// Of named dims that nobody gave, on the emulator: it takes a microsecond for what a GPU does in a nanosecond.
constexpr int64_t kEmulatedDefault = 48;

struct CudaReport {
  std::string file, target, dump;
  std::optional<EmulatedRuns> emulated;
  DimBindings dims, defaulted;
  std::vector<CudaStepRun> taken;
  double build_ms = 0, seconds = 0;
  std::vector<AccuracyReport> accuracy;

  bool passed() const {
    return std::all_of(accuracy.begin(), accuracy.end(), [](const AccuracyReport& result) { return result.pass; });
  }
};

std::string all_dims_text(const DimBindings& dims, const DimBindings& defaulted) {
  std::string text;
  for (const auto& [name, size] : dims)
    text +=
        fmt::format("{}{} {}{}", text.empty() ? "" : ", ", name, size, defaulted.contains(name) ? " (default)" : "");
  return text.empty() ? "none" : text;
}

std::string text(const CudaReport& report, const CudaKernel& kernel) {
  std::string out = fmt::format("{} on {}\n  dims     {}\n", report.file, report.target,
                                all_dims_text(report.dims, report.defaulted));
  for (size_t i = 0; i < report.taken.size(); ++i) {
    const CudaStep& step = kernel.program().steps[i];
    const CudaSchedule& schedule = step.choices[report.taken[i].choice].source.launch.schedule;
    out += fmt::format("  %{:<7} {}\n", step.name, print(schedule));
    for (const std::string& reason : schedule.reasons) out += fmt::format("             {}\n", reason);
    for (const std::string& why : report.taken[i].passed_over) out += fmt::format("             not {}\n", why);
    for (const CudaPlan::Refusal& refusal : step.refused)
      out += fmt::format("             not {}: {}\n", to_string(refusal.kernel), refusal.reason);
  }
  for (const FusionNote& note : kernel.program().compiled.program.not_fused)
    out += fmt::format("  unfused  %{}: {}\n", note.value, note.reason);
  out += fmt::format("  built in {:.0f} ms, ran in {:.3f} s{}\n", report.build_ms, report.seconds,
                     report.emulated ? " on the emulator, which says nothing of a GPU's time" : ", copies included");
  if (report.emulated) out += text(*report.emulated);
  for (const AccuracyReport& result : report.accuracy)
    out += fmt::format("  %{:<7} {}: {}\n", result.result, result.pass ? "right" : "WRONG",
                       result.pass ? to_string(result) : result.failure);
  if (!report.dump.empty()) out += fmt::format("  dump     {}\n", report.dump);
  return out;
}

Json json(const CudaReport& report, const CudaKernel& kernel) {
  Json out = {{"file", report.file},
              {"target", report.target},
              {"dims", report.dims},
              {"build_ms", report.build_ms},
              {"seconds", report.seconds},
              {"passed", report.passed()},
              {"steps", Json::parse(print_run(kernel.program(), report.taken))},
              {"accuracy", Json::array()}};
  if (report.emulated) out["emulated"] = json(*report.emulated);
  for (const AccuracyReport& result : report.accuracy)
    out["accuracy"].push_back({{"result", result.result},
                               {"pass", result.pass},
                               {"max_error", result.max_error},
                               {"naive_max_error", result.naive_max_error},
                               {"failure", result.failure}});
  if (!report.dump.empty()) out["dump"] = report.dump;
  return out;
}

/// NAME=SIZE for the dims that are left to a default on the emulator.
std::vector<std::string> with_small_defaults(const Graph& graph, const CudaRunCommand& command) {
  std::vector<std::string> dims = command.dims;
  if (auto given = parse_dims(dims); given && command.inputs.empty())
    for (const auto& [name, size] : add_default_dims(graph, *given))
      if (size > kEmulatedDefault) dims.push_back(fmt::format("{}={}", name, kEmulatedDefault));
  return dims;
}

}  // namespace

int run_on_cuda(const Graph& graph, const CudaRunCommand& command) {
  const auto target = open_cuda_target(command.target);
  if (!target) return fail(target.error(), command.json);
  if (command.executions < 0 || (command.executions > 0 && !target->emulated))
    return fail(
        fmt::format("--executions is {}; cuda-emu takes 1 and more, other targets have one", command.executions),
        command.json);
  const auto executor = make_thread_pool(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  const auto inputs =
      gather_inputs(graph, command.inputs, target->emulated ? with_small_defaults(graph, command) : command.dims,
                    command.seed, *executor);
  if (!inputs) return fail(inputs.error(), command.json);
  CudaProgramOptions options;
  options.require_fused = command.require_fused;
  options.plan.force_generic = command.generic;
  options.want_texts = !command.dump_dir.empty();
  const auto tuning = open_environment_tuning();
  options.tuning = {tuning.get(), target->device->measured_with()};
  const auto program = compile_cuda_program(graph, target->device->target(), options);
  if (!program) return fail(program.error(), command.json, command.file);
  const auto kernel = CudaKernel::load(*program, target->device);
  if (!kernel) return fail(kernel.error(), command.json, command.file);

  CudaReport report{command.file, target->name, "", {}, inputs->dims, inputs->defaulted, {}, 0, 0, {}};
  report.build_ms = kernel->load_ms();
  const auto shapes = kernel->result_shapes(inputs->dims);
  if (!shapes) return fail(shapes.error(), command.json);
  std::vector<HostTensor> outputs;
  for (size_t i = 0; i < shapes->size(); ++i) {
    auto output = make_tensor(kernel->program().compiled.signature.result_types()[i].dtype, (*shapes)[i]);
    if (!output) return fail(output.error(), command.json);
    if (output->view.data) std::memset(output->buffer.data(), 0xff, static_cast<size_t>(output->buffer.bytes()));
    outputs.push_back(std::move(*output));
  }
  const std::vector<TensorView> in = views(inputs->tensors), out = views(outputs);
  const auto start = std::chrono::steady_clock::now();
  if (target->emulated) {
    auto runs = run_emulated(*kernel, *target->emulated, {command.executions, command.seed}, in, out, report.taken);
    if (!runs) return fail(runs.error(), command.json);
    report.emulated = std::move(*runs);
  } else if (auto ok = run_from_host(*kernel, in, out, &report.taken); !ok) {
    return fail(ok.error(), command.json);
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (command.verify) {
    AccuracyOptions accuracy;
    accuracy.seed = command.seed;
    auto verdict = verify_outputs(graph, inputs->dims, in, out, accuracy);
    if (!verdict) return fail(verdict.error(), command.json);
    report.accuracy = std::move(*verdict);
  }
  if (auto ok = write_outputs(command.outputs, in, out); !ok) return fail(ok.error(), command.json);
  if (!command.dump_dir.empty()) {
    auto dump = write_cuda_dump(command.dump_dir, **program);
    if (!dump) return fail(dump.error(), command.json);
    report.dump = std::move(*dump);
  }
  if (command.json)
    fmt::print("{}\n", json(report, *kernel).dump(2));
  else
    fmt::print("{}", text(report, *kernel));
  return report.passed() ? kOk : kWrongResult;
}

}  // namespace tilewright::cli
