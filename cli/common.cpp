#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>

#include "cli/cli.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "runtime/options.h"

namespace tilewright::cli {

int fail(const Diagnostics& diagnostics, bool json, const std::string& file) {
  Json errors = Json::array();
  for (const Diagnostic& diagnostic : diagnostics.list) {
    // Who cannot read or write says what.
    const bool named = file.empty() || diagnostic.kind == ErrorKind::io;
    fmt::print(stderr, "tilewright: {}{}{}\n", named ? "" : file, named ? "" : ": ", to_string(diagnostic));
    errors.push_back({{"message", diagnostic.message}, {"value", diagnostic.value}, {"line", diagnostic.line}});
  }
  if (json) fmt::print("{}\n", Json{{"errors", errors}}.dump(2));
  return kBadInput;
}

int fail(const std::string& sentence, bool json) { return fail(Diagnostics{{invalid("{}", sentence)}}, json); }

Result<std::string> read_text(const std::string& path) {
  std::ostringstream text;
  if (path == "-") {
    text << std::cin.rdbuf();
    return text.str();
  }
  if (std::filesystem::is_directory(path))
    return Diagnostic{ErrorKind::io, fmt::format("cannot read {}: it is a folder", path), {}, 0};
  std::ifstream file(path, std::ios::binary);
  if (file) text << file.rdbuf();
  if (!file || (text.fail() && !text.str().empty()))
    return Diagnostic{ErrorKind::io, fmt::format("cannot read {}", path), {}, 0};
  return text.str();
}

Result<Graph> read_graph(const std::string& path, const std::string& precision) {
  const auto text = read_text(path);
  if (!text) return text.error();
  auto graph = parse_graph(*text);
  if (!graph) return graph;
  if (Diagnostics errors = verify(*graph); !errors.empty()) return errors;
  if (precision.empty()) return graph;
  const auto policy = parse_precision_policy(precision);
  if (!policy) return invalid("--precision {} is not known; f32, f32_fma, f32_x3 and bf16 are", precision);
  graph->precision = *policy;
  return graph;
}

Result<Engine> open_engine(const EngineOptions& options) {
  auto engine = Engine::create(options);
  if (!engine) return engine;
  // Under TILEWRIGHT_VERBOSE the engine has said it.
  if (const std::string& warning = engine->disk_cache().warning(); !warning.empty() && !environment().verbose)
    fmt::print(stderr, "tilewright: {}\n", warning);
  return engine;
}

Result<std::optional<CpuIsa>> parse_isa_option(const std::string& text) {
  if (text.empty()) return std::optional<CpuIsa>();
  const auto isa = parse_cpu_isa(text);
  if (!isa) return invalid("--isa {} is not known; avx2, avx512, amx and amx-emulated are", text);
  return isa;
}

Result<std::pair<std::string, std::string>> split_assignment(const std::string& option, const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
    return invalid("{} {} is not of the form NAME=VALUE", option, text);
  const size_t start = text[0] == '%' ? 1 : 0;
  return std::pair{text.substr(start, equals - start), text.substr(equals + 1)};
}

Result<int64_t> parse_integer(const std::string& what, const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return invalid("{} is {}, which overflows 64 bits", what, text);
  if (error != std::errc() || end != text.data() + text.size())
    return invalid("{} is '{}', not an integer", what, text);
  return value;
}

Result<DimBindings> parse_dims(const std::vector<std::string>& options) {
  DimBindings dims;
  for (const std::string& option : options) {
    const auto parts = split_assignment("--dim", option);
    if (!parts) return parts.error();
    const auto size = parse_integer("dim " + parts->first, parts->second);
    if (!size) return size.error();
    if (*size < 0) return invalid("dim {} has the negative size {}", parts->first, *size);
    const auto [at, added] = dims.emplace(parts->first, *size);
    if (!added && at->second != *size)
      return invalid("dim {} is given two sizes, {} and {}", parts->first, at->second, *size);
  }
  return dims;
}

DimBindings add_default_dims(const Graph& graph, DimBindings& dims) {
  DimBindings added;
  for (const ValueId param : graph.params)
    for (const Dim& dim : graph.type(param).shape)
      for (const auto& [name, coefficient] : dim.terms())
        if (!dims.contains(name)) added[name] = dims[name] = name == "B" ? 1 : 512;
  return added;
}

std::string bytes_text(int64_t bytes) {
  const char* units[] = {"B", "KB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  for (; value >= 1024 && unit < 4; ++unit) value /= 1024;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.{}f} {}", value, value < 10 ? 1 : 0, units[unit]);
}

}  // namespace tilewright::cli
