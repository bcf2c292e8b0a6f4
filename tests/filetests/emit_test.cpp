// `// test emit`: what stands in the LLVM text of a graph's kernels, as emitted. Lines of a case:
//   // emit: avx512 [generic]    the target, which need not be this machine
//   // CHECK: text               occurs after what the CHECK before it found
//   // CHECK-NOT: text           does not occur between the neighbouring CHECKs
//   // CHECK-COUNT-3: text       occurs so often in all
// Every kernel's text begins with "; file". No case may declare anything but LLVM's intrinsics.
#include <optional>
#include <sstream>

#include "filetest.h"
#include "ir/text.h"
#include "runtime/compile.h"

namespace tilewright::testing {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::optional<std::string> after(const std::string& line, const std::string& mark) {
  if (!line.starts_with(mark)) return std::nullopt;
  return line.substr(mark.size());
}

int64_t count(const std::string& text, const std::string& part) {
  int64_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

/// The emitted modules one after another, or empty with a failure.
std::string emitted(const Graph& graph, const std::string& line, Outcome& outcome) {
  std::istringstream words(line);
  std::string isa, way;
  words >> isa >> way;
  CompileRequest request;
  request.link = false;
  request.want_texts = true;
  request.options.force_generic = way == "generic";
  const auto parsed = parse_cpu_isa(isa);
  if (!parsed) {
    outcome.failures.push_back("`// emit: " + line + "` names no ISA");
    return {};
  }
  request.target.isa = *parsed;
  auto front = compile_front(graph);
  const auto compilation = front ? compile_back(graph, std::move(*front), request) : Result<Compilation>(front.error());
  if (!compilation) {
    outcome.failures.push_back(to_string(compilation.error()));
    return {};
  }
  std::string text;
  for (const StageText& stage : compilation->texts)
    if (stage.file.starts_with("05_")) text += "; " + stage.file + "\n" + stage.text;
  return text;
}

void check_lines(const std::vector<std::string>& lines, const std::string& text, Outcome& outcome) {
  size_t position = 0;
  std::vector<std::string> absent;
  const auto check_absent = [&](size_t end) {
    for (const std::string& part : absent)
      if (text.substr(position, end - position).find(part) != std::string::npos)
        outcome.failures.push_back("CHECK-NOT found: " + part);
    absent.clear();
  };
  for (const std::string& line : lines) {
    if (const auto part = after(line, "// CHECK-NOT: ")) absent.push_back(*part);
    if (const auto rest = after(line, "// CHECK-COUNT-")) {
      const std::string part = rest->substr(rest->find(": ") + 2);
      if (const int64_t found = count(text, part); found != std::stoll(*rest))
        outcome.failures.push_back(fmt::format("CHECK-COUNT found {} times: {}", found, part));
    }
    const auto part = after(line, "// CHECK: ");
    if (!part) continue;
    const size_t found = text.find(*part, position);
    if (found == std::string::npos) {
      outcome.failures.push_back("CHECK not found: " + *part);
      continue;
    }
    check_absent(found);
    position = found + part->size();
  }
  check_absent(text.size());
}

Outcome emit_case(const std::string& text) {
  Outcome outcome;
  const auto graph = parse_graph(text);
  if (!graph) {
    outcome.add(graph.error());
    return outcome;
  }
  const std::vector<std::string> lines = lines_of(text);
  bool asked = false;
  for (const std::string& line : lines) {
    const auto what = after(line, "// emit: ");
    if (!what) continue;
    asked = true;
    const std::string llvm = emitted(*graph, *what, outcome);
    if (llvm.empty()) continue;
    for (const std::string& emitted_line : lines_of(llvm))
      if (emitted_line.starts_with("declare ") && emitted_line.find(" @llvm.") == std::string::npos)
        outcome.failures.push_back("calls out: " + emitted_line);
    check_lines(lines, llvm, outcome);
  }
  if (!asked) outcome.failures.push_back("no `// emit:` line");
  return outcome;
}

const HandlerFor kEmit("emit", &emit_case);

}  // namespace
}  // namespace tilewright::testing
