// tilewright cache ls|verify|prune: the kernels that are kept between processes.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <sstream>

#include "cli/cli.h"
#include "runtime/cache_file.h"
#include "runtime/compile_jobs.h"
#include "runtime/cuda/cubin.h"
#include "runtime/cuda/cubin_cache.h"
#include "runtime/options.h"

namespace tilewright::cli {
namespace {

struct CacheOptions {
  std::string what = "ls", dir;
  int64_t limit_mb = DiskCache::kDefaultLimit >> 20;
  bool json = false;
};

/// Of a CPU's kernel, out of its key (kernel_key): the template and its ISA from the third line, then the step, whose
/// tensors are one per line as "%t0: f32[B,8,Sq,64]". A GPU's key begins with what it was compiled for.
struct KernelText {
  std::string kernel, step;
};
bool is_cubin(std::string_view key) { return key.starts_with("cubin "); }

KernelText what_it_is(const std::string& key) {
  std::istringstream in(key);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  if (is_cubin(key) || lines.size() < 4) return {lines.empty() ? "" : lines[0], ""};
  KernelText text{lines[2].substr(0, lines[2].find(" lanes")), lines[3].substr(0, lines[3].find_first_of(" ("))};
  for (const std::string& line : lines) {
    const size_t start = line.find_first_not_of(' ');
    if (start == std::string::npos || line[start] != '%') continue;  // results follow their operands and are like them
    const size_t type = line.find(": ", start);
    if (type == std::string::npos) continue;
    const size_t end = line.find_first_of("])", type);
    text.step += " " + line.substr(type + 2, end == std::string::npos ? end : end - type - 1);
  }
  return text;
}

/// What only who runs the entry would find.
std::string problem_of_payload(const DiskCache& cache, const DiskCacheEntry& entry) {
  const auto bytes = read_whole(cache.folder() + "/" + entry.file);
  const auto file = bytes ? decode_cache_file(*bytes) : Result<CacheFile>(bytes.error());
  if (!file) return file.error().list.front().message;
  if (!is_cubin(entry.key)) return problem_of_kernel(file->payload);
  const auto binary = decode_binary(file->payload);
  return binary && read_cubin(binary->cubin) ? "" : "what it holds is no cubin";
}

int cache_command(const CacheOptions& options) {
  if (options.what != "ls" && options.what != "verify" && options.what != "prune")
    return fail(fmt::format("cache knows ls, verify and prune, not {}", options.what), options.json);
  if (options.limit_mb < 0) return fail(fmt::format("--limit is {} MB, less than 0", options.limit_mb), options.json);
  const std::string folder = options.dir.empty() ? environment().cache_dir : options.dir;
  if (folder.empty())
    return fail("there is no cache folder: TILEWRIGHT_CACHE_DIR is off, or HOME is not set", options.json);
  // Who only looks makes no folder: one that was named is expected there, our own may not have been needed yet.
  const bool there = access(folder.c_str(), F_OK) == 0;
  if (!there && !options.dir.empty()) return fail(fmt::format("there is no folder {}", folder), options.json);
  const DiskCache cache = there ? DiskCache::open(folder) : DiskCache();
  if (!cache.warning().empty()) return fail(cache.warning(), options.json);

  Json json = {{"folder", folder}};
  if (options.what == "prune") json["removed"] = cache.prune(options.limit_mb << 20);
  std::vector<DiskCacheEntry> entries = cache.list(true);
  if (options.what == "verify")
    for (DiskCacheEntry& entry : entries)
      if (entry.problem.empty()) entry.problem = problem_of_payload(cache, entry);
  int64_t bytes = 0, bad = 0;
  json["entries"] = Json::array();
  for (const DiskCacheEntry& entry : entries) {
    bytes += entry.bytes;
    bad += !entry.problem.empty();
    const KernelText text = what_it_is(entry.key);
    json["entries"].push_back({{"file", entry.file},
                               {"bytes", entry.bytes},
                               {"used", entry.used_ns / 1'000'000'000},
                               {"problem", entry.problem},
                               {"template", text.kernel},
                               {"step", text.step},
                               {"key", entry.key}});
  }
  json["bytes"] = bytes;
  json["unsound"] = bad;
  const int code = options.what == "verify" && bad > 0 ? kWrongResult : kOk;
  if (options.json) {
    fmt::print("{}\n", json.dump(2));
    return code;
  }
  for (const DiskCacheEntry& entry : entries) {
    if (options.what != "ls" && entry.problem.empty()) continue;
    const KernelText text = what_it_is(entry.key);
    fmt::print("{}  {:>8}  {:%Y-%m-%d %H:%M}  {}\n", entry.file.substr(0, 12), bytes_text(entry.bytes),
               fmt::localtime(static_cast<std::time_t>(entry.used_ns / 1'000'000'000)),
               entry.problem.empty() ? fmt::format("{} | {}", text.kernel, text.step) : "UNSOUND: " + entry.problem);
  }
  if (options.what == "prune") fmt::print("removed {} files\n", json["removed"].get<int64_t>());
  fmt::print("{}: {} kernels, {}, {} unsound\n", folder, entries.size(), bytes_text(bytes), bad);
  return code;
}

}  // namespace

void add_cache(CommandLine& line) {
  Command command = line.add("cache", "list, check or shrink what compiled kernels are kept on disk");
  auto options = std::make_shared<CacheOptions>();
  command.required("WHAT", options->what, "ls, verify (exit code 1 when an entry is unsound) or prune");
  command.option("--dir", options->dir, "the folder; else what TILEWRIGHT_CACHE_DIR or the system says");
  command.option("--limit", options->limit_mb, "prune: MB to keep, those used last");
  command.flag("--json", options->json, "print JSON");
  command.action([options] { return cache_command(*options); });
}

}  // namespace tilewright::cli
