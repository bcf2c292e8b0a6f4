// tilewright cache ls|verify|prune: the kernels that are kept between processes.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include "cli/cli.h"
#include "runtime/options.h"

namespace tilewright::cli {
namespace {

struct CacheOptions {
  std::string what = "ls", dir;
  int64_t limit_mb = DiskCache::kDefaultLimit >> 20;
  bool json = false;
};

/// The graph's name and the template out of an entry's key, whose third and fourth line they stand in.
std::string what_it_is(const std::string& key) {
  size_t begin = 0;
  std::string lines[4];
  for (std::string& line : lines) {
    const size_t end = std::min(key.find('\n', begin), key.size());
    line = key.substr(begin, end - begin);
    begin = std::min(end + 1, key.size());
  }
  return fmt::format("{} | {}", lines[2].substr(0, lines[2].find(" lanes")), lines[3].substr(0, lines[3].find('(')));
}

int cache_command(const CacheOptions& options) {
  if (options.what != "ls" && options.what != "verify" && options.what != "prune")
    return fail(fmt::format("cache knows ls, verify and prune, not {}", options.what), options.json);
  if (options.limit_mb < 0) return fail(fmt::format("--limit is {} MB, less than 0", options.limit_mb), options.json);
  const std::string folder = options.dir.empty() ? environment().cache_dir : options.dir;
  if (folder.empty())
    return fail("there is no cache folder: TILEWRIGHT_CACHE_DIR is off, or HOME is not set", options.json);
  const DiskCache cache = DiskCache::open(folder);
  if (!cache.warning().empty()) return fail(cache.warning(), options.json);

  Json json = {{"folder", folder}};
  if (options.what == "prune") json["removed"] = cache.prune(options.limit_mb << 20);
  const std::vector<DiskCacheEntry> entries = cache.list(true);
  int64_t bytes = 0, bad = 0;
  json["entries"] = Json::array();
  for (const DiskCacheEntry& entry : entries) {
    bytes += entry.bytes;
    bad += !entry.problem.empty();
    json["entries"].push_back({{"file", entry.file},
                               {"bytes", entry.bytes},
                               {"used", entry.used_ns / 1'000'000'000},
                               {"problem", entry.problem}});
  }
  json["bytes"] = bytes;
  json["unsound"] = bad;
  const int code = options.what == "verify" && bad > 0 ? kWrongResult : kOk;
  if (options.json) {
    fmt::print("{}\n", json.dump(2));
    return code;
  }
  for (const DiskCacheEntry& entry : entries)
    if (options.what == "ls" || !entry.problem.empty())
      fmt::print("{}  {:>8}  {:%Y-%m-%d %H:%M}  {}\n", entry.file.substr(0, 12), bytes_text(entry.bytes),
                 fmt::localtime(static_cast<std::time_t>(entry.used_ns / 1'000'000'000)),
                 entry.problem.empty() ? what_it_is(entry.key) : "UNSOUND: " + entry.problem);
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
