// `// test fuse`: the program a graph becomes. What stays unfused is an error on the line of the value that stopped it.
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

Outcome fuse_case(const std::string& text) {
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
  const auto canonical = canonicalize(*graph);
  const auto program = canonical ? fuse(*canonical) : Result<Program>(canonical.error());
  if (!program) {
    outcome.failures.push_back(to_string(program.error()));
    return outcome;
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
  return outcome;
}

const HandlerFor kFuse("fuse", &fuse_case);

}  // namespace
}  // namespace tilewright::testing
