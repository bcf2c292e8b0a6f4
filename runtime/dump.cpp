#include "runtime/dump.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace tilewright {
namespace {

using Json = nlohmann::ordered_json;

Result<Done> write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) return Diagnostic{ErrorKind::io, fmt::format("cannot write the dump file {}", path.string()), {}, 0};
  return Done{};
}

/// A graph's name as a folder name.
std::string folder_name(const std::string& name) {
  std::string out;
  for (const char c : name) out += std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' ? c : '_';
  return out.empty() ? "graph" : out;
}

}  // namespace

std::string manifest(const Compiled& compiled, const CpuTarget& target) {
  const CompileStats& stats = compiled.stats;
  Json json;
  json["graph"] = compiled.program.name;
  json["precision"] = to_string(stats.precision);
  json["target"] = {{"isa", to_string(target.isa)},
                    {"cores", target.cores},
                    {"l1_bytes", target.l1_bytes},
                    {"l2_bytes", target.l2_bytes},
                    {"l3_bytes", target.l3_bytes}};
  json["tier"] = to_string(stats.tier);
  json["graph_ops"] = stats.graph_ops;
  json["steps"] = stats.steps;
  json["fused_attentions"] = stats.fused_attentions;
  json["fused_backwards"] = stats.fused_backwards;
  json["compile_ms"] = stats.total_ms;
  for (const StageTime& stage : stats.stages) json["stages_ms"][stage.stage] = stage.milliseconds;
  json["not_fused"] = Json::array();
  for (const FusionNote& note : stats.not_fused)
    json["not_fused"].push_back({{"value", note.value}, {"line", note.line}, {"reason", note.reason}});
  json["kept_rows"] = Json::array();
  for (const FusionNote& note : stats.kept_rows)
    json["kept_rows"].push_back({{"value", note.value}, {"line", note.line}, {"reason", note.reason}});
  json["kernels"] = Json::array();
  for (const StepReport& report : stats.step_reports) {
    Json kernel = {{"name", report.name}, {"fused", report.fused}};
    kernel["choices"] = Json::array();
    for (size_t i = 0; i < report.schedules.size(); ++i) {
      const CpuSchedule& schedule = report.schedules[i];
      kernel["choices"].push_back({{"template", to_string(schedule.kernel)},
                                   {"schedule", print(schedule)},
                                   {"products", schedule.arithmetic},
                                   {"runs_when", report.use_when[i]},
                                   {"because", schedule.reasons}});
    }
    kernel["refused"] = Json::array();
    for (const auto& refusal : report.refused)
      kernel["refused"].push_back({{"template", to_string(refusal.kernel)}, {"because", refusal.reason}});
    kernel["scratch_bytes_per_worker"] = report.scratch_bytes;
    if (!report.same_as.empty()) kernel["same_kernel_as"] = report.same_as;
    kernel["code_bytes"] = report.code_bytes;
    kernel["ir_instructions"] = report.ir_instructions;
    json["kernels"].push_back(std::move(kernel));
  }
  return json.dump(2) + "\n";
}

Result<std::string> write_dump_folder(const std::string& directory, const std::string& graph_name,
                                      const std::string& hash, const std::vector<StageText>& texts,
                                      const std::string& manifest) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(directory) / (folder_name(graph_name) + "-" + hash);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    return Diagnostic{
        ErrorKind::io, fmt::format("cannot make the dump folder {}: {}", folder.string(), error.message()), {}, 0};
  for (const StageText& text : texts)
    if (auto ok = write(folder / text.file, text.text); !ok) return ok.error();
  if (auto ok = write(folder / "manifest.json", manifest); !ok) return ok.error();
  return folder.string();
}

Result<std::string> write_dump(const std::string& directory, const Compilation& compilation, const CpuTarget& target,
                               const std::string& hash) {
  const Compiled& compiled = *compilation.compiled;
  return write_dump_folder(directory, compiled.program.name, hash, compilation.texts, manifest(compiled, target));
}

}  // namespace tilewright
