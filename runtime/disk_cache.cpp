#include "runtime/disk_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <tuple>

#include "runtime/cache_file.h"
#include "runtime/graph_key.h"

namespace tilewright {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".twk";
constexpr int64_t kAbandonedNs = int64_t{3600} * 1'000'000'000;  // a writer is done in milliseconds
constexpr int64_t kRefreshNs = int64_t{60} * 1'000'000'000;      // marking a use costs a system call

int64_t nanoseconds(const timespec& time) { return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec; }

int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  return nanoseconds(time);
}

std::string last_error() { return std::generic_category().message(errno); }

/// Why the folder must not be used; empty when it may.
std::string distrust(const std::string& folder) {
  struct stat info{};
  if (lstat(folder.c_str(), &info) != 0) return fmt::format("{} cannot be read: {}", folder, last_error());
  if (!S_ISDIR(info.st_mode)) return fmt::format("{} is no folder", folder);
  if (info.st_uid != geteuid())
    return fmt::format("{} belongs to user {}, not to {}, who runs this", folder, info.st_uid, geteuid());
  if (info.st_mode & 077)
    return fmt::format("{} has mode {:o}; others must not get in (700)", folder, info.st_mode & 0777);
  return {};
}

struct Found {
  std::string name;
  int64_t bytes, used_ns;
};

/// The entries, and apart from them what writers that died left behind.
void scan(const std::string& folder, std::vector<Found>& entries, std::vector<std::string>& abandoned) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const bool temporary = name.starts_with(kTemporaryPrefix);
    struct stat info{};
    if ((!temporary && !name.ends_with(kSuffix)) || lstat(it->path().c_str(), &info) != 0) continue;
    if (!temporary)
      entries.push_back({name, info.st_size, nanoseconds(info.st_mtim)});
    else if (now_ns() - nanoseconds(info.st_mtim) > kAbandonedNs)
      abandoned.push_back(name);
  }
  std::sort(entries.begin(), entries.end(),
            [](const Found& a, const Found& b) { return std::tie(b.used_ns, b.name) < std::tie(a.used_ns, a.name); });
}

int64_t remove_oldest(const std::string& folder, int64_t limit_bytes) {
  std::vector<Found> entries;
  std::vector<std::string> abandoned;
  scan(folder, entries, abandoned);
  int64_t removed = 0, kept_bytes = 0;
  for (const std::string& name : abandoned) removed += unlink((folder + "/" + name).c_str()) == 0;
  for (const Found& entry : entries) {
    kept_bytes += entry.bytes;
    if (kept_bytes > limit_bytes) removed += unlink((folder + "/" + entry.name).c_str()) == 0;
  }
  return removed;
}

}  // namespace

DiskCache DiskCache::open(const std::string& folder, int64_t limit_bytes) {
  DiskCache cache;
  cache.limit_bytes_ = limit_bytes;
  if (folder.empty()) return cache;
  cache.folder_ = folder;
  std::error_code error;
  const fs::path parent = fs::path(folder).parent_path();
  if (!parent.empty()) fs::create_directories(parent, error);
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    cache.warning_ = fmt::format("the kernel cache is off: {} cannot be made: {}", folder, last_error());
  else if (std::string why = distrust(folder); !why.empty())
    cache.warning_ = "the kernel cache is off: " + why;
  return cache;
}

DiskCache::Lookup DiskCache::find(const std::string& key) const {
  if (!usable()) return {};
  const std::string path = path_of(key);
  struct stat info{};
  if (lstat(path.c_str(), &info) != 0) return {};
  const auto miss = [&](const std::string& why) { return Lookup{{}, fmt::format("{} is not used: {}", path, why)}; };
  auto bytes = read_whole(path);
  if (!bytes) return miss(bytes.error().list.front().message);
  auto entry = decode_cache_file(*bytes);
  if (!entry) return miss(entry.error().list.front().message);
  if (entry->key != key) return miss("it holds another key");
  if (now_ns() - bytes->modified_ns > kRefreshNs) utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
  return {std::string(entry->payload), {}};
}

bool DiskCache::store(const std::string& key, const std::string& payload) const {
  if (!usable()) return false;
  const std::string bytes = encode_cache_file(key, payload);
  if (static_cast<int64_t>(bytes.size()) > limit_bytes_) return false;
  if (!replace_file(path_of(key), bytes)) return false;
  remove_oldest(folder_, limit_bytes_);
  return true;
}

std::string DiskCache::path_of(const std::string& key) const {
  return fmt::format("{}/{}{}", folder_, full_hex(hash_key(key)), kSuffix);
}

std::vector<DiskCacheEntry> DiskCache::list(bool check) const {
  std::vector<DiskCacheEntry> out;
  if (!usable()) return out;
  std::vector<Found> entries;
  std::vector<std::string> abandoned;
  scan(folder_, entries, abandoned);
  for (const Found& found : entries) {
    DiskCacheEntry entry{found.name, found.bytes, found.used_ns, {}, {}};
    if (check) {
      auto bytes = read_whole(folder_ + "/" + found.name);
      auto decoded = bytes ? decode_cache_file(*bytes) : Result<CacheFile>(bytes.error());
      if (!decoded)
        entry.problem = decoded.error().list.front().message;
      else if (path_of(std::string(decoded->key)) != folder_ + "/" + found.name)
        entry.problem = "its name is not the hash of its key";
      else
        entry.key = decoded->key;
    }
    out.push_back(std::move(entry));
  }
  return out;
}

int64_t DiskCache::prune(int64_t limit_bytes) const {
  if (!usable()) return 0;
  int64_t removed = 0;
  for (const DiskCacheEntry& entry : list(true))
    if (!entry.problem.empty()) removed += unlink((folder_ + "/" + entry.file).c_str()) == 0;
  return removed + remove_oldest(folder_, limit_bytes);
}

}  // namespace tilewright
