// Compile times, the cache, and memory-limited long sequences.
#include <stdlib.h>

#include <filesystem>

#include "bench/row_context.h"

namespace tilewright::bench {

Result<Done> compile_rows(const RowContext& context) {
  const std::string group = "compile";
  struct Case {
    const char* name;
    Scores scores;
  };
  for (const Case& test : {Case{"f32 d64 full, cold", Scores::plain}, Case{"f32 d64 causal, cold", Scores::causal}}) {
    if (!context.wanted(group, test.name)) continue;
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
    context.emit({group, test.name, fmt::format("{:.1f} ms", series[0].median()), stages, series[0].median(), 15, false,
                  "ms", series[0].spread()});
  }
  if (context.wanted(group, "disk-cache hit")) {
    const Graph graph = attention_graph({DType::f32, 8, 8, 64}, Scores::causal);
    std::string folder = (std::filesystem::temp_directory_path() / "tilewright.XXXXXX").string();
    TW_CHECK(mkdtemp(folder.data()) != nullptr);
    const auto compile_anew = [&] {  // engines share nothing but the folder
      const auto engine = Engine::create({.cache_dir = folder});
      const auto kernel = engine->compile(graph);
      TW_CHECK(kernel.ok());
      return std::pair{kernel->stats().total_ms, kernel->stats().kernels_from_disk};
    };
    compile_anew();
    const int from_disk = compile_anew().second;
    const auto series = measure_interleaved({[&] { return compile_anew().first; }}, {0.2, 20, 200});
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
    Row row{group,
            "disk-cache hit",
            fmt::format("{:.2f} ms", series[0].median()),
            fmt::format("{} kernels", from_disk),
            series[0].median(),
            2,
            false,
            "ms",
            series[0].spread()};
    if (from_disk == 0) row.fall_back = "nothing came from disk";
    context.emit(row);
  }
  if (context.wanted(group, "memory-cache hit")) {
    const Graph graph = attention_graph({DType::f32, 8, 8, 64}, Scores::causal);
    TW_CHECK(context.engine.compile(graph).ok());
    const auto series = measure_interleaved({[&] {
                                              return seconds_of([&] {
                                                for (int i = 0; i < 100; ++i)
                                                  TW_CHECK(context.engine.compile(graph).ok());
                                              });
                                            }},
                                            {0.1, 20, 200});
    const double each = series[0].median() * 1e4;
    context.emit(
        {group, "memory-cache hit", fmt::format("{:.2f} us", each), "", each, 10, false, "us", series[0].spread()});
  }
  return Done{};
}

Result<Done> memory_rows(const RowContext& context) {
  const std::string group = "memory limit, of the rate without", name = "h1 d64 S131072 causal, 4 MB";
  if (!context.wanted(group, name)) return Done{};
  constexpr int64_t kLimit = 4 << 20;
  const int64_t size = 131072;
  const auto subject =
      context.compile(attention_graph({DType::f32, 1, 1, 64}, Scores::causal), {{"B", 1}, {"Sq", size}, {"Sk", size}});
  if (!subject) return subject.error();
  const auto& executor = context.engine.executor();
  const auto memory = subject->kernel().memory_estimate(subject->dims(), executor->workers(), kLimit);
  if (!memory) return memory.error();
  const auto series = measure_interleaved(
      {[&] { return subject->run(executor, TimeOf::wall, kLimit); }, [&] { return subject->run(executor); }},
      {0, 1, 1});
  const double limited = series[0].median(), free = series[1].median();
  Row row{group,
          name,
          fmt::format("{:.2f} s, {} KB in all", limited, (memory->scratch + memory->workspace) >> 10),
          fmt::format("unlimited {:.2f} s", free),
          100 * free / limited,
          85,
          true,
          "%",
          0};
  RowContext::expect(row, *subject, CpuTemplate::prefill);
  if (memory->scratch + memory->workspace >= kLimit) row.fall_back = "it takes 4 MB or more";
  context.emit(row);
  return Done{};
}

}  // namespace tilewright::bench
