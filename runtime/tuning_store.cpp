#include "runtime/tuning_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "codegen/cpu/target_features.h"
#include "compiler/shape_class.h"
#include "runtime/cache_file.h"
#include "runtime/disk_cache.h"
#include "runtime/options.h"

namespace tilewright {
namespace {

/// What the file holds; nothing, with a line for people, when it is not there or cannot be used.
Result<TuningDatabase> read_database(const std::string& file) {
  const auto bytes = read_whole(file);
  if (!bytes) return bytes.error();
  int64_t left_out = 0;
  auto database = TuningDatabase::parse(bytes->bytes, left_out);
  if (database && left_out > 0)
    say_verbose(fmt::format("{}: {} entries are not used, they are malformed", file, left_out));
  return database;
}

/// Writers of one folder, one at a time, over threads and processes.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder)
      : descriptor_(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (descriptor_ >= 0) flock(descriptor_, LOCK_EX);
  }
  ~FolderLock() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_;
};

std::string folder_of(const std::string& file) {
  const std::string folder = std::filesystem::path(file).parent_path().string();
  return folder.empty() ? "." : folder;
}

Diagnostic not_overwritten(const std::string& file, const Diagnostics& why) {
  return {ErrorKind::io, fmt::format("{} is not overwritten: {}", file, why.list.front().message), {}, 0};
}

bool exists(const std::string& file) { return access(file.c_str(), F_OK) == 0; }

/// `use_when` and length <= bound.
Expr within(const Expr& use_when, const Expr& length, int64_t bound) {
  Expr expr;
  const ExprId a = expr.import(use_when), b = expr.import(length);
  const ExprId fits = expr.op(Op::le, DType::boolean, {b, expr.constant_int(bound, DType::i64)});
  expr.set_root(use_when.is_constant_true() ? fits : expr.op(Op::logical_and, DType::boolean, {a, fits}));
  return expr.pruned();
}

TuningDatabase parse_shipped() {
  TuningDatabase all;
  for (const std::string_view text : shipped_tunings()) {
    int64_t left_out = 0;
    auto one = TuningDatabase::parse(text, left_out);
    TW_CHECK(one.ok() && left_out == 0);
    all.merge(*one);
  }
  return all;
}

}  // namespace

std::unique_ptr<TuningStore> open_tuning(const std::string& wanted, const std::string& cache_folder) {
  if (wanted == "off") return nullptr;
  if (!wanted.empty()) return std::make_unique<TuningStore>(wanted, false);
  return std::make_unique<TuningStore>(cache_folder.empty() ? "" : cache_folder + "/tuning.json", true);
}

std::unique_ptr<TuningStore> open_environment_tuning(const std::string& wanted) {
  const DiskCache cache = DiskCache::open(environment().cache_dir);
  return open_tuning(wanted.empty() ? environment().tuning : wanted, cache.usable() ? cache.folder() : "");
}

TuningStore::TuningStore(std::string file, bool owned)
    : file_(std::move(file)), owned_(owned), shipped_(std::make_shared<const TuningDatabase>(parse_shipped())) {
  TuningDatabase own;
  if (!file_.empty() && exists(file_)) {
    if (auto read = read_database(file_))
      own = std::move(*read);
    else
      say_verbose(fmt::format("{} is not used: {}", file_, read.error().list.front().message));
  }
  user_ = std::make_shared<const TuningDatabase>(std::move(own));
}

TuningStore::Snapshot TuningStore::user() const {
  const std::lock_guard lock(mutex_);
  return user_;
}

namespace {

/// The entry's schedule where it is legal; else a line for people.
template <class Schedule, class Target>
std::optional<Schedule> checked(const TuningEntry* entry, const Schedule& rules, const ScheduledStep& step,
                                const Target& target) {
  if (!entry) return {};
  auto schedule = tuned_schedule(*entry, rules, step, target);
  if (schedule) return std::move(*schedule);
  say_verbose(fmt::format("a tuned schedule of '{}' is not used: {}", entry->shape_class,
                          schedule.error().list.front().message));
  return {};
}

/// `look_up` gives the schedule that was measured for a choice's class at a bucket, if any.
template <class Choice, class ClassOf, class LookUp>
void apply_to(std::vector<Choice>& planned, const ScheduledStep& step, const ClassOf& class_of, const LookUp& look_up) {
  std::vector<Choice> choices;
  for (Choice& choice : planned) {
    const auto rules = choice.schedule;
    const ClassTemplate kernel = class_of(rules);
    const auto in_bucket = [&](size_t bucket) { return look_up(rules, shape_class(kernel, step, bucket)); };
    const Expr length = class_length(kernel, step);
    if (const auto known = constant_length(length)) {
      if (auto tuned = in_bucket(length_bucket(*known))) choice.schedule = std::move(*tuned);
      choices.push_back(std::move(choice));
      continue;
    }
    // One choice per run of buckets that agree; the last one takes whatever is longer.
    std::vector<std::remove_const_t<decltype(rules)>> by_bucket;
    for (size_t bucket = 0; bucket < kBuckets; ++bucket) by_bucket.push_back(in_bucket(bucket).value_or(rules));
    for (size_t bucket = 0; bucket < kBuckets; ++bucket) {
      const bool last = bucket + 1 == kBuckets;
      if (!last && same_choice(by_bucket[bucket], by_bucket[bucket + 1])) continue;
      Choice one = choice;
      one.schedule = std::move(by_bucket[bucket]);
      if (!last) one.use_when = within(choice.use_when, length, kLengthBuckets[bucket]);
      choices.push_back(std::move(one));
    }
  }
  planned = std::move(choices);
}

}  // namespace

void TuningStore::apply(CpuPlan& plan, const ScheduledStep& step, const CpuTarget& target) const {
  const Snapshot own = user();
  if (own->size() + shipped_->size() == 0) return;
  apply_to(
      plan.choices, step, [](const CpuSchedule& rules) { return class_template(rules); },
      [&](const CpuSchedule& rules, const std::string& shape) {
        const TuningEntry* entry = own->find(device_fingerprint(target), codegen_version(), shape);
        if (!entry) entry = shipped_->find(device_family(target), {}, shape);
        return checked(entry, rules, step, target);
      });
}

void TuningStore::apply(CudaPlan& plan, const ScheduledStep& step, const CudaTarget& target,
                        const MeasuredWith& with) const {
  const Snapshot own = user();
  if (own->size() == 0 || std::holds_alternative<const LoopStep*>(step)) return;
  apply_to(
      plan.choices, step, [&](const CudaSchedule& rules) { return class_template(rules, target); },
      [&](const CudaSchedule& rules, const std::string& shape) {
        return checked(own->find(with.device, with.compiler, shape), rules, step, target);
      });
}

Result<Done> TuningStore::check_writable() const {
  if (owned_) return Done{};
  if (exists(file_))
    if (const auto now = read_database(file_); !now) return not_overwritten(file_, now.error());
  const std::string folder = folder_of(file_);
  if (access(folder.c_str(), W_OK | X_OK) != 0)
    return Diagnostic{
        ErrorKind::io,
        fmt::format("the tuning database {} cannot be written: {}", file_, std::generic_category().message(errno)),
        {},
        0};
  return Done{};
}

void TuningStore::remember(const std::vector<TuningEntry>& entries) {
  const std::lock_guard lock(mutex_);
  TuningDatabase merged = *user_;
  for (const TuningEntry& entry : entries) merged.put(entry);
  user_ = std::make_shared<const TuningDatabase>(std::move(merged));
  generation_.fetch_add(1, std::memory_order_release);
}

Result<Done> TuningStore::add(const std::vector<TuningEntry>& entries) {
  remember(entries);
  if (file_.empty()) return Diagnostic{ErrorKind::io, "there is no kernel cache to keep it in", {}, 0};

  TuningDatabase merged = *user();
  const FolderLock lock(folder_of(file_));
  if (exists(file_)) {
    auto now = read_database(file_);
    if (!now && !owned_) return not_overwritten(file_, now.error());
    if (now) {
      for (const TuningEntry& entry : entries) now->put(entry);
      merged = std::move(*now);
    }
  }
  return replace_file(file_, merged.text());
}

}  // namespace tilewright
