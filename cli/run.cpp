// tilewright run FILE: compile, run, measure and, on demand, prove right.
#include <fmt/format.h>

#include "cli/cuda.h"
#include "cli/inputs.h"
#include "cli/outputs.h"
#include "cli/report.h"
#include "runtime/options.h"

namespace tilewright::cli {
namespace {

struct RunFlags {
  std::string file, dump_dir, isa, precision, target = "cpu";
  std::vector<std::string> dims, inputs, outputs;
  uint64_t seed = 1;
  int64_t workspace_limit = -1;
  int threads = 0, repeat = 0, executions = 0;
  bool json = false, verify = false, require_fused = false, generic = false, ahead_of_time = false;
};

int run_command(const RunFlags& options) {
  const auto graph = read_graph(options.file, options.precision);
  if (!graph) return fail(graph.error(), options.json, options.file);
  const auto files = find_outputs(*graph, options.outputs);
  if (!files) return fail(files.error(), options.json);
  if (is_cuda_target(options.target)) {
    if (!options.isa.empty() || options.ahead_of_time || options.threads != 0 || options.repeat != 0 ||
        options.workspace_limit != -1)
      return fail(fmt::format("--isa, --ahead-of-time, --threads, --repeat and --workspace-limit are the CPU's, not "
                              "those of --target {}",
                              options.target),
                  options.json);
    const std::string& dump_dir = options.dump_dir.empty() ? environment().dump_dir : options.dump_dir;
    return run_on_cuda(*graph,
                       {options.file, options.target, dump_dir, options.dims, options.inputs, *files, options.seed,
                        options.executions, options.json, options.verify, options.require_fused, options.generic});
  }
  if (options.target != "cpu")
    return fail(fmt::format("--target {} is not known; cpu, cuda-emu, cuda-emu:sm_80 and cuda are", options.target),
                options.json);
  if (options.executions != 0)
    return fail("--executions is the emulator's: --target cuda-emu runs that many legal executions", options.json);
  EngineOptions engine_options{.threads = options.threads};
  const auto isa = parse_isa_option(options.isa);
  if (!isa) return fail(isa.error(), options.json);
  engine_options.isa = *isa;
  const auto engine = open_engine(engine_options);
  if (!engine) return fail(engine.error(), options.json);
  const auto executor = engine->executor();
  const auto inputs = gather_inputs(*graph, options.inputs, options.dims, options.seed, *executor);
  if (!inputs) return fail(inputs.error(), options.json);

  CompileOptions compile_options;
  compile_options.require_fused = options.require_fused;
  compile_options.force_generic = options.generic;
  compile_options.ahead_of_time = options.ahead_of_time;
  compile_options.dump_dir = options.dump_dir;
  const auto kernel = engine->compile(*graph, compile_options);
  if (!kernel) return fail(kernel.error(), options.json, options.file);
  const auto outputs = make_outputs(*kernel, inputs->dims);
  if (!outputs) return fail(outputs.error(), options.json);

  Report report;
  report.file = options.file;
  report.dims = inputs->dims;
  report.defaulted = inputs->defaulted;
  report.kernel = std::make_shared<Kernel>(*kernel);
  RunOptions run_options;
  run_options.workspace_limit = options.workspace_limit;
  const std::vector<TensorView> in = views(inputs->tensors), out = views(*outputs);
  const bench::TimingBudget budget =
      options.repeat > 0 ? bench::TimingBudget{1e9, options.repeat, options.repeat} : bench::TimingBudget{0.5, 3, 200};
  // Measuring runs many times over the same memory. That does no harm to inout parameters: nothing reads one as it was
  // before its update, so that every run writes the same.
  if (auto ok = measure(report, in, out, run_options, *executor, budget); !ok) return fail(ok.error(), options.json);
  if (options.verify) {
    AccuracyOptions accuracy;
    accuracy.seed = options.seed;
    accuracy.block_rows = block_rows(report);
    auto verdict = verify_outputs(*graph, inputs->dims, in, out, accuracy);
    if (!verdict) return fail(verdict.error(), options.json);
    report.accuracy = std::move(*verdict);
  }
  if (auto ok = write_outputs(*files, in, out); !ok) return fail(ok.error(), options.json);
  if (options.json)
    fmt::print("{}\n", json(report).dump(2));
  else
    fmt::print("{}", text(report));
  return report.passed() ? kOk : kWrongResult;
}

}  // namespace

void add_run(CommandLine& line) {
  Command command = line.add("run", "compile a graph for this CPU or a GPU, run it and measure it");
  auto options = std::make_shared<RunFlags>();
  command.required("FILE", options->file, "graph file, - for stdin");
  command.option("--target", options->target, "cpu, cuda (a GPU) or cuda-emu[:sm_80] (GPU kernels on the emulator)");
  command.option("--precision", options->precision, kPrecisionHelp);
  command.option("--dim", options->dims, "NAME=SIZE of a named dim");
  command.option("--input", options->inputs, "NAME=FILE.npy for a parameter; others get made-up data");
  command.option("--output", options->outputs,
                 "NAME=FILE.npy to write a result to, or the final state of an inout parameter");
  command.option("--seed", options->seed, "of the made-up data (1)");
  command.flag("--verify", options->verify, "compare with the f64 reference; exit code 1 when wrong");
  command.option("--threads", options->threads, "worker threads, 0 = all cores");
  command.option("--isa", options->isa, kIsaHelp);
  command.option("--dump", options->dump_dir, "write every stage of the compile below this folder");
  command.flag("--require-fused", options->require_fused, "anything that does not fuse is an error");
  command.option("--workspace-limit", options->workspace_limit, "bytes beyond inputs and outputs");
  command.option("--executions", options->executions,
                 "on cuda-emu: legal executions to run and compare (2: engines early, then late in a drawn order)");
  command.option("--repeat", options->repeat, "timed runs; 0 = about half a second");
  command.flag("--generic", options->generic, "the generic template for everything");
  command.flag("--ahead-of-time", options->ahead_of_time, "generate no code: the tier that a tiered engine starts on");
  command.flag("--json", options->json, "print JSON");
  command.action([options] { return run_command(*options); });
}

}  // namespace tilewright::cli
