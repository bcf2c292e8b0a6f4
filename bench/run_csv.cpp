#include <cmath>

#include "bench/run_file.h"

namespace tilewright::bench {
namespace {

class CsvLine {
 public:
  void add(std::string_view text) {
    if (!first_) line_ += ',';
    first_ = false;
    if (text.find_first_of(",\"\r\n") == std::string_view::npos) {
      line_ += text;
      return;
    }
    line_ += '"';
    for (const char c : text) {
      if (c == '"') line_ += '"';
      line_ += c;
    }
    line_ += '"';
  }
  /// Shortest text that reads back; empty where there is no number.
  void add(double value) { add(std::isfinite(value) ? fmt::format("{}", value) : std::string()); }
  void add(const Figure& figure) {
    add(figure.median);
    add(figure.low);
    add(figure.high);
  }
  std::string take() { return std::move(line_) + "\r\n"; }

 private:
  std::string line_;
  bool first_ = true;
};

std::string device_text(const DeviceFacts& device) {
  return fmt::format("{}, {} cores, L1d {} L2 {} L3 {} bytes, {}", device.isa, device.cores, device.l1_bytes,
                     device.l2_bytes, device.l3_bytes, device.features);
}

constexpr std::string_view kColumns =
    "group,name,verdict,value,value_low,value_high,unit,bar,bar_is,ms,ms_low,ms_high,rate,rate_unit,limit_name,limit,"
    "limit_low,limit_high,limit_unit,template,schedule,scratch_bytes,workspace_bytes,note,void_because,skipped_because,"
    "device,code\r\n";

}  // namespace

std::string to_csv(const BenchRun& run) {
  std::string text(kColumns);
  for (const Row& row : run.rows) {
    CsvLine line;
    line.add(row.group);
    line.add(row.name);
    line.add(to_string(row.verdict()));
    line.add(row.value);
    line.add(row.unit);
    line.add(row.bar ? fmt::format("{}", row.bar->target) : "");
    line.add(!row.bar ? "" : row.bar->at_least ? "at least" : "at most");
    line.add(row.ms);
    line.add(row.rate());
    line.add(row.rate_unit);
    line.add(row.limit_name);
    line.add(row.limit);
    line.add(row.limit_unit);
    line.add(row.kernel);
    line.add(row.schedule);
    line.add(fmt::format("{}", row.scratch_bytes));
    line.add(fmt::format("{}", row.workspace_bytes));
    line.add(row.note);
    line.add(row.fall_back);
    line.add(row.skipped);
    line.add(device_text(run.device));
    line.add(run.code);
    text += line.take();
  }
  return text;
}

}  // namespace tilewright::bench
