// DiskCache: bytes by key in a folder that many processes share, and that anything may have happened to.
//
// One file per entry, named by the hash of its key:
//
//   offset  bytes
//   0       8   "twkcache"
//   8       4   format version, little-endian like all that follows
//   12      4   0
//   16      8   bytes of the key
//   24      8   bytes of the payload
//   32     16   XXH3-128 of the key and the payload, with the two sizes as its seed
//   48          the key, then the payload, then nothing
//
// A file is read whole and believed when every field, the length of the file and the echoed key agree; anything else is
// a miss, and the next store replaces it. Writers fill a file of their own, sync it and rename it, so that readers and
// killed writers never meet half an entry. What is stored is run as code: the folder must belong to this user and be
// closed to all others, or it is not used.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ir/result.h"

namespace tilewright {

struct DiskCacheEntry {
  std::string file;  ///< name in the folder
  int64_t bytes = 0;
  int64_t used_ns = 0;  ///< last use, nanoseconds since 1970
  std::string problem;  ///< why it would be a miss, one sentence; empty when it is sound
  std::string key;      ///< of a sound entry
};

class DiskCache {
 public:
  static constexpr int64_t kDefaultLimit = int64_t{256} << 20;

  /// Makes the folder (mode 0700) when it is not there. Never fails: a folder that cannot be made or trusted, or an
  /// empty name, leaves the cache off, and warning() says why in one sentence.
  static DiskCache open(const std::string& folder, int64_t limit_bytes = kDefaultLimit);

  bool usable() const { return warning_.empty() && !folder_.empty(); }
  const std::string& warning() const { return warning_; }
  const std::string& folder() const { return folder_; }

  struct Lookup {
    std::optional<std::string> payload;
    std::string problem;  ///< why an entry that is there is a miss, one sentence
  };
  /// What is stored under the key. Marks the entry as used. Thread-safe.
  Lookup find(const std::string& key) const;
  /// False when it could not be stored (disk full, read-only): the caller goes on without. Entries unused for longest
  /// are removed first when the folder grows over its limit. Thread-safe.
  bool store(const std::string& key, const std::string& payload) const;

  /// Every entry, those used last first; with `check`, each is read and judged.
  std::vector<DiskCacheEntry> list(bool check) const;
  /// Removes what is not sound, then what was unused for longest until at most `limit_bytes` are left, and files of
  /// writers that died. Gives the number of files removed.
  int64_t prune(int64_t limit_bytes) const;

 private:
  std::string path_of(const std::string& key) const;

  std::string folder_, warning_;
  int64_t limit_bytes_ = kDefaultLimit;
};

}  // namespace tilewright
