#include "runtime/background_compiler.h"

#include "runtime/options.h"

namespace tilewright {

void PendingCode::finish(Result<std::shared_ptr<const Compiled>> result) {
  {
    const std::lock_guard lock(mutex_);
    is_done_ = true;
    if (result) {
      code_ = std::move(*result);
      hit_stats_ = code_->stats;
      hit_stats_.cache_hit = true;
      ready_.store(code_.get(), std::memory_order_release);
    } else {
      errors_ = result.error();
    }
  }
  done_.notify_all();
}

Result<Done> PendingCode::wait() const {
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return is_done_; });
  if (!errors_.empty()) return errors_;
  return Done{};
}

Diagnostics PendingCode::errors() const {
  const std::lock_guard lock(mutex_);
  return errors_;
}

BackgroundCompiler::~BackgroundCompiler() {
  std::deque<Job> dropped;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    dropped.swap(jobs_);
  }
  wake_.notify_all();
  for (Job& job : dropped) job.code->finish(unsupported("the engine ended before it had compiled this kernel"));
  if (thread_.joinable()) thread_.join();
}

std::shared_ptr<const PendingCode> BackgroundCompiler::enqueue(Make make) {
  auto code = std::make_shared<PendingCode>();
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back({std::move(make), code});
    if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  }
  wake_.notify_one();
  return code;
}

void BackgroundCompiler::work() {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    auto made = job.make();
    if (!made) say_verbose("compiling in the background failed: " + to_string(made.error()));
    job.code->finish(std::move(made));
  }
}

}  // namespace tilewright
