// An in-memory cache with one maker per key: whoever asks second waits for the first instead of compiling again.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "ir/result.h"
#include "runtime/graph_key.h"

namespace tilewright {

template <class Value>
class SharedCache {
 public:
  using Pointer = std::shared_ptr<const Value>;

  explicit SharedCache(size_t capacity) : capacity_(capacity) {}

  /// The value of `key`, or null when it is not there or still being made.
  Pointer find(const std::string& key) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(key);
    if (found == entries_.end() || !found->second.value) return nullptr;
    found->second.used = ++clock_;
    return found->second.value;
  }

  /// The value of `key`; `make` runs on a miss and its errors are not kept. `hit` says whether it was there.
  Result<Pointer> get(const std::string& key, bool& hit, const std::function<Result<Pointer>()>& make) {
    std::unique_lock lock(mutex_);
    for (;;) {
      const auto found = entries_.find(key);
      if (found == entries_.end()) break;
      if (found->second.value) {
        found->second.used = ++clock_;
        hit = true;
        return found->second.value;
      }
      made_.wait(lock);
    }
    hit = false;
    entries_.emplace(key, Entry{});
    lock.unlock();
    Result<Pointer> made = make();
    lock.lock();
    if (made) {
      entries_[key] = {*made, ++clock_};
      evict();
    } else {
      entries_.erase(key);
    }
    lock.unlock();
    made_.notify_all();
    return made;
  }

 private:
  struct Entry {
    Pointer value;  // null while being made
    uint64_t used = 0;
  };
  struct Hash {
    size_t operator()(const std::string& key) const { return hash_key(key).low; }
  };

  /// Drops the entries that were used longest ago; kernels in use live on.
  void evict() {
    while (entries_.size() > capacity_) {
      auto oldest = entries_.end();
      for (auto it = entries_.begin(); it != entries_.end(); ++it)
        if (it->second.value && (oldest == entries_.end() || it->second.used < oldest->second.used)) oldest = it;
      if (oldest == entries_.end()) return;
      entries_.erase(oldest);
    }
  }

  std::mutex mutex_;
  std::condition_variable made_;
  std::unordered_map<std::string, Entry, Hash> entries_;
  size_t capacity_;
  uint64_t clock_ = 0;
};

}  // namespace tilewright
