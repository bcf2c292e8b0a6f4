#include "runtime/cache_file.h"

#define XXH_INLINE_ALL
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace tilewright {
namespace {

constexpr std::string_view kCacheMagic = "twkcache";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeader = 48;
constexpr int64_t kLargestCacheFile = int64_t{1} << 30;

struct Checksum {
  uint64_t low, high;
  friend bool operator==(const Checksum&, const Checksum&) = default;
};

/// Of key and payload, which lie one behind the other.
Checksum checksum(std::string_view body, uint64_t key_bytes, uint64_t payload_bytes) {
  const XXH128_hash_t hash =
      XXH3_128bits_withSeed(body.data(), body.size(), key_bytes * 0x9E3779B97F4A7C15u + payload_bytes);
  return {hash.low64, hash.high64};
}

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T get(std::string_view bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

Diagnostic io_error(const char* what) {
  return {ErrorKind::io, fmt::format("{}: {}", what, std::generic_category().message(errno)), {}, 0};
}

/// A name that no other writer has, in this process or another.
std::string temporary_name() {
  static std::atomic<uint64_t> counter{0};
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return fmt::format("{}{}-{}-{}", kTemporaryPrefix, getpid(), counter.fetch_add(1),
                     std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

/// A file descriptor that is closed.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

/// A new file, on the disk when this returns true. On false a part of it may be there.
bool write_synced(const std::string& path, const std::string& bytes) {
  const Descriptor file{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
  if (file.fd < 0) return false;
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = write(file.fd, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<size_t>(count);
  }
  return fsync(file.fd) == 0;
}

}  // namespace

Result<FileBytes> read_whole(const std::string& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) return io_error("it cannot be opened");
  struct stat info{};
  if (fstat(file.fd, &info) != 0) return io_error("it cannot be read");
  if (!S_ISREG(info.st_mode)) return invalid("it is no regular file");
  if (info.st_uid != geteuid()) return invalid("it belongs to user {}", info.st_uid);
  if (info.st_size > kLargestCacheFile)
    return invalid("it has {} bytes; at most {} are read", info.st_size, kLargestCacheFile);
  FileBytes out{std::string(static_cast<size_t>(info.st_size), '\0'),
                info.st_mtim.tv_sec * int64_t{1'000'000'000} + info.st_mtim.tv_nsec};
  size_t done = 0;
  while (done < out.bytes.size()) {
    const ssize_t count = read(file.fd, out.bytes.data() + done, out.bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io_error("it cannot be read");
    if (count == 0) return invalid("it ends after {} of {} bytes", done, out.bytes.size());
    done += static_cast<size_t>(count);
  }
  return out;
}

Result<Done> replace_file(const std::string& path, const std::string& bytes) {
  const std::string temporary = (std::filesystem::path(path).parent_path() / temporary_name()).string();
  if (write_synced(temporary, bytes) && rename(temporary.c_str(), path.c_str()) == 0) return Done{};
  Diagnostic error = io_error(("cannot write " + path).c_str());
  unlink(temporary.c_str());
  return error;
}

std::string encode_cache_file(std::string_view key, std::string_view payload) {
  std::string body(key);
  body += payload;
  const Checksum sum = checksum(body, key.size(), payload.size());
  std::string out(kCacheMagic);
  put(out, kVersion);
  put(out, uint32_t{0});
  put<uint64_t>(out, key.size());
  put<uint64_t>(out, payload.size());
  put(out, sum.low);
  put(out, sum.high);
  return out + body;
}

Result<CacheFile> decode_cache_file(const FileBytes& file) {
  const std::string_view bytes = file.bytes;
  if (bytes.size() < kHeader) return invalid("it has {} bytes, less than a header ({})", bytes.size(), kHeader);
  if (!bytes.starts_with(kCacheMagic)) return invalid("it does not begin with {}", kCacheMagic);
  if (const auto version = get<uint32_t>(bytes, 8); version != kVersion)
    return invalid("it has format {}; this build reads {}", version, kVersion);
  if (get<uint32_t>(bytes, 12) != 0) return invalid("its reserved field is not 0");
  const auto key_bytes = get<uint64_t>(bytes, 16), payload_bytes = get<uint64_t>(bytes, 24);
  const std::string_view body = bytes.substr(kHeader);
  if (key_bytes > body.size() || payload_bytes != body.size() - key_bytes)
    return invalid("it says {} + {} bytes and has {}", key_bytes, payload_bytes, body.size());
  const Checksum said{get<uint64_t>(bytes, 32), get<uint64_t>(bytes, 40)};
  if (!(said == checksum(body, key_bytes, payload_bytes))) return invalid("its checksum is wrong");
  return CacheFile{body.substr(0, key_bytes), body.substr(key_bytes)};
}

}  // namespace tilewright
