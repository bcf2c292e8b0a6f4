// tilewright gradient FILE: the backward pass as a graph, and the forward that returns what backward reads.
#include "compiler/gradient.h"

#include <fmt/format.h>

#include <fstream>

#include "cli/cli.h"
#include "ir/text.h"

namespace tilewright::cli {
namespace {

struct GradientFlags {
  std::string file, forward_file, backward_file;
  std::vector<std::string> wrt;
  bool json = false, recompute = false;
};

Result<Done> write_text(const std::string& path, const std::string& text) {
  if (path.empty()) return Done{};
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) return Diagnostic{ErrorKind::io, fmt::format("cannot write {}", path), {}, 0};
  return Done{};
}

int gradient_command(const GradientFlags& options) {
  const auto graph = read_graph(options.file);
  if (!graph) return fail(graph.error(), options.json, options.file);
  const auto made = gradient(*graph, {options.wrt, options.recompute});
  if (!made) return fail(made.error(), options.json, options.file);
  const std::string forward = print(made->forward), backward = print(made->backward);
  for (const auto& done : {write_text(options.forward_file, forward), write_text(options.backward_file, backward)})
    if (!done) return fail(done.error(), options.json);
  if (options.json)
    fmt::print("{}\n", Json{{"graph", graph->name},
                            {"recompute", options.recompute},
                            {"saved", made->saved},
                            {"forward", forward},
                            {"backward", backward}}
                           .dump(2));
  else
    fmt::print("// forward: {}\n{}\n// backward\n{}",
               made->saved.empty() ? std::string("saves nothing")
                                   : fmt::format("backward reads %{}", fmt::join(made->saved, ", %")),
               forward, backward);
  return kOk;
}

}  // namespace

void add_gradient(CommandLine& line) {
  Command command = line.add("gradient", "print the backward pass of a graph, and the forward that goes with it");
  auto options = std::make_shared<GradientFlags>();
  command.required("FILE", options->file, "graph file, - for stdin");
  command.list("--wrt", options->wrt, "parameters whose gradients are wanted: q,k,v (default: all floats)");
  command.flag("--recompute", options->recompute, "save nothing: backward computes everything from the parameters");
  command.option("--out-forward", options->forward_file, "also write the forward graph to this file");
  command.option("--out-backward", options->backward_file, "also write the backward graph to this file");
  command.flag("--json", options->json, "print JSON");
  command.action([options] { return gradient_command(*options); });
}

}  // namespace tilewright::cli
