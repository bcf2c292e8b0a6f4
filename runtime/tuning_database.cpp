#include "runtime/tuning_database.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tilewright {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "tilewright tuning 1";
constexpr size_t kLongestText = 1024, kMostEntries = 100'000;

std::optional<std::string> text_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return {};
  const auto& text = found->get_ref<const std::string&>();
  // Printed in reasons and manifests: one line of plain text.
  const bool plain = std::ranges::all_of(text, [](char c) { return c >= ' ' && c < 127; });
  if (text.empty() || text.size() > kLongestText || !plain) return {};
  return text;
}

std::optional<double> rate_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number()) return {};
  const double value = found->get<double>();
  if (!(value > 0 && value <= 1e9)) return {};  // 0 was never measured
  return value;
}

template <class Field>
const Field* field_named(std::span<const Field> fields, std::string_view name) {
  const auto found = std::ranges::find_if(fields, [&](const Field& field) { return field.name == name; });
  return found == fields.end() ? nullptr : &*found;
}

template <class Schedule, class Field, class Target>
Result<Schedule> with_integers(const TuningEntry& entry, Schedule schedule, std::span<const Field> fields,
                               const ScheduledStep& step, const Target& target) {
  for (const auto& [name, value] : entry.integers) {
    const Field* field = field_named(fields, name);
    if (!field) return invalid("no schedule has an integer {}", name);
    schedule.*field->member = value;
  }
  if (auto ok = validate(schedule, step, target); !ok) return ok.error();
  schedule.reasons = {"from the tuning database: " + tuned_reason(entry)};
  return schedule;
}

template <class Schedule, class Field>
void put_integers(TuningEntry& entry, const Schedule& schedule, std::span<const Field> fields) {
  entry.integers.clear();
  for (const Field& field : fields) entry.integers.emplace_back(field.name, schedule.*field.member);
}

std::optional<TuningEntry> parse_entry(const Json& json) {
  if (!json.is_object()) return {};
  auto device = text_of(json, "device"), compiler = text_of(json, "compiler"), shape = text_of(json, "class"),
       date = text_of(json, "date");
  const auto gflops = rate_of(json, "gflops"), rules = rate_of(json, "rules_gflops");
  const auto schedule = json.find("schedule");
  if (!device || !compiler || !shape || !date || !gflops || !rules || schedule == json.end() || !schedule->is_object())
    return {};
  TuningEntry entry{std::move(*device), std::move(*compiler), std::move(*shape), {}, *gflops, *rules, std::move(*date)};
  for (const auto& [name, value] : schedule->items()) {
    if (!(field_named(schedule_fields(), name) || field_named(cuda_schedule_fields(), name)) ||
        !value.is_number_integer())
      return {};
    entry.integers.emplace_back(name, value.get<int64_t>());
  }
  return entry;
}

}  // namespace

std::string device_family(const CpuTarget& target) {
  std::string text(to_string(target.isa));
  if (target.avx512_bf16) text += " bf16";
  if (target.avx512_fp16) text += " fp16";
  const char* cores = target.cores <= 4 ? "1-4" : target.cores <= 16 ? "5-16" : "17+";
  return text + fmt::format(" l1 {} l2 {} cores {}", target.l1_bytes, target.l2_bytes, cores);
}

std::string device_fingerprint(const CpuTarget& target) {
  return fmt::format("{} l3 {} of {}", device_family(target), target.l3_bytes, target.cores);
}

std::string tuned_reason(const TuningEntry& entry) {
  const double times = entry.rules_gflops > 0 ? entry.gflops / entry.rules_gflops : 1;
  return fmt::format("tuned on {}: {:.2f} times the rules' speed (measured {:.4g} GFLOP/s against {:.4g} on {})",
                     entry.device, times, entry.gflops, entry.rules_gflops, entry.date);
}

Result<CpuSchedule> tuned_schedule(const TuningEntry& entry, const CpuSchedule& rules, const ScheduledStep& step,
                                   const CpuTarget& target) {
  return with_integers(entry, rules, schedule_fields(), step, target);
}

Result<CudaSchedule> tuned_schedule(const TuningEntry& entry, const CudaSchedule& rules, const ScheduledStep& step,
                                    const CudaTarget& target) {
  return with_integers(entry, rules, cuda_schedule_fields(), step, target);
}

void set_integers(TuningEntry& entry, const CpuSchedule& schedule) { put_integers(entry, schedule, schedule_fields()); }
void set_integers(TuningEntry& entry, const CudaSchedule& schedule) {
  put_integers(entry, schedule, cuda_schedule_fields());
}

Result<TuningDatabase> TuningDatabase::parse(std::string_view text, int64_t& left_out) {
  left_out = 0;
  if (static_cast<int64_t>(text.size()) > kLargestFile)
    return invalid("it has {} bytes; at most {} are read", text.size(), kLargestFile);
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return invalid("it is no JSON");
  const auto format = json.find("format"), entries = json.find("entries");
  if (!json.is_object() || format == json.end() || !format->is_string() || entries == json.end() ||
      !entries->is_array())
    return invalid("it is no tuning database");
  if (format->get_ref<const std::string&>() != kFormat)
    return invalid("its format is not '{}', which this build reads", kFormat);
  if (entries->size() > kMostEntries)
    return invalid("it has {} entries; at most {} are read", entries->size(), kMostEntries);
  TuningDatabase database;
  for (const Json& one : *entries) {
    if (auto entry = parse_entry(one))
      database.put(std::move(*entry));
    else
      ++left_out;
  }
  return database;
}

std::string TuningDatabase::text() const {
  Json json = {{"format", kFormat}, {"entries", Json::array()}};
  for (const auto& [key, entry] : entries_) {
    Json schedule = Json::object();
    for (const auto& [name, value] : entry.integers) schedule[name] = value;
    json["entries"].push_back({{"device", entry.device},
                               {"compiler", entry.compiler},
                               {"class", entry.shape_class},
                               {"schedule", std::move(schedule)},
                               {"gflops", entry.gflops},
                               {"rules_gflops", entry.rules_gflops},
                               {"date", entry.date}});
  }
  return json.dump(1) + "\n";
}

void TuningDatabase::put(TuningEntry entry) {
  Key key{entry.device, entry.shape_class};
  entries_[std::move(key)] = std::move(entry);
}

void TuningDatabase::merge(const TuningDatabase& other) {
  for (const auto& [key, entry] : other.entries_) put(entry);
}

const TuningEntry* TuningDatabase::find(const std::string& device, const std::string& compiler,
                                        const std::string& shape_class) const {
  const auto found = entries_.find({device, shape_class});
  if (found == entries_.end() || (!compiler.empty() && found->second.compiler != compiler)) return nullptr;
  return &found->second;
}

}  // namespace tilewright
