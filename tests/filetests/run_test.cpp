// `// test run`: a graph executed on every ISA of this machine, left to itself, by the generic template and unfused,
// and judged against the oracle. Lines of a case:
//   // dims: B=2 Sq=5 Sk=9     sizes of one run, as many lines as there are runs
//   // %len = 0 3              values of a parameter, row-major, repeated to its size; all others are random
// What ran stands after the case.
#include <random>
#include <sstream>

#include "filetest.h"
#include "ir/accuracy.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "runtime/engine.h"
#include "tests/support/random_graph.h"

namespace tilewright::testing {
namespace {

struct Script {
  std::vector<std::string> dims;
  std::map<std::string, std::vector<double>> values;
};

Script read_script(const std::string& text) {
  Script script;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("// dims:")) script.dims.push_back(line.substr(line.find(':') + 1));
    if (!line.starts_with("// %")) continue;
    std::istringstream words(line.substr(4));
    std::string name, word;
    words >> name >> word;
    while (words >> word) script.values[name].push_back(std::stod(word));
  }
  return script;
}

DimBindings read_dims(const std::string& line) {
  DimBindings dims;
  std::istringstream words(line);
  for (std::string word; words >> word;)
    dims[word.substr(0, word.find('='))] = std::stoll(word.substr(word.find('=') + 1));
  return dims;
}

std::vector<TestTensor> make_inputs(const Graph& graph, const DimBindings& dims, const Script& script) {
  std::mt19937_64 random(1);
  std::vector<TestTensor> inputs;
  for (ValueId id : graph.params) {
    const TensorType& type = graph.type(id);
    TestTensor& tensor =
        inputs.emplace_back(type.dtype, concrete_shape(type, dims), static_cast<Layout>(random() % 4), random);
    Fill how;
    if (is_integer(type.dtype)) how = {Fill::Kind::integer_between, 1, 0, 6};
    if (type.dtype == DType::boolean) how = {Fill::Kind::coin, 0.5};
    fill(tensor, how, random);
    if (const auto given = script.values.find(graph[id].name); given != script.values.end())
      for (int64_t i = 0; i < tensor.size(); ++i)
        tensor.set(i, given->second[static_cast<size_t>(i) % given->second.size()]);
  }
  return inputs;
}

struct Way {
  const char* name;
  bool generic = false, unfused = false, ahead_of_time = false;
};
constexpr Way kWays[] = {
    {"left to itself"}, {"generic", true}, {"unfused", false, true}, {"ahead of time", false, false, true}};

/// "decode, loop": what runs each step at these dims.
std::string what_ran(const Kernel& kernel, const DimBindings& dims) {
  const auto choices = kernel.choices(dims);
  if (!choices) return to_string(choices.error());
  std::string words;
  for (size_t step = 0; step < choices->size(); ++step) {
    const StepReport& report = kernel.stats().step_reports[step];
    words += (step ? ", " : "") + std::string(to_string(report.schedules[(*choices)[step]].kernel));
  }
  return words;
}

void run_once(const Graph& graph, const DimBindings& dims, const Script& script, Outcome& outcome) {
  const std::vector<TestTensor> inputs = make_inputs(graph, dims, script);
  std::vector<TensorView> views;
  for (const TestTensor& input : inputs) views.push_back(input.view());
  auto judge = OutputJudge::create(graph, dims, views);
  if (!judge) return outcome.failures.push_back(to_string(judge.error()));
  std::string ran;
  for (CpuIsa isa : {CpuIsa::avx512, CpuIsa::avx2}) {
    const auto engine = Engine::create({.threads = 1, .max_isa = isa});
    if (!engine || engine->target().isa != isa) continue;
    for (const Way& way : kWays) {
      const std::string where = std::string(to_string(isa)) + " " + way.name + ": ";
      CompileOptions options;
      options.force_generic = way.generic;
      options.materialise = way.unfused;
      options.ahead_of_time = way.ahead_of_time;
      options.verify_modules = true;
      const auto kernel = engine->compile(graph, options);
      if (!kernel) {
        outcome.failures.push_back(where + to_string(kernel.error()));
        continue;
      }
      std::mt19937_64 random(2);
      std::vector<TestTensor> outputs;
      std::vector<TensorView> output_views;
      for (ValueId id : graph.results) {
        outputs.emplace_back(graph.type(id).dtype, concrete_shape(graph.type(id), dims), Layout::gapped, random);
        output_views.push_back(outputs.back().view());
      }
      if (auto done = kernel->run(views, output_views); !done) {
        outcome.failures.push_back(where + to_string(done.error()));
        continue;
      }
      const auto reports = judge->judge(output_views);
      if (!reports) outcome.failures.push_back(where + to_string(reports.error()));
      for (size_t r = 0; reports && r < reports->size(); ++r)
        if (!(*reports)[r].pass) outcome.failures.push_back(where + (*reports)[r].failure);
      for (const TestTensor& output : outputs)
        if (!output.gaps_intact()) outcome.failures.push_back(where + "wrote outside its output");
      if (way.generic || way.unfused || way.ahead_of_time) continue;
      const std::string now = what_ran(*kernel, dims);
      if (!ran.empty() && now != ran) outcome.failures.push_back(where + "ran " + now + ", not " + ran);
      ran = now;
    }
  }
  std::string sizes;
  for (const auto& [name, size] : dims) sizes += fmt::format("{}={} ", name, size);
  outcome.output += sizes + "ran " + ran + "\n";
}

Outcome run_case(const std::string& text) {
  Outcome outcome;
  const auto graph = parse_graph(text);
  if (!graph) {
    outcome.add(graph.error());
    return outcome;
  }
  if (const Diagnostics errors = verify(*graph); !errors.empty()) {
    outcome.add(errors);
    return outcome;
  }
  const Script script = read_script(text);
  if (script.dims.empty()) outcome.failures.push_back("no `// dims:` line");
  for (const std::string& line : script.dims) run_once(*graph, read_dims(line), script, outcome);
  return outcome;
}

const HandlerFor kRun("run", &run_case);

}  // namespace
}  // namespace tilewright::testing
