// Filetests: tests/filetests/*.attn. The first line names what a file tests (`// test verify`); a line `// ----` starts
// another case. A handler looks at the bare text of a case and says what should stand there:
//   errors    as `// error: message` at the end of the line that they are about
//   output    as lines `//> text` after the case
// TILEWRIGHT_BLESS=1 writes what the handlers say into the files.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ir/result.h"

namespace tilewright::testing {

struct Outcome {
  std::map<int, std::vector<std::string>> errors;  ///< by line of the case; 0 = the line that opens it
  std::string output;                              ///< compared exactly; empty for none
  std::vector<std::string> failures;               ///< what no text can bless

  void add(const Diagnostics& diagnostics);
};

/// `text` has no expectations in it and as many lines as the case has before its output.
using Handler = Outcome (*)(const std::string& text);

std::map<std::string, Handler>& handlers();

/// `const HandlerFor kFuse("fuse", &fuse_case);` in any *_test.cpp of this folder adds `// test fuse`.
struct HandlerFor {
  HandlerFor(const std::string& name, Handler handler) { handlers()[name] = handler; }
};

}  // namespace tilewright::testing
