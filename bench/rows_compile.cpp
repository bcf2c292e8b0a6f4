// Compile times, the cache, and memory-limited long sequences.
#include <stdlib.h>

#include <filesystem>

#include "bench/row_context.h"

namespace tilewright::bench {
namespace {

/// What was compiled, whichever template it is.
void tell_schedule(Row& row, const Kernel& kernel) {
  RowContext::expect(row, kernel, {{"B", 1}, {"Sq", 4096}, {"Sk", 4096}}, CpuTemplate::prefill);
  row.fall_back.clear();
}

}  // namespace

Result<Done> compile_rows(const RowContext& context) {
  if (context.plan_only()) return Done{};
  const auto row_named = [](const char* name, const char* unit, double target) {
    return Row{.group = "compile", .name = name, .unit = unit, .bar = Bar{target, false}};
  };
  struct Case {
    const char* name;
    Scores scores;
  };
  for (const Case& test : {Case{"f32 d64 full, cold", Scores::plain}, Case{"f32 d64 causal, cold", Scores::causal}}) {
    Row row = row_named(test.name, "ms", 15);
    if (!context.wanted(row)) continue;
    const Graph graph = attention_graph({DType::f32, 8, 8, 64}, test.scores);
    CompileOptions options;
    options.use_cache = false;
    Diagnostics errors;
    std::string stages;
    const auto series = measure_interleaved({[&] {
                                              const auto kernel = context.engine.compile(graph, options);
                                              if (!kernel) {
                                                errors = kernel.error();
                                                return 0.0;
                                              }
                                              stages.clear();
                                              for (const StageTime& stage : kernel->stats().stages)
                                                if (stage.milliseconds >= 0.3)
                                                  stages += fmt::format("{}{} {:.1f}", stages.empty() ? "" : ", ",
                                                                        stage.stage, stage.milliseconds);
                                              return kernel->stats().total_ms;
                                            }},
                                            {0.5, 7, 50});
    if (!errors.empty()) return errors;
    tell_schedule(row, *context.engine.compile(graph, options));
    row.ms = row.value = series[0].figure();
    row.note = stages;
    context.emit(row);
  }
  if (Row row = row_named("disk-cache hit", "ms", 2); context.wanted(row)) {
    const Graph graph = attention_graph({DType::f32, 8, 8, 64}, Scores::causal);
    std::string folder = (std::filesystem::temp_directory_path() / "tilewright.XXXXXX").string();
    TW_CHECK(mkdtemp(folder.data()) != nullptr);
    const auto compile_anew = [&] {  // engines share nothing but the folder
      const auto engine = Engine::create({.cache_dir = folder});
      const auto kernel = engine->compile(graph);
      TW_CHECK(kernel.ok());
      return *kernel;
    };
    compile_anew();
    const Kernel found = compile_anew();
    const int from_disk = found.stats().kernels_from_disk;
    tell_schedule(row, found);
    const auto series = measure_interleaved({[&] { return compile_anew().stats().total_ms; }}, {0.2, 20, 200});
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
    row.ms = row.value = series[0].figure();
    row.note = fmt::format("{} kernels", from_disk);
    if (from_disk == 0) row.fall_back = "nothing came from disk";
    context.emit(row);
  }
  if (Row row = row_named("memory-cache hit", "us", 10); context.wanted(row)) {
    const Graph graph = attention_graph({DType::f32, 8, 8, 64}, Scores::causal);
    const auto kernel = context.engine.compile(graph);
    TW_CHECK(kernel.ok());
    tell_schedule(row, *kernel);
    const auto series = measure_interleaved({[&] {
                                              return seconds_of([&] {
                                                for (int i = 0; i < 100; ++i)
                                                  TW_CHECK(context.engine.compile(graph).ok());
                                              });
                                            }},
                                            {0.1, 20, 200});
    row.ms = series[0].figure(1e3 / 100);
    row.value = series[0].figure(1e6 / 100);
    context.emit(row);
  }
  return Done{};
}

Result<Done> memory_rows(const RowContext& context) {
  Row row{
      .group = "memory limit, of the rate without", .name = "h1 d64 S131072 causal, 4 MB", .unit = "%", .bar = Bar{85}};
  if (!context.wanted(row)) return Done{};
  constexpr int64_t kLimit = 4 << 20;
  const int64_t size = 131072;
  const RowKernel kernel{attention_graph({DType::f32, 1, 1, 64}, Scores::causal),
                         {{"B", 1}, {"Sq", size}, {"Sk", size}},
                         {CpuTemplate::prefill}};
  const auto& executor = context.engine.executor();
  const auto prepared = context.subject(row, kernel, executor->workers());
  if (!prepared) return prepared.error();
  if (!*prepared) return Done{};
  const auto& subject = *prepared;
  const auto memory = subject->kernel().memory_estimate(subject->dims(), executor->workers(), kLimit);
  if (!memory) return memory.error();
  const auto series = measure_interleaved(
      {[&] { return subject->run(executor, TimeOf::wall, kLimit); }, [&] { return subject->run(executor); }},
      {0, 1, 1});
  row.ms = milliseconds(series[0]);
  row.work = 4.0 * 64 * static_cast<double>(size) * static_cast<double>(size) / 2;
  row.rate_unit = "GFLOP/s";
  set_time_limit(row, "unlimited", series[1]);
  row.value = Figure::exactly(100 * series[1].median() / series[0].median());
  row.scratch_bytes = memory->scratch;
  row.workspace_bytes = memory->workspace;
  if (memory->scratch + memory->workspace >= kLimit) row.fall_back = "it takes 4 MB or more";
  context.emit(row);
  return Done{};
}

}  // namespace tilewright::bench
