// What the commands share: exit codes, failures, reading graphs, dim options.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "ir/graph.h"
#include "runtime/engine.h"

namespace tilewright::cli {

using Json = nlohmann::ordered_json;

enum ExitCode : int { kOk = 0, kWrongResult = 1, kBadInput = 2 };

/// Prints the sentences on stderr (and, for --json, an object with "errors" on stdout); returns kBadInput.
int fail(const Diagnostics& diagnostics, bool json, const std::string& file = {});
int fail(const std::string& sentence, bool json);

/// Reads and parses a graph file; "-" is stdin. The graph is verified, too. `precision`: a policy instead of the
/// graph's own, "" for none.
Result<Graph> read_graph(const std::string& path, const std::string& precision = {});
/// What --precision says of itself.
inline constexpr const char* kPrecisionHelp =
    "f32, f32_fma, f32_x3 or bf16 products of f32, instead of the graph's own";
Result<std::string> read_text(const std::string& path);

/// An engine that says on stderr, once, why kernels are not kept on disk although they should be.
Result<Engine> open_engine(const EngineOptions& options = {});
/// What --isa asks for; nullopt = the option is not there.
Result<std::optional<CpuIsa>> parse_isa_option(const std::string& text);
inline constexpr const char* kIsaHelp = "avx2, avx512, amx or amx-emulated, instead of the best that this CPU has";

/// "Sq=2048" → its parts. Errors: a sentence naming the option.
Result<std::pair<std::string, std::string>> split_assignment(const std::string& option, const std::string& text);
Result<int64_t> parse_integer(const std::string& what, const std::string& text);
Result<DimBindings> parse_dims(const std::vector<std::string>& options);

/// Names of dims that no option has bound get their default (B 1, others 512); returns what was added.
DimBindings add_default_dims(const Graph& graph, DimBindings& dims);

/// "1.5 MB", "12 KB", "0 B"; powers of 1024.
std::string bytes_text(int64_t bytes);

/// Every command adds itself: its options and what it does.
void add_verify(CommandLine& line);
void add_fuse(CommandLine& line);
void add_gradient(CommandLine& line);
void add_emit(CommandLine& line);
void add_run(CommandLine& line);
void add_bench(CommandLine& line);
void add_devices(CommandLine& line);
void add_demo(CommandLine& line);
void add_cache(CommandLine& line);
void add_tune(CommandLine& line);

}  // namespace tilewright::cli
