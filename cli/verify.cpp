// tilewright verify FILE: is this a graph? All complaints at once.
#include <fmt/format.h>

#include "cli/cli.h"

namespace tilewright::cli {
namespace {

struct VerifyFlags {
  std::string file;
  bool json = false;
};

int verify_command(const VerifyFlags& options) {
  const auto graph = read_graph(options.file);
  if (!graph) return fail(graph.error(), options.json, options.file);
  std::string signature;
  Json params = Json::array();
  for (const ValueId id : graph->params) {
    signature += fmt::format("{}%{}: {}", signature.empty() ? "" : ", ", (*graph)[id].name, to_string(graph->type(id)));
    params.push_back({{"name", (*graph)[id].name}, {"type", to_string(graph->type(id))}});
  }
  if (options.json)
    fmt::print("{}\n", Json{{"graph", graph->name}, {"nodes", graph->nodes.size()}, {"params", params}}.dump(2));
  else
    fmt::print("{}: graph @{}({}) is well-formed, {} values\n", options.file, graph->name, signature,
               graph->nodes.size());
  return kOk;
}

}  // namespace

void add_verify(CommandLine& line) {
  Command command = line.add("verify", "check a graph file and print everything that is wrong with it");
  auto options = std::make_shared<VerifyFlags>();
  command.required("FILE", options->file, "graph file, - for stdin");
  command.flag("--json", options->json, "print JSON");
  command.action([options] { return verify_command(*options); });
}

}  // namespace tilewright::cli
