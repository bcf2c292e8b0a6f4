// tilewright emit --target cuda:sm_90a: the stages of GPU kernels. Runs nothing; ptx, sass and census need NVRTC.
#include <fmt/format.h>

#include "cli/cuda.h"
#include "runtime/cuda/cuda_dump.h"

namespace tilewright::cli {
namespace {

struct Stage {
  const char* name;
  const char* prefix;  ///< of its files
  bool needs_compiler;
};
constexpr Stage kCudaStages[] = {{"input", "00_", false}, {"canonical", "01_", false}, {"fused", "02_", false},
                                 {"tile", "03_", false},  {"schedule", "04_", false},  {"cu", "05_", false},
                                 {"ptx", "06_", true},    {"sass", "07_", true},       {"census", "07_", true}};

}  // namespace

int emit_cuda(const Graph& graph, const std::string& file, const std::string& stage, const std::string& target_name,
              bool generic, bool json) {
  const auto known = std::find_if(std::begin(kCudaStages), std::end(kCudaStages),
                                  [&](const Stage& candidate) { return stage == candidate.name; });
  if (known == std::end(kCudaStages))
    return fail(fmt::format("--stage {} is not known for GPUs; input, canonical, fused, tile, schedule, cu, ptx, sass "
                            "and census are",
                            stage),
                json);
  const auto target = parse_emit_target(target_name);
  if (!target) return fail(target.error(), json);
  CudaProgramOptions options;
  options.want_texts = true;
  options.plan.force_generic = generic;
  // What was measured counts for the GPU of this machine, where it has one of that architecture.
  const auto tuning = open_environment_tuning();
  options.tuning = {tuning.get(), measured_here(*target)};
  const auto program = compile_cuda_program(graph, *target, options);
  if (!program) return fail(program.error(), json, file);
  std::vector<StageText> texts = (*program)->texts;
  if (known->needs_compiler) {
    const auto compiled = compile_choices(**program);
    if (!compiled) return fail(compiled.error(), json, file);
    if (stage == "census")
      for (const CompiledCudaChoice& choice : *compiled)
        texts.push_back(
            {fmt::format("07_{}.{}.{}", choice.step, choice.choice, to_string(choice.report.schedule.kernel)),
             print(choice.report)});
    else
      for (StageText& text : machine_texts(**program, *compiled)) texts.push_back(std::move(text));
  }
  std::erase_if(texts, [&](const StageText& text) { return !text.file.starts_with(known->prefix); });
  if (texts.empty()) return fail(fmt::format("the graph has no stage {}: nothing in it is an attention", stage), json);
  if (json) {
    Json files = Json::array();
    for (const StageText& text : texts) files.push_back({{"file", text.file}, {"text", text.text}});
    fmt::print("{}\n", Json{{"stage", stage}, {"target", target_name}, {"files", files}}.dump(2));
    return kOk;
  }
  for (const StageText& text : texts) {
    if (texts.size() > 1) fmt::print("// {}\n", text.file);
    fmt::print("{}", text.text);
  }
  return kOk;
}

}  // namespace tilewright::cli
