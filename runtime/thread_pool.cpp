// The built-in pool. A run's caller works as worker 0 and afterwards takes every index that no helper has claimed, so a
// run never waits for a sleeping or busy helper, and runs may nest or come from several threads at once.
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/executor.h"

namespace tilewright {
namespace {

constexpr int kSpins = 2000;  // pauses, some tens of microseconds: the gap between two phases

struct Job {
  const std::function<void(int)>* task = nullptr;
  int workers = 0;
  int next = 1;                  // guarded by the pool's mutex
  std::atomic<int> finished{1};  // worker 0 counts as finished: it is the waiter
  Job* later = nullptr;
};

class ThreadPool final : public Executor {
 public:
  explicit ThreadPool(int workers) : workers_(workers) {
    spin_ = static_cast<unsigned>(workers) <= std::thread::hardware_concurrency();
    for (int i = 1; i < workers; ++i) helpers_.emplace_back([this] { help(); });
  }

  ~ThreadPool() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      posted_.fetch_add(1);
    }
    wake_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
  }

  int workers() const override { return workers_; }

  void run(const std::function<void(int)>& task) override {
    if (workers_ == 1) return task(0);
    Job job{&task, workers_};
    {
      std::lock_guard lock(mutex_);
      job.later = first_;
      first_ = &job;
      posted_.fetch_add(1);
    }
    wake_.notify_all();
    task(0);
    int own = 0;
    for (int worker = claim(job); worker >= 0; worker = claim(job)) {
      task(worker);
      ++own;
    }
    const int others = workers_ - own;
    for (int i = 0; spin_ && i < kSpins && job.finished.load(std::memory_order_acquire) != others; ++i) _mm_pause();
    if (job.finished.load(std::memory_order_acquire) == others) return;
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return job.finished.load(std::memory_order_acquire) == others; });
  }

 private:
  /// Next index of `job`, or -1; the job leaves the list with its last index.
  int claim(Job& job) {
    std::lock_guard lock(mutex_);
    return claim_locked(job);
  }

  int claim_locked(Job& job) {
    if (job.next >= job.workers) return -1;
    const int worker = job.next++;
    if (job.next == job.workers) {
      Job** link = &first_;
      while (*link != &job) link = &(*link)->later;
      *link = job.later;
    }
    return worker;
  }

  void help() {
    uint64_t seen = 0;
    for (;;) {
      for (int i = 0; spin_ && i < kSpins && posted_.load(std::memory_order_relaxed) == seen; ++i) _mm_pause();
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || first_; });
      if (!first_) return;
      Job& job = *first_;
      const int worker = claim_locked(job);
      seen = posted_.load(std::memory_order_relaxed);
      lock.unlock();
      (*job.task)(worker);
      lock.lock();
      job.finished.fetch_add(1, std::memory_order_release);
      lock.unlock();  // `job` may be gone from here on
      done_.notify_all();
    }
  }

  int workers_;
  bool spin_ = true;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* first_ = nullptr;
  bool stopping_ = false;
  std::atomic<uint64_t> posted_{0};
  std::vector<std::thread> helpers_;
};

}  // namespace

std::shared_ptr<Executor> make_thread_pool(int threads) {
  if (threads <= 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return std::make_shared<ThreadPool>(std::min(threads, 1024));
}

}  // namespace tilewright
