// `// test verify`: parse and verify a graph or an attention; what is well-formed must also print and parse back.
#include "ir/verify.h"

#include "filetest.h"
#include "ir/text.h"

namespace tilewright::testing {
namespace {

template <class T, class Parse>
Outcome verify_text(const std::string& text, const Parse& parse) {
  Outcome outcome;
  const Result<T> parsed = parse(text);
  if (!parsed) {
    outcome.add(parsed.error());
    return outcome;
  }
  const Diagnostics errors = verify(*parsed);
  outcome.add(errors);
  const std::string once = print(*parsed);
  const Result<T> again = parse(once);
  if (!again)
    outcome.failures.push_back("does not parse back: " + to_string(again.error()) + "\n" + once);
  else if (print(*again) != once)
    outcome.failures.push_back("prints differently the second time:\n" + once + print(*again));
  else if (verify(*again).list.size() != errors.list.size())
    outcome.failures.push_back("verifies differently after a round trip:\n" + once);
  return outcome;
}

Outcome verify_case(const std::string& text) {
  if (text.find("\nattention @") != std::string::npos || text.starts_with("attention @"))
    return verify_text<AttentionSpec>(text, parse_attention);
  return verify_text<Graph>(text, parse_graph);
}

const HandlerFor kVerify("verify", &verify_case);

}  // namespace
}  // namespace tilewright::testing
