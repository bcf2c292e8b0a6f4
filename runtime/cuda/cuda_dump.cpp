#include "runtime/cuda/cuda_dump.h"

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/cuda/disassemble.h"
#include "runtime/dump.h"
#include "runtime/graph_key.h"

namespace tilewright {
namespace {

using Json = nlohmann::ordered_json;

/// ".2.sm80_prefill": which step and choice a file is of, as far as there are several.
std::string choice_suffix(const CudaProgram& program, const CompiledCudaChoice& compiled) {
  std::string out;
  if (program.steps.size() > 1) out += fmt::format(".{}", compiled.step);
  const std::string name = choice_name(program.steps[compiled.step], compiled.choice);
  return name.empty() ? out : out + "." + name;
}

Json phase_json(const CudaPhaseReport& phase) {
  Json json = {{"symbol", phase.facts.symbol},
               {"threads", phase.threads},
               {"registers", phase.facts.registers},
               {"static_shared_bytes", phase.facts.static_shared},
               {"dynamic_shared_bytes", phase.dynamic_shared},
               {"local_bytes", phase.facts.local_bytes},
               {"spill_bytes", phase.spill_bytes},
               {"instructions", phase.facts.instructions},
               {"blocks_per_multiprocessor", phase.occupancy.blocks},
               {"warps_per_multiprocessor", phase.occupancy.warps},
               {"limited_by", phase.occupancy.limited_by}};
  for (const OpcodeCount& opcode : phase.facts.census) json["census"][std::string(opcode.name)] = opcode.count;
  return json;
}

}  // namespace

Result<std::vector<CompiledCudaChoice>> compile_choices(const CudaProgram& program) {
  const Result<Nvrtc>& compiler = nvrtc();
  if (!compiler) return compiler.error();
  std::vector<CompiledCudaChoice> out;
  for (size_t step = 0; step < program.steps.size(); ++step)
    for (size_t choice = 0; choice < program.steps[step].choices.size(); ++choice)
      out.push_back({step, choice, {}, {}});
  std::vector<Diagnostics> errors(out.size());
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next.fetch_add(1); i < out.size(); i = next.fetch_add(1)) {
      const CudaSource& source = program.steps[out[i].step].choices[out[i].choice].source;
      auto binary = compile_cuda(source, program.target);
      if (!binary) {
        errors[i] = binary.error();
        continue;
      }
      auto report = report_compile(*binary, source.launch, program.target);
      if (!report) {
        errors[i] = report.error();
        continue;
      }
      out[i].binary = std::move(*binary);
      out[i].report = std::move(*report);
    }
  };
  std::vector<std::thread> helpers;
  const size_t threads = std::min<size_t>(out.size(), std::max(1u, std::thread::hardware_concurrency()));
  for (size_t i = 1; i < threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  for (const Diagnostics& error : errors)
    if (!error.empty()) return error;
  return out;
}

std::vector<StageText> machine_texts(const CudaProgram& program, const std::vector<CompiledCudaChoice>& compiled) {
  std::vector<StageText> texts;
  for (const CompiledCudaChoice& one : compiled) {
    const std::string number = choice_suffix(program, one);
    texts.push_back({"06_opt" + number + ".ptx", one.binary.ptx});
    if (auto sass = disassemble_cubin(one.binary.cubin))
      texts.push_back({"07_machine" + number + ".sass", std::move(*sass)});
    else
      texts.push_back({"07_machine" + number + ".census.txt", print(one.report) + to_string(sass.error()) + "\n"});
  }
  return texts;
}

std::string cuda_manifest(const CudaProgram& program, const std::vector<CompiledCudaChoice>& compiled,
                          const std::string& note) {
  Json json = {{"graph", program.compiled.program.name},
               {"target", program.target.architecture()},
               {"steps", program.steps.size()}};
  for (const StageTime& stage : program.stages) json["stages_ms"][stage.stage] = stage.milliseconds;
  if (!note.empty()) json["not_compiled"] = note;
  json["kernels"] = Json::array();
  for (size_t i = 0; i < program.steps.size(); ++i) {
    const CudaStep& step = program.steps[i];
    Json kernel = {{"name", step.name}, {"fused", step.fused}, {"choices", Json::array()}, {"refused", Json::array()}};
    for (size_t j = 0; j < step.choices.size(); ++j) {
      const CudaSchedule& schedule = step.choices[j].source.launch.schedule;
      Json choice = {{"template", to_string(schedule.kernel)},
                     {"schedule", print(schedule)},
                     {"runs_when", step.choices[j].condition},
                     {"because", schedule.reasons}};
      for (const CompiledCudaChoice& one : compiled) {
        if (one.step != i || one.choice != j) continue;
        choice["nvrtc_ms"] = one.report.milliseconds;
        for (const CudaPhaseReport& phase : one.report.phases) choice["phases"].push_back(phase_json(phase));
        if (!one.report.complaints.empty()) choice["complaints"] = one.report.complaints;
      }
      kernel["choices"].push_back(std::move(choice));
    }
    for (const CudaPlan::Refusal& refusal : step.refused)
      kernel["refused"].push_back({{"template", to_string(refusal.kernel)}, {"because", refusal.reason}});
    json["kernels"].push_back(std::move(kernel));
  }
  return json.dump(2) + "\n";
}

Result<std::string> write_cuda_dump(const std::string& directory, const CudaProgram& program) {
  std::vector<StageText> texts = program.texts;
  std::string note, identity = program.target.architecture();
  for (const StageText& text : texts) identity += text.text;
  auto compiled = compile_choices(program);
  std::vector<CompiledCudaChoice> choices;
  if (compiled)
    choices = std::move(*compiled);
  else
    note = to_string(compiled.error());
  for (StageText& text : machine_texts(program, choices)) texts.push_back(std::move(text));
  return write_dump_folder(directory, program.compiled.program.name, to_string(hash_key(identity)), texts,
                           cuda_manifest(program, choices, note));
}

}  // namespace tilewright
