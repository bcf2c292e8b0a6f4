// tilewright fuse FILE: what becomes of a graph: attentions, steps of their own, and why.
#include <fmt/format.h>

#include "cli/cli.h"
#include "compiler/passes.h"
#include "ir/text.h"

namespace tilewright::cli {
namespace {

struct FuseFlags {
  std::string file, precision;
  bool json = false, require_fused = false, program = false;
};

int fuse_command(const FuseFlags& options) {
  const auto graph = read_graph(options.file, options.precision);
  if (!graph) return fail(graph.error(), options.json, options.file);
  const auto canonical = canonicalize(*graph);
  if (!canonical) return fail(canonical.error(), options.json, options.file);
  const auto program = fuse(*canonical);
  if (!program) return fail(program.error(), options.json, options.file);

  Diagnostics unfused;
  Json steps = Json::array(), notes = Json::array();
  std::string text;
  for (const Step& step : program->steps) {
    if (const auto* attention = std::get_if<AttentionStep>(&step.what)) {
      steps.push_back({{"kind", "attention"}, {"name", attention->spec.name}, {"text", print(attention->spec)}});
      text += print(attention->spec) + "\n";
    } else if (const auto* backward = std::get_if<BackwardStep>(&step.what)) {
      steps.push_back({{"kind", "backward"}, {"name", backward->spec.name}, {"text", print(backward->spec)}});
      text += print(backward->spec) + "\n";
    } else {
      const auto& loop = std::get<LoopStep>(step.what);
      steps.push_back({{"kind", "loop"}, {"name", loop.name}});
      text += fmt::format("// %{} runs as a loop over {}\n", loop.name, to_string(loop.extents));
    }
  }
  for (const FusionNote& note : program->not_fused) {
    notes.push_back({{"value", note.value}, {"line", note.line}, {"reason", note.reason}});
    text += fmt::format("// not fused: {}\n",
                        to_string(Diagnostic{ErrorKind::unsupported, note.reason, note.value, note.line}));
    unfused.add({ErrorKind::unsupported, "does not fuse: " + note.reason, note.value, note.line});
  }
  for (const FusionNote& note : program->kept_rows)
    text += fmt::format("// a step of its own: {}\n",
                        to_string(Diagnostic{ErrorKind::unsupported, note.reason, note.value, note.line}));
  if (options.require_fused && !unfused.empty()) return fail(unfused, options.json, options.file);
  if (options.json)
    fmt::print("{}\n", Json{{"graph", graph->name}, {"steps", steps}, {"not_fused", notes}}.dump(2));
  else
    fmt::print("{}", options.program ? print(*program) : text);
  return kOk;
}

}  // namespace

void add_fuse(CommandLine& line) {
  Command command = line.add("fuse", "print the fused form of a graph, and what did not fuse and why");
  auto options = std::make_shared<FuseFlags>();
  command.required("FILE", options->file, "graph file, - for stdin");
  command.option("--precision", options->precision, kPrecisionHelp);
  command.flag("--json", options->json, "print JSON");
  command.flag("--program", options->program, "print every step with its tensors");
  command.flag("--require-fused", options->require_fused, "anything that does not fuse is an error");
  command.action([options] { return fuse_command(*options); });
}

}  // namespace tilewright::cli
