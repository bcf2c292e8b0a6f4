#include "bench/run_file.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "bench/comparison.h"
#include "codegen/cpu/target_features.h"

namespace tilewright::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "tilewright bench 1";

Json json_of(const Figure& figure) { return {{"median", figure.median}, {"low", figure.low}, {"high", figure.high}}; }

Json json_of(const DeviceFacts& device) {
  return {{"isa", device.isa},           {"features", device.features}, {"cores", device.cores},
          {"l1_bytes", device.l1_bytes}, {"l2_bytes", device.l2_bytes}, {"l3_bytes", device.l3_bytes}};
}

Json json_of(const Row& row) {
  Json json = {{"group", row.group}, {"name", row.name}, {"verdict", to_string(row.verdict())}};
  json["ms"] = json_of(row.ms);
  json["work"] = row.work;
  json["rate"] = row.rate();
  json["rate_unit"] = row.rate_unit;
  json["limit"] = json_of(row.limit);
  json["limit_name"] = row.limit_name;
  json["limit_unit"] = row.limit_unit;
  json["value"] = json_of(row.value);
  json["unit"] = row.unit;
  json["bar"] = row.bar ? Json{{"target", row.bar->target}, {"at_least", row.bar->at_least}} : Json();
  json["template"] = row.kernel;
  json["schedule"] = row.schedule;
  json["scratch_bytes"] = row.scratch_bytes;
  json["workspace_bytes"] = row.workspace_bytes;
  json["note"] = row.note;
  json["fall_back"] = row.fall_back;
  json["skipped"] = row.skipped;
  return json;
}

Json json_of(const Comparison& comparison) {
  Json changes = Json::array();
  for (const Change& change : comparison.changes) {
    Json json = {{"group", change.group}, {"name", change.name}, {"outcome", to_string(change.outcome)}};
    if (!change.what.empty())
      json.update({{"what", change.what},
                   {"before", json_of(change.before)},
                   {"after", json_of(change.after)},
                   {change.points ? "change_points" : "change_percent", change.percent}});
    if (!change.why.empty()) json["why"] = change.why;
    changes.push_back(std::move(json));
  }
  return {{"device_differences", comparison.device_differences}, {"rows", std::move(changes)}};
}

/// Reads fields of one object and keeps the first complaint; what cannot be read is left as it was.
class FieldReader {
 public:
  FieldReader(const Json& json, std::string path, std::string& complaint)
      : json_(json), path_(std::move(path)), complaint_(complaint) {
    if (!json_.is_object()) complain(path_.empty() ? "it" : path_, "is no object");
  }

  void read(const char* key, std::string& out) {
    if (const Json* field = find(key, &Json::is_string, "is no string")) out = printable(field->get<std::string>());
  }
  void read(const char* key, int64_t& out) {
    if (const Json* field = find(key, &Json::is_number_integer, "is no integer")) out = field->get<int64_t>();
  }
  void read(const char* key, bool& out) {
    if (const Json* field = find(key, &Json::is_boolean, "is not true or false")) out = field->get<bool>();
  }
  /// JSON has no NaN: null stands for it.
  void read(const char* key, double& out) {
    const Json* field = find(key, nullptr, "");
    if (field && !field->is_null() && !field->is_number()) return complain(name(key), "is no number");
    if (field) out = field->is_null() ? std::numeric_limits<double>::quiet_NaN() : field->get<double>();
  }
  void read(const char* key, Figure& out) {
    if (const Json* field = find(key, nullptr, "")) {
      FieldReader figure(*field, name(key), complaint_);
      figure.read("median", out.median);
      figure.read("low", out.low);
      figure.read("high", out.high);
    }
  }
  void read(const char* key, std::optional<Bar>& out) {
    const Json* field = find(key, nullptr, "");
    if (!field || field->is_null()) return;
    FieldReader bar(*field, name(key), complaint_);
    bar.read("target", out.emplace().target);
    bar.read("at_least", out->at_least);
  }
  /// nullptr: it is not there, or is not as `is` wants it.
  const Json* find(const char* key, bool (Json::*is)() const noexcept, const char* what) {
    if (!json_.is_object()) return nullptr;
    const auto at = json_.find(key);
    if (at == json_.end()) complain(name(key), "is missing");
    if (at == json_.end()) return nullptr;
    if (!is || ((*at).*is)()) return &*at;
    complain(name(key), what);
    return nullptr;
  }

 private:
  /// Files come from anywhere and texts go to terminals.
  static std::string printable(std::string text) {
    std::replace_if(text.begin(), text.end(), [](unsigned char c) { return c < 32 || c == 127; }, '?');
    return text;
  }
  std::string name(const char* key) const { return path_.empty() ? key : path_ + "." + key; }
  void complain(const std::string& field, const char* what) {
    if (complaint_.empty()) complaint_ = field + " " + what;
  }

  const Json& json_;
  std::string path_;
  std::string& complaint_;
};

Row row_of(const Json& json, const std::string& path, std::string& complaint) {
  Row row;
  FieldReader reader(json, path, complaint);
  reader.read("group", row.group);
  reader.read("name", row.name);
  reader.read("ms", row.ms);
  reader.read("work", row.work);
  reader.read("rate_unit", row.rate_unit);
  reader.read("limit", row.limit);
  reader.read("limit_name", row.limit_name);
  reader.read("limit_unit", row.limit_unit);
  reader.read("value", row.value);
  reader.read("unit", row.unit);
  reader.read("bar", row.bar);
  reader.read("template", row.kernel);
  reader.read("schedule", row.schedule);
  reader.read("scratch_bytes", row.scratch_bytes);
  reader.read("workspace_bytes", row.workspace_bytes);
  reader.read("note", row.note);
  reader.read("fall_back", row.fall_back);
  reader.read("skipped", row.skipped);
  return row;
}

}  // namespace

DeviceFacts facts_of(const CpuTarget& target) {
  return {std::string(to_string(target.isa)),
          target_features(target),
          target.cores,
          target.l1_bytes,
          target.l2_bytes,
          target.l3_bytes};
}

std::string differences(const DeviceFacts& a, const DeviceFacts& b) {
  const Json left = json_of(a), right = json_of(b);
  std::string text;
  for (const auto& [key, value] : left.items())
    if (value != right[key])
      text += fmt::format("{}{} {} / {}", text.empty() ? "" : ", ", key,
                          value.is_string() ? value.get<std::string>() : value.dump(),
                          value.is_string() ? right[key].get<std::string>() : right[key].dump());
  return text;
}

std::string to_json(const BenchRun& run, const Comparison* changes) {
  Json json = {{"format", kFormat}, {"device", json_of(run.device)}};
  json["code"] = run.code;
  json["seconds"] = run.seconds;
  json["load_average"] = run.load_average;
  json["rows"] = Json::array();
  for (const Row& row : run.rows) json["rows"].push_back(json_of(row));
  if (changes) json["comparison"] = json_of(*changes);
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

Result<BenchRun> parse_run(const std::string& text, const std::string& name) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::parse_error& error) {
    return invalid("{} is not JSON from byte {} on", name, error.byte);
  }
  if (!json.is_object() || !json.contains("format") || !json["format"].is_string())
    return invalid("{} holds no run of tilewright bench: it has no format", name);
  if (json["format"] != kFormat)
    return invalid("{} is of format '{}'; this build reads '{}'", name, json["format"].get<std::string>(), kFormat);
  BenchRun run;
  std::string complaint;
  FieldReader reader(json, "", complaint);
  if (const Json* device = reader.find("device", &Json::is_object, "is no object")) {
    FieldReader facts(*device, "device", complaint);
    facts.read("isa", run.device.isa);
    facts.read("features", run.device.features);
    facts.read("cores", run.device.cores);
    facts.read("l1_bytes", run.device.l1_bytes);
    facts.read("l2_bytes", run.device.l2_bytes);
    facts.read("l3_bytes", run.device.l3_bytes);
  }
  reader.read("code", run.code);
  reader.read("seconds", run.seconds);
  reader.read("load_average", run.load_average);
  if (const Json* rows = reader.find("rows", &Json::is_array, "is no array"))
    for (size_t i = 0; i < rows->size(); ++i)
      run.rows.push_back(row_of((*rows)[i], fmt::format("rows[{}]", i), complaint));
  if (!complaint.empty()) return invalid("{} is damaged: {}", name, complaint);
  return run;
}

}  // namespace tilewright::bench
