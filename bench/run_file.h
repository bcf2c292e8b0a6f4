// A run of the benchmark as a file: what was measured, on what machine, by what code.
#pragma once

#include <string>
#include <vector>

#include "bench/rows.h"
#include "ir/target.h"

namespace tilewright::bench {

/// What figures of two runs must share to be compared as times.
struct DeviceFacts {
  std::string isa;       ///< "avx512"
  std::string features;  ///< LLVM's spelling: "+avx2,+fma,…"
  int64_t cores = 0, l1_bytes = 0, l2_bytes = 0, l3_bytes = 0;

  friend bool operator==(const DeviceFacts&, const DeviceFacts&) = default;
};
DeviceFacts facts_of(const CpuTarget& target);
/// "isa avx2 / avx512, cores 2 / 8": what differs, empty when nothing does.
std::string differences(const DeviceFacts& a, const DeviceFacts& b);

struct BenchRun {
  DeviceFacts device;
  std::string code;         ///< codegen_version(): LLVM's version and a hash of the sources that generate code
  double seconds = 0;       ///< per row, as asked for
  double load_average = 0;  ///< of the system when the run began; what exceeds 0 was there besides it
  std::vector<Row> rows;
};

struct Comparison;

/// Format "tilewright bench 1", see docs/benchmark.md; prints what `parse_run` reads, and what changed besides.
std::string to_json(const BenchRun& run, const Comparison* changes = nullptr);
/// Errors: one sentence, which starts with `name`: no JSON (and from which byte on), no run of the benchmark, another
/// format, a field that is missing or of another type.
Result<BenchRun> parse_run(const std::string& text, const std::string& name);

/// RFC 4180: a header line, one line per row, CR LF, quotes where a field needs them. Columns: docs/benchmark.md.
std::string to_csv(const BenchRun& run);

}  // namespace tilewright::bench
