#include "runtime/kernel_entry.h"

#include <nlohmann/json.hpp>

#include "codegen/cpu/target_features.h"
#include "ir/expr_text.h"
#include "ir/text.h"

namespace tilewright {
namespace {

using Json = nlohmann::json;

/// Exact: literals with their types, every load with its tensor.
std::string exact(const Expr& expr, const std::vector<SpecTensor>& tensors) {
  return expr.empty() ? "-" : print_expr(expr, tensors, {});
}

/// Without the names of its values, which are no part of the code: equal steps of one program or of two are one kernel.
template <class Step>
Step nameless(Step step) {
  step.name = "step";
  for (size_t i = 0; i < step.tensors.size(); ++i) step.tensors[i].name = fmt::format("t{}", i);
  return step;
}

std::string loop_text(const LoopStep& step) {
  std::string text =
      fmt::format("loop {} {} axis {} over {} in {} at {}\n", static_cast<int>(step.kind), info(step.op).name,
                  step.axis, to_string(step.extents), to_string(step.accumulate), to_string(step.precision));
  for (const SpecTensor& tensor : step.tensors) text += fmt::format("%{}: {}\n", tensor.name, to_string(tensor.type));
  for (const Expr* expr : {&step.value, &step.value2, &step.epilogue}) text += exact(*expr, step.tensors) + "\n";
  text += step.sink ? exact(*step.sink, step.tensors) : "-";
  text += fmt::format("\nto {}", step.output.tensor);
  for (const Expr& axis : step.output.axes) text += ", " + exact(axis, step.tensors);
  return text + "\n";
}

std::string schedule_text(const CpuSchedule& s) {
  std::string text = fmt::format("{} {}", to_string(s.kernel), to_string(s.isa));
  for (const ScheduleField& field : schedule_fields()) text += fmt::format(" {} {}", field.name, s.*field.member);
  return text;
}

/// Launch sizes are over dims alone.
std::optional<Expr> parse_size(const Json& json) {
  if (!json.is_string()) return {};
  const auto& text = json.get_ref<const std::string&>();
  if (text == "-") return Expr();
  TextCursor in(text);
  Expr expr = parse_expr(in, {}, {});
  if (in.failed() || !in.errors().empty() || in.peek().kind != TokenKind::end) return {};
  for (const ExprNode& node : expr.nodes())
    if (node.kind != ExprKind::op && node.kind != ExprKind::constant && node.kind != ExprKind::dim) return {};
  return expr;
}

std::optional<LaunchPhase> parse_phase(const Json& json) {
  if (!json.is_object()) return {};
  LaunchPhase phase;
  const auto symbol = json.find("symbol"), items = json.find("items"), packed = json.find("only_when_packed"),
             ordered = json.find("ordered");
  if (symbol == json.end() || !symbol->is_string() || items == json.end() || packed == json.end() ||
      !packed->is_boolean() || ordered == json.end() || !ordered->is_boolean())
    return {};
  auto size = parse_size(*items);
  if (!size) return {};
  return LaunchPhase{symbol->get<std::string>(), std::move(*size), packed->get<bool>(), ordered->get<bool>()};
}

}  // namespace

std::string kernel_key(const CompileJob& job, const CpuTarget& target) {
  std::string text = fmt::format("{}\n{} {} l1 {} l2 {} l3 {}\n{}\n", codegen_version(), target_cpu_name(target),
                                 target_features(target), target.l1_bytes, target.l2_bytes, target.l3_bytes,
                                 schedule_text(job.schedule));
  if (job.program) return text + print(nameless(job.program->spec));
  if (job.backward) return text + print(nameless(*job.backward));
  return text + loop_text(nameless(*job.loop));
}

std::string encode_kernel(const KernelEntry& entry) {
  Json json;
  json["scratch_bytes"] = entry.launch.scratch_bytes;
  json["workspace_bytes"] = exact(entry.launch.workspace_bytes, {});
  json["packed_bytes"] = exact(entry.launch.packed_bytes, {});
  json["native_tiles"] = entry.launch.native_tiles;
  json["ir_instructions"] = entry.ir_instructions;
  json["phases"] = Json::array();
  for (const LaunchPhase& phase : entry.launch.phases)
    json["phases"].push_back({{"symbol", phase.symbol},
                              {"items", exact(phase.items, {})},
                              {"only_when_packed", phase.only_when_packed},
                              {"ordered", phase.ordered}});
  json["objects"] = Json::array();
  for (const auto& object : entry.objects) json["objects"].push_back(object.size());
  std::string bytes = json.dump();
  bytes += '\0';
  for (const auto& object : entry.objects) bytes.append(object.data(), object.size());
  return bytes;
}

std::optional<KernelEntry> decode_kernel(std::string_view bytes) {
  const size_t end = bytes.find('\0');
  if (end == std::string_view::npos) return {};
  const Json json = Json::parse(bytes.substr(0, end), nullptr, false);
  if (!json.is_object()) return {};
  for (const char* name : {"scratch_bytes", "ir_instructions"})
    if (!json.contains(name) || !json[name].is_number_integer()) return {};
  for (const char* name : {"workspace_bytes", "packed_bytes", "phases", "native_tiles", "objects"})
    if (!json.contains(name)) return {};
  KernelEntry entry;
  auto workspace = parse_size(json["workspace_bytes"]), packed = parse_size(json["packed_bytes"]);
  if (!workspace || !packed || !json["phases"].is_array() || !json["objects"].is_array() ||
      !json["native_tiles"].is_boolean())
    return {};
  entry.launch.workspace_bytes = std::move(*workspace);
  entry.launch.packed_bytes = std::move(*packed);
  entry.launch.scratch_bytes = json["scratch_bytes"].get<int64_t>();
  entry.launch.native_tiles = json["native_tiles"].get<bool>();
  entry.ir_instructions = json["ir_instructions"].get<int64_t>();
  for (const Json& one : json["phases"]) {
    auto phase = parse_phase(one);
    if (!phase) return {};
    entry.launch.phases.push_back(std::move(*phase));
  }
  if (entry.launch.scratch_bytes < 0 || entry.launch.phases.empty()) return {};
  bytes.remove_prefix(end + 1);
  for (const Json& size : json["objects"]) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() > bytes.size()) return {};
    const auto own = bytes.substr(0, size.get<uint64_t>());
    entry.objects.emplace_back(own.begin(), own.end());
    bytes.remove_prefix(own.size());
  }
  if (!bytes.empty()) return {};
  return entry;
}

}  // namespace tilewright
