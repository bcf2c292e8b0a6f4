// tilewright tune --target cuda: search the fastest schedules of a graph on a GPU and keep them.
#include "runtime/cuda/tune_cuda.h"

#include "cli/cuda.h"
#include "cli/tune_text.h"

namespace tilewright::cli {

int tune_on_cuda(const CudaTuneCommand& command) {
  if (command.files.empty()) return fail("nothing to tune: name a graph file", command.json);
  const auto target = open_cuda_target(command.target);
  if (!target) return fail(target.error(), command.json);
  const auto store = open_environment_tuning(command.database);
  ProgressLine line;
  SearchOptions options;
  options.budget_seconds = command.budget;
  options.candidates = command.candidates;
  options.twins = command.twins;
  if (!command.json) options.progress = [&](const TuneProgress& progress) { line.show(progress); };
  Json results = Json::array();
  std::string not_saved;
  for (const std::string& file : command.files) {
    const auto graph = read_graph(file);
    if (!graph) return fail(graph.error(), command.json, file);
    auto dims = parse_dims(command.dims);
    if (!dims) return fail(dims.error(), command.json);
    add_default_dims(*graph, *dims);
    const auto result = tune_cuda(*graph, target->device, *dims, options, store.get());
    line.clear();
    if (!result) return fail(result.error(), command.json, file);
    if (command.json)
      results.push_back(graph_json(*result, file, [](const CudaTunedStep& step) { return search_json(step); }));
    else
      print_graph(*result, [](const CudaTunedStep&) { return std::string(); });
    if (!result->not_saved.empty()) not_saved = result->not_saved;
  }
  if (const int code = end_of_tuning(not_saved, !command.database.empty(), command.json); code != kOk) return code;
  if (command.json) fmt::print("{}\n", results.dump(2));
  return kOk;
}

}  // namespace tilewright::cli
