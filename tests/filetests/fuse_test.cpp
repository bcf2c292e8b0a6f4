// `// test fuse`: the program a graph becomes. What stays unfused is an error on the line of the value that stopped it.
// `// test gradient`: the same of the graph's backward pass. A line `// gradient: [recompute] [NAME…]` in a case says
// which gradients are wanted, all when it names none, and how; what has no gradient is an error on its line.
#include <optional>
#include <sstream>

#include "compiler/gradient.h"
#include "compiler/passes.h"
#include "filetest.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace tilewright::testing {
namespace {

template <class Spec, class Parse>
void check_spec(const Spec& spec, Parse parse, Outcome& outcome) {
  const std::string once = print(spec);
  if (const Diagnostics errors = verify(spec); !errors.empty())
    outcome.failures.push_back("does not verify: " + to_string(errors) + "\n" + once);
  const auto again = parse(once);
  if (!again)
    outcome.failures.push_back("does not parse back: " + to_string(again.error()) + "\n" + once);
  else if (print(*again) != once)
    outcome.failures.push_back("prints differently the second time:\n" + once + print(*again));
}

/// Notes stand on lines of the case only where the graph is the case's own.
void add_program(const Graph& graph, Outcome& outcome) {
  const auto canonical = canonicalize(graph);
  const auto program = canonical ? fuse(*canonical) : Result<Program>(canonical.error());
  if (!program) {
    outcome.failures.push_back(to_string(program.error()));
    return;
  }
  for (const FusionNote& note : program->not_fused)
    outcome.errors[note.line].push_back("not fused: %" + note.value + ": " + note.reason);
  Program without_notes = *program;
  without_notes.not_fused.clear();
  outcome.output = print(without_notes);
  for (const Step& step : program->steps)
    if (const auto* attention = std::get_if<AttentionStep>(&step.what))
      check_spec(attention->spec, parse_attention, outcome);
    else if (const auto* backward = std::get_if<BackwardStep>(&step.what))
      check_spec(backward->spec, parse_backward, outcome);
}

/// Nothing, with the errors in the outcome, when the text is no graph that verifies.
std::optional<Graph> verified_graph(const std::string& text, Outcome& outcome) {
  auto graph = parse_graph(text);
  if (!graph) {
    outcome.add(graph.error());
    return std::nullopt;
  }
  if (const Diagnostics errors = verify(*graph); !errors.empty()) {
    outcome.add(errors);
    return std::nullopt;
  }
  return std::move(*graph);
}

Outcome fuse_case(const std::string& text) {
  Outcome outcome;
  if (const auto graph = verified_graph(text, outcome)) add_program(*graph, outcome);
  return outcome;
}

GradientRequest request_in(const std::string& text) {
  constexpr std::string_view kMark = "// gradient:";
  GradientRequest request;
  const size_t at = text.find(kMark);
  if (at == std::string::npos) return request;
  std::istringstream words(text.substr(at + kMark.size(), text.find('\n', at) - at - kMark.size()));
  for (std::string word; words >> word;) {
    if (word == "recompute")
      request.recompute = true;
    else
      request.wrt.push_back(word);
  }
  return request;
}

Outcome gradient_case(const std::string& text) {
  Outcome outcome;
  const auto graph = verified_graph(text, outcome);
  if (!graph) return outcome;
  const auto made = gradient(*graph, request_in(text));
  if (made)
    add_program(made->backward, outcome);
  else
    outcome.add(made.error());
  return outcome;
}

const HandlerFor kFuse("fuse", &fuse_case), kGradient("gradient", &gradient_case);

}  // namespace
}  // namespace tilewright::testing
