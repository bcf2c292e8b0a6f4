#include "runtime/engine.h"

#include "codegen/cpu/target_features.h"
#include "runtime/background_compiler.h"
#include "runtime/compile.h"
#include "runtime/compile_jobs.h"
#include "runtime/cpu_detect.h"
#include "runtime/dump.h"
#include "runtime/kernel.h"
#include "runtime/kernel_cache.h"
#include "runtime/options.h"
#include "runtime/tune_graph.h"

namespace tilewright {
namespace {

constexpr size_t kKernelsByGraph = 512;      // keys of the graphs as given
constexpr size_t kKernelsByCanonical = 256;  // compiled programs

Diagnostic too_old() {
  return unsupported("this CPU (or the cap on it) has no AVX2 with FMA and F16C, which kernels need at least");
}

}  // namespace

/// Two levels: the graph as given, serialised cheaply, finds its kernel in microseconds; differently spelled graphs of
/// one canonical form share the compiled program.
struct Engine::State {
  struct KernelPair {
    std::shared_ptr<const Kernel::State> first;  ///< for whoever compiled it
    std::shared_ptr<const Kernel::State> hit;    ///< the same with the statistics of a hit
  };
  CpuTarget target;
  std::shared_ptr<Executor> executor;
  SharedCache<KernelPair> by_graph{kKernelsByGraph};
  SharedCache<Compiled> by_canonical{kKernelsByCanonical};
  std::unique_ptr<CacheWriter> disk;
  PrecisionPolicy precision = PrecisionPolicy::f32;
  std::unique_ptr<TuningStore> tuning;  ///< null = the rules alone

  bool tiered = false;
  BackgroundCompiler background;  // last: its thread uses what stands above

  uint64_t tuning_generation() const { return tuning ? tuning->generation() : 0; }

  using KernelPointer = std::shared_ptr<const Kernel::State>;
  using CompiledPointer = std::shared_ptr<const Compiled>;

  /// The engine's target under the options' cap.
  CpuTarget capped_target(const CompileOptions& options) const {
    CpuTarget capped = target;
    if (options.max_isa && *options.max_isa < capped.isa) capped.isa = *options.max_isa;
    return capped;
  }

  static bool ahead_of_time(const CompileOptions& options) { return options.ahead_of_time || !generates_code(); }

  std::string canonical_key(const FrontEnd& front, const CompileOptions& options) const {
    const CpuTarget used = capped_target(options);
    return fmt::format("{} {} {} {}{}{}{}{} {}x{} {}{} {}\n{}", to_string(used.isa), target_features(used),
                       used.l2_bytes, options.require_fused, options.force_generic, options.verify_modules,
                       options.materialise, ahead_of_time(options), options.tiles.block_q, options.tiles.block_kv,
                       options.use_tuning, tuning_generation(), options.dump_dir, front.canonical_text);
  }

  Result<CompiledPointer> compile_and_dump(const Graph& graph, FrontEnd front, const CompileOptions& options) const {
    const std::string hash = to_string(hash_key(canonical_key(front, options)));
    const std::string& dump_dir = options.dump_dir.empty() ? environment().dump_dir : options.dump_dir;
    // A dump and the verifier want the module itself.
    const bool with_disk = options.use_cache && dump_dir.empty() && !options.verify_modules;
    const CompileRequest request{capped_target(options), options,
                                 !dump_dir.empty(),      with_disk ? disk.get() : nullptr,
                                 ahead_of_time(options), options.use_tuning ? tuning.get() : nullptr};
    if (request.target.isa == CpuIsa::baseline) return too_old();
    auto compilation = request.ahead_of_time ? compile_ahead_of_time(graph, std::move(front), request)
                                             : compile_back(graph, std::move(front), request);
    if (!compilation) return compilation.error();
    const CompileStats& stats = compilation->compiled->stats;
    say_verbose(
        fmt::format("compiled @{} at precision {} in {:.1f} ms: {} steps, {} of them attention, {} kernels from "
                    "disk",
                    graph.name, to_string(stats.precision), stats.total_ms, stats.steps,
                    stats.fused_attentions + stats.fused_backwards, stats.kernels_from_disk));
    if (!dump_dir.empty()) {
      auto folder = write_dump(dump_dir, *compilation, request.target, hash);
      if (!folder) return folder.error();
      compilation->compiled->dump_path = std::move(*folder);
    }
    return CompiledPointer(std::move(compilation->compiled));
  }

  Result<CompiledPointer> compile_or_find(const Graph& graph, FrontEnd front, const CompileOptions& options,
                                          bool& hit) {
    const std::string key = canonical_key(front, options);
    const auto make = [&] { return compile_and_dump(graph, std::move(front), options); };
    return options.use_cache ? by_canonical.get(key, hit, make) : make();
  }

  /// A tiered engine's kernels begin on the tier, unless `generated` asks for code.
  Result<KernelPointer> compile(const Graph& given, const CompileOptions& options, bool generated = false) {
    Graph graph = given;
    if (options.precision) graph.precision = options.precision;
    if (!graph.precision && precision != PrecisionPolicy::f32) graph.precision = precision;
    auto front = compile_front(graph);
    if (!front) return front.error();
    if (tiered && !generated && !ahead_of_time(options))
      if (auto started = start_tiered(graph, *front, options)) return KernelPointer(std::move(started));
    const std::vector<StageTime> front_stages = front->stages;
    bool hit = false;
    auto compiled = compile_or_find(graph, std::move(*front), options, hit);
    if (!compiled) return compiled.error();
    auto state = new_kernel(graph, *compiled);
    if (hit) mark_hit(state->stats, front_stages);
    return KernelPointer(std::move(state));
  }

  /// A kernel on the tier whose code is being made. Null when the tier does not take the graph, when its code is there
  /// already, and when something is wrong with it: the compile that is waited for says what.
  std::shared_ptr<Kernel::State> start_tiered(const Graph& graph, const FrontEnd& front,
                                              const CompileOptions& options) {
    const CpuTarget used = capped_target(options);
    if (used.isa == CpuIsa::baseline) return nullptr;
    if (options.use_cache && by_canonical.find(canonical_key(front, options))) return nullptr;
    CompileRequest request{used, options};
    request.ahead_of_time = true;
    auto compilation = compile_back(graph, front, request);
    if (!compilation) return nullptr;
    auto state = new_kernel(graph, std::move(compilation->compiled));
    state->pending = background.enqueue([this, graph, front, options] {
      bool hit = false;
      return compile_or_find(graph, front, options, hit);
    });
    return state;
  }

  std::shared_ptr<Kernel::State> new_kernel(const Graph& graph, CompiledPointer compiled) const {
    auto state = std::make_shared<Kernel::State>();
    state->graph = graph;
    state->stats = compiled->stats;
    state->compiled = std::move(compiled);
    state->executor = executor;
    state->buffers = std::make_shared<BufferPool>();
    return state;
  }

  Result<std::shared_ptr<const KernelPair>> compile_pair(const Graph& graph, const CompileOptions& options) {
    auto first = compile(graph, options);
    if (!first) return first.error();
    auto hit = std::make_shared<Kernel::State>(**first);
    mark_hit(hit->stats, {});
    return std::make_shared<const KernelPair>(KernelPair{std::move(*first), std::move(hit)});
  }

  static void mark_hit(CompileStats& stats, const std::vector<StageTime>& stages) {
    stats.cache_hit = true;
    stats.stages = stages;
    stats.total_ms = 0;
    for (const StageTime& stage : stages) stats.total_ms += stage.milliseconds;
  }
};

Result<Engine> Engine::create(const EngineOptions& options) {
  const EnvironmentOptions& env = environment();
  if (env.max_isa_unreadable) return invalid("{}", kMaxIsaUnreadable);
  auto state = std::make_shared<State>();
  state->target = detect_cpu();
  if (options.isa) {
    auto wanted = target_at(*options.isa);
    if (!wanted) return wanted.error();
    state->target = *wanted;
  }
  if (options.max_isa && *options.max_isa < state->target.isa) state->target.isa = *options.max_isa;
  if (state->target.isa == CpuIsa::baseline) return too_old();
  state->tiered = options.tiered;
  if (options.threads < 0) return invalid("the engine is asked for {} threads; 0 means one per core", options.threads);
  const int threads = options.threads > 0 ? options.threads : env.threads > 0 ? env.threads : state->target.cores;
  state->executor = make_thread_pool(threads);
  state->precision = options.precision;
  state->disk = std::make_unique<CacheWriter>(
      DiskCache::open(options.cache_dir.value_or(env.cache_dir), options.cache_limit_bytes));
  if (const std::string& warning = state->disk->cache().warning(); !warning.empty()) say_verbose(warning);
  const std::string cache_folder = state->disk->cache().usable() ? state->disk->cache().folder() : "";
  state->tuning = open_tuning(options.tuning.value_or(env.tuning), cache_folder);
  return Engine(std::move(state));
}

Result<Kernel> Engine::compile(const Graph& graph, const CompileOptions& options) const {
  if (!options.use_cache) {
    auto made = state_->compile(graph, options);
    if (!made) return made.error();
    return Kernel(std::move(*made));
  }
  thread_local std::string key;
  serialise_key(graph, options, state_->tuning_generation(), key);
  bool hit = false;
  auto found = state_->by_graph.get(key, hit, [&] { return state_->compile_pair(graph, options); });
  if (!found) return found.error();
  return Kernel(hit ? (*found)->hit : (*found)->first);
}

Result<TuneResult> Engine::tune(const Graph& graph, const DimBindings& dims, const TuneOptions& options) const {
  if (auto ok = check(options); !ok) return ok.error();
  // Nobody searches for a minute to hear then that the result has no place.
  if (options.save && state_->tuning)
    if (auto ok = state_->tuning->check_writable(); !ok) return ok.error();
  CompileOptions by_rules;
  by_rules.use_tuning = false;
  if (!generates_code()) return unsupported("this build was made without LLVM: what it runs has nothing to tune");
  const auto rules = state_->compile(graph, by_rules, true);
  if (!rules) return rules.error();
  return tune_graph({*rules, state_->target, dims, options, state_->tuning.get()});
}

const CpuTarget& Engine::target() const { return state_->target; }
std::shared_ptr<Executor> Engine::executor() const { return state_->executor; }
const DiskCache& Engine::disk_cache() const { return state_->disk->cache(); }

}  // namespace tilewright
