#include "compiler/program.h"

#include "ir/text.h"

namespace tilewright {
namespace {

std::string_view to_string(TensorRole role) {
  switch (role) {
    case TensorRole::param: return "param";
    case TensorRole::result: return "result";
    case TensorRole::temporary: break;
  }
  return "temporary";
}

std::string_view to_string(LoopKind kind) {
  switch (kind) {
    case LoopKind::reduce: return "reduce";
    case LoopKind::softmax: return "softmax";
    case LoopKind::contract: return "contract";
    case LoopKind::scatter: return "scatter";
    case LoopKind::pointwise: break;
  }
  return "pointwise";
}

std::string indented(const std::string& text) {
  std::string out;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    out += "    " + text.substr(begin, end - begin) + "\n";
    begin = end + 1;
  }
  return out;
}

std::string print_loop(const LoopStep& step) {
  std::string target;
  for (const Expr& axis : step.output.axes) target += (target.empty() ? "" : ", ") + print(axis, step.tensors);
  const SpecTensor& out = step.tensors[static_cast<size_t>(step.output.tensor)];
  const std::string value = print(step.value, step.tensors);
  std::string meaning = value;
  if (step.kind == LoopKind::reduce)
    meaning = fmt::format("{}(axis {}, {})", info(step.op).name, step.axis, value);
  else if (step.kind == LoopKind::softmax)
    meaning = fmt::format("softmax(axis {}, {})", step.axis, value);
  else if (step.kind == LoopKind::contract)
    meaning = fmt::format("sum(axis {}, mul({}, {}))", step.axis, value, print(step.value2, step.tensors));
  if (step.precision != PrecisionPolicy::f32) meaning += fmt::format(" precision={}", to_string(step.precision));
  if (!step.epilogue.empty()) meaning = fmt::format("{} with s = {}", print(step.epilogue, step.tensors), meaning);
  if (step.sink) meaning += " with sink " + print(*step.sink, step.tensors);
  const std::string_view writes = step.kind == LoopKind::scatter ? "+=" : "=";
  return fmt::format("    %{}[{}] {} {}\n", out.name, target, writes, meaning);
}

}  // namespace

std::string print(const Program& program) {
  std::string text = fmt::format("program @{} {{\n", program.name);
  for (const ProgramTensor& tensor : program.tensors) {
    text += fmt::format("  {} %{}: {}", to_string(tensor.role), tensor.name, to_string(tensor.type));
    if (tensor.role == TensorRole::temporary)
      text += fmt::format("  // steps {} to {}", tensor.first_step, tensor.last_step);
    text += '\n';
  }
  for (size_t i = 0; i < program.steps.size(); ++i) {
    if (const auto* attention = std::get_if<AttentionStep>(&program.steps[i].what)) {
      text += fmt::format("  step {}: attention\n", i) + indented(print(attention->spec));
      continue;
    }
    if (const auto* backward = std::get_if<BackwardStep>(&program.steps[i].what)) {
      text += fmt::format("  step {}: backward\n", i) + indented(print(backward->spec));
      continue;
    }
    const auto& loop = std::get<LoopStep>(program.steps[i].what);
    text += fmt::format("  step {}: {} %{} over {}\n", i, to_string(loop.kind), loop.name, to_string(loop.extents));
    text += print_loop(loop);
  }
  for (const FusionNote& note : program.not_fused)
    text += fmt::format("  // not fused: {}%{}: {}\n", note.line > 0 ? fmt::format("line {}: ", note.line) : "",
                        note.value, note.reason);
  for (const FusionNote& note : program.kept_rows)
    text += fmt::format("  // a step of its own: {}%{}: {}\n", note.line > 0 ? fmt::format("line {}: ", note.line) : "",
                        note.value, note.reason);
  return text + "}\n";
}

}  // namespace tilewright
