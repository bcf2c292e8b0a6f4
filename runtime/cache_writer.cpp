#include "runtime/cache_writer.h"

namespace tilewright {

CacheWriter::~CacheWriter() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void CacheWriter::store(std::string key, std::string payload) {
  if (!cache_.usable()) return;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() >= kLongestQueue) return;
    waiting_.emplace_back(std::move(key), std::move(payload));
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  }
  changed_.notify_one();
}

void CacheWriter::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closing_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    const auto [key, payload] = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    cache_.store(key, payload);
    lock.lock();
  }
}

}  // namespace tilewright
