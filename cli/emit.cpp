// tilewright emit FILE --stage S --target T: the text of one stage of the compile. Runs nothing.
#include <fmt/format.h>

#include "cli/cuda.h"
#include "runtime/compile_jobs.h"
#include "runtime/cpu_detect.h"
#include "runtime/disk_cache.h"
#include "runtime/options.h"

namespace tilewright::cli {
namespace {

struct EmitFlags {
  std::string file, stage = "ll", target = "native", precision;
  bool json = false, generic = false;
};

/// The start of the dump files of each stage.
const std::map<std::string, std::string> kStages = {{"input", "00_"},      {"canonical", "01_"}, {"fused", "02_"},
                                                    {"tile", "03_"},       {"schedule", "04_"},  {"ll", "06_"},
                                                    {"emitted-ll", "05_"}, {"asm", "07_"}};

Result<CpuTarget> target_of(const std::string& name) {
  CpuTarget target = detect_cpu();
  if (name == "native") return target;
  for (const CpuIsa isa : {CpuIsa::avx2, CpuIsa::avx512, CpuIsa::amx_emulated, CpuIsa::amx}) {
    if (name != "cpu-" + std::string(to_string(isa))) continue;
    target.isa = isa;
    return target;
  }
  return invalid("--target {} is not known; cpu-avx2, cpu-avx512, cpu-amx, cpu-amx-emulated and native are", name);
}

int emit_command(const EmitFlags& options) {
  if (is_cuda_target(options.target)) {
    const auto graph = read_graph(options.file, options.precision);
    if (!graph) return fail(graph.error(), options.json, options.file);
    return emit_cuda(*graph, options.file, options.stage, options.target, options.generic, options.json);
  }
  const auto prefix = kStages.find(options.stage);
  if (prefix == kStages.end())
    return fail(
        fmt::format("--stage {} is not known; input, canonical, fused, tile, schedule, emitted-ll, ll and asm are",
                    options.stage),
        options.json);
  if (!generates_code() && (options.stage == "asm" || options.stage.ends_with("ll")))
    return fail(
        fmt::format("--stage {} needs LLVM, which this build was made without (TILEWRIGHT_LLVM=OFF)", options.stage),
        options.json);
  const auto target = target_of(options.target);
  if (!target) return fail(target.error(), options.json);
  const auto graph = read_graph(options.file, options.precision);
  if (!graph) return fail(graph.error(), options.json, options.file);
  auto front = compile_front(*graph);
  if (!front) return fail(front.error(), options.json, options.file);
  CompileRequest request;
  request.target = *target;
  request.options.force_generic = options.generic;
  request.want_texts = true;
  request.link = false;
  // What an engine would choose, measured schedules included.
  const auto tuning = open_environment_tuning();
  request.tuning = tuning.get();
  const auto compilation = generates_code() ? compile_back(*graph, std::move(*front), request)
                                            : compile_ahead_of_time(*graph, std::move(*front), request);
  if (!compilation) return fail(compilation.error(), options.json, options.file);

  std::vector<const StageText*> found;
  for (const StageText& text : compilation->texts)
    if (text.file.starts_with(prefix->second)) found.push_back(&text);
  if (found.empty())
    return fail(fmt::format("the graph has no stage {}: nothing in it is an attention", options.stage), options.json);
  if (options.json) {
    Json files = Json::array();
    for (const StageText* text : found) files.push_back({{"file", text->file}, {"text", text->text}});
    fmt::print("{}\n", Json{{"stage", options.stage}, {"target", options.target}, {"files", files}}.dump(2));
    return kOk;
  }
  const char* comment = options.stage == "asm" ? "#" : options.stage.ends_with("ll") ? ";" : "//";
  for (const StageText* text : found) {
    if (found.size() > 1) fmt::print("{} {}\n", comment, text->file);
    fmt::print("{}", text->text);
  }
  return kOk;
}

}  // namespace

void add_emit(CommandLine& line) {
  Command command = line.add("emit", "print one stage of compiling a graph");
  auto options = std::make_shared<EmitFlags>();
  command.required("FILE", options->file, "graph file, - for stdin");
  command.option("--precision", options->precision, kPrecisionHelp);
  command.option(
      "--stage", options->stage,
      "input, canonical, fused, tile, schedule, emitted-ll, ll or asm; of GPU kernels cu, ptx, sass or census");
  command.option("--target", options->target, "cpu-avx2, cpu-avx512, cpu-amx, cpu-amx-emulated, native or cuda:sm_90a");
  command.flag("--generic", options->generic, "the generic template for everything");
  command.flag("--json", options->json, "print JSON");
  command.action([options] { return emit_command(*options); });
}

}  // namespace tilewright::cli
