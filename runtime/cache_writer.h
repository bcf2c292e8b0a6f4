// CacheWriter: stores entries in the background, so that nobody who compiles waits for a disk.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "runtime/disk_cache.h"

namespace tilewright {

class CacheWriter {
 public:
  explicit CacheWriter(DiskCache cache) : cache_(std::move(cache)) {}
  /// Writes what is still waiting.
  ~CacheWriter();
  CacheWriter(const CacheWriter&) = delete;
  CacheWriter& operator=(const CacheWriter&) = delete;

  const DiskCache& cache() const { return cache_; }
  /// Thread-safe; the thread starts with the first entry. Entries beyond the longest queue are dropped.
  void store(std::string key, std::string payload);

 private:
  static constexpr size_t kLongestQueue = 256;
  void run();

  DiskCache cache_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<std::string, std::string>> waiting_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace tilewright
