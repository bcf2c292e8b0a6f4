// tilewright demo, the main job of the project: the attention of real models compiled for this CPU, proven right,
// timed against the machine's limit and against materialised attention, dumped stage by stage.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "cli/materialised.h"
#include "cli/report.h"
#include "runtime/limits.h"

namespace tilewright::cli {
namespace {

struct DemoFlags {
  std::string models = TILEWRIGHT_EXAMPLES "/models", dump_dir, only;
  int threads = 0;
  bool json = false;
};

struct Model {
  const char* title;
  const char* file;
  DimBindings dims;
};

const std::vector<Model>& models() {
  static const std::vector<Model> kModels = {
      {"Llama 3 8B: 32 heads, 8 kv heads, d 128, causal", "llama3_8b.attn", {{"B", 1}, {"Sq", 2048}, {"Sk", 2048}}},
      {"Gemma 2 9B, even layers: 16 heads, 8 kv heads, d 256, softcap 50, window 4096",
       "gemma2_9b_local.attn",
       {{"B", 1}, {"Sq", 8192}, {"Sk", 8192}}},
      {"Gemma 2 9B, odd layers: the same with full causal attention",
       "gemma2_9b_global.attn",
       {{"B", 1}, {"Sq", 8192}, {"Sk", 8192}}},
      {"BERT base: 12 heads, d 64, padding mask, batch 8", "bert_base.attn", {{"B", 8}, {"Sq", 512}, {"Sk", 512}}},
      {"GPT-OSS 20B, sliding layers: 64 heads, 8 kv heads, d 64, sink, window 128",
       "gpt_oss_20b.attn",
       {{"B", 1}, {"Sq", 4096}, {"Sk", 4096}}}};
  return kModels;
}

Result<Report> run_model(const Model& model, const DemoFlags& options, const Engine& engine) {
  Report report;
  report.file = options.models + "/" + model.file;
  const auto graph = read_graph(report.file);
  if (!graph) return graph.error();
  CompileOptions compile_options;
  compile_options.dump_dir = options.dump_dir;
  // Compiled once without dumping for honest times: printing every stage takes longer than compiling.
  const auto dumped = engine.compile(*graph, compile_options);
  if (!dumped) return dumped.error();
  report.dump = dumped->dump_path();
  const auto kernel = engine.compile(*graph);
  if (!kernel) return kernel.error();
  report.kernel = std::make_shared<Kernel>(*kernel);
  report.dims = model.dims;

  Executor& executor = *engine.executor();
  const auto inputs = make_inputs(*graph, report.dims, 1, executor);
  if (!inputs) return inputs.error();
  const auto outputs = make_outputs(*kernel, report.dims);
  if (!outputs) return outputs.error();
  const std::vector<TensorView> in = views(*inputs), out = views(*outputs);
  if (auto ok = measure(report, in, out, {}, executor, {1.0, 3, 20}); !ok) return ok.error();

  AccuracyOptions accuracy;
  accuracy.block_rows = block_rows(report);
  report.verify_seconds = bench::seconds_of([&] {
    auto verdict = verify_outputs(*graph, report.dims, in, out, accuracy);
    if (verdict)
      report.accuracy = std::move(*verdict);
    else
      report.failure = verdict.error();
  });
  if (!report.failure.empty()) return report.failure;
  auto materialised = time_materialised(report, in, engine);
  if (!materialised) return materialised.error();
  report.materialised = std::move(*materialised);
  return report;
}

std::string summary(const std::vector<Report>& reports) {
  std::string out = fmt::format("{:<18}{:<9}{:>9}{:>11}{:>9}{:>9}{:>9}{:>14}{:>22}\n", "model", "template", "compile",
                                "time", "GFLOP/s", "of peak", "speed-up", "error/bound", "scratch : N x N");
  for (const Report& report : reports) {
    std::string kernels;
    const auto& steps = report.kernel->stats().step_reports;
    for (size_t i = 0; i < steps.size(); ++i)
      if (steps[i].fused) kernels = to_string(steps[i].schedules[report.choices[i]].kernel);
    double ratio = 0;
    for (const AccuracyReport& result : report.accuracy) ratio = std::max(ratio, result.worst_ratio);
    out += fmt::format("{:<18}{:<9}{:>6.1f} ms{:>8.1f} ms{:>9.1f}{:>7.0f} %{:>8.1f}x{:>14}{:>22}\n",
                       report.kernel->graph().name, kernels, report.kernel->stats().total_ms,
                       report.seconds.median() * 1e3, report.gflops(),
                       100 * report.gflops() / report.peak_gflops.median(), report.materialised->speed_up(),
                       report.passed() ? fmt::format("{:.2f} ok", ratio) : fmt::format("{:.2f} WRONG", ratio),
                       fmt::format("{} : {}", bytes_text(report.memory.scratch),
                                   bytes_text(static_cast<int64_t>(report.work.all) * 4)));
  }
  return out;
}

int demo_command(DemoFlags options) {
  const auto engine = open_engine({options.threads, {}});
  if (!engine) return fail(engine.error(), options.json);
  if (options.dump_dir.empty())
    options.dump_dir = std::filesystem::is_directory("build") ? "build/dump" : "tilewright-dump";
  const CpuTarget& cpu = engine->target();
  if (!options.json)
    fmt::print("This CPU: {}, {} thread{}, L1d {}, L2 {} per core, L3 {}. Every figure below is from this run.\n\n",
               to_string(cpu.isa), engine->executor()->workers(), engine->executor()->workers() == 1 ? "" : "s",
               bytes_text(cpu.l1_bytes), bytes_text(cpu.l2_bytes), bytes_text(cpu.l3_bytes));
  std::vector<Report> reports;
  bool passed = true;
  for (const Model& model : models()) {
    if (std::string(model.file).find(options.only) == std::string::npos) continue;
    auto report = run_model(model, options, *engine);
    if (!report) return fail(report.error(), options.json, model.file);
    passed &= report->passed();
    report->file.clear();
    if (!options.json) fmt::print("{}\n{}\n", model.title, text(*report));
    std::fflush(stdout);
    reports.push_back(std::move(*report));
  }
  if (reports.empty()) return fail(fmt::format("--only {} matches no model", options.only), options.json);
  if (options.json) {
    Json all = Json::array();
    for (const Report& report : reports) all.push_back(json(report));
    fmt::print("{}\n", all.dump(2));
  } else {
    fmt::print("{}", summary(reports));
  }
  return passed ? kOk : kWrongResult;
}

}  // namespace

void add_demo(CommandLine& line) {
  Command command = line.add("demo", "compile, verify and measure the attention of real models");
  auto options = std::make_shared<DemoFlags>();
  command.option("--models", options->models, "folder of the models' graph files");
  command.option("--only", options->only, "models whose file name contains this");
  command.option("--threads", options->threads, "worker threads, 0 = all cores");
  command.option("--dump", options->dump_dir, "where the dumps go (build/dump)");
  command.flag("--json", options->json, "print JSON");
  command.action([options] { return demo_command(*options); });
}

}  // namespace tilewright::cli
