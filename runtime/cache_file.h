// The file of one cache entry: its bytes, and reading and writing them whole. The format stands in disk_cache.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "ir/result.h"

namespace tilewright {

struct FileBytes {
  std::string bytes;
  int64_t modified_ns = 0;  ///< since 1970
};
/// Follows no link and reads regular files of this user only, up to 1 GiB. Errors say what was found.
Result<FileBytes> read_whole(const std::string& path);
/// Writes a file of its own (mode 0600) beside `path`, syncs it and renames it over `path`, so that readers and killed
/// writers never meet half a file. Errors: one sentence; what was at `path` is still there.
Result<Done> replace_file(const std::string& path, const std::string& bytes);
/// How the names of files begin that replace_file has not renamed yet.
inline constexpr std::string_view kTemporaryPrefix = ".tmp-";

struct CacheFile {
  std::string_view key, payload;  ///< into the bytes that were decoded
};
std::string encode_cache_file(std::string_view key, std::string_view payload);
/// Errors: one sentence on the first field that is wrong.
Result<CacheFile> decode_cache_file(const FileBytes& file);

}  // namespace tilewright
