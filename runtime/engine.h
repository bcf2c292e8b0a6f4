// The public API: Engine compiles graphs, Kernel runs them.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "compiler/program.h"
#include "compiler/schedule.h"
#include "ir/graph.h"
#include "ir/tensor_view.h"
#include "runtime/executor.h"

namespace tilewright {

/// Milliseconds per stage of one compile.
struct StageTime {
  std::string stage;
  double milliseconds = 0;
};

/// What happened to one step, for manifests and people.
struct StepReport {
  std::string name;
  bool fused = false;  ///< attention or its backward pass
  std::vector<CpuPlan::Refusal> refused;
  std::vector<CpuSchedule> schedules;  ///< what was compiled, in order of preference
  std::vector<std::string> use_when;   ///< one per schedule, in words
  int64_t scratch_bytes = 0;           ///< per worker, the largest
  int64_t code_bytes = 0;
  int64_t ir_instructions = 0;
};

struct CompileStats {
  std::vector<StageTime> stages;
  double total_ms = 0;
  bool cache_hit = false;
  int graph_ops = 0;  ///< before
  int steps = 0;      ///< after
  int fused_attentions = 0;
  int fused_backwards = 0;
  std::vector<FusionNote> not_fused;
  std::vector<FusionNote> kept_rows;  ///< as Program::kept_rows
  std::vector<StepReport> step_reports;
};

/// Bytes, before anything runs.
struct MemoryEstimate {
  int64_t outputs = 0;
  int64_t scratch = 0;    ///< all workers
  int64_t workspace = 0;  ///< temporaries, packed K/V and split states, as the limit allows
  int64_t unfused = 0;    ///< what the graph's intermediate values take when each is materialised
};

struct CompileOptions {
  bool require_fused = false;  ///< anything unfused is an error
  bool force_generic = false;
  std::string dump_dir;  ///< overrides TILEWRIGHT_DUMP
  bool use_cache = true;
  bool verify_modules = false;  ///< LLVM verifier on every module
  /// No fusion: every op is a step of its own with its value in memory. For comparison, never for use.
  bool materialise = false;
  ScheduleOverride tiles;         ///< of fused attention, instead of what the rules choose
  std::optional<CpuIsa> max_isa;  ///< caps the engine's ISA for this kernel
};

struct RunOptions {
  std::shared_ptr<Executor> executor;  ///< null = the engine's pool
  void* workspace = nullptr;           ///< 64-byte aligned; null = allocated for the call
  int64_t workspace_bytes = 0;         ///< size of `workspace`
  /// Limit on shared memory beyond inputs and outputs when `workspace` is null; -1 = none. Under it K/V are packed on
  /// the fly.
  int64_t workspace_limit = -1;
};

class Kernel {
 public:
  /// inputs in signature order (inout params included), outputs in return order; all caller-owned and strided.
  /// Thread-safe; errors leave outputs untouched.
  Result<Done> run(std::span<const TensorView> inputs, std::span<const TensorView> outputs,
                   const RunOptions& options = {}) const;

  /// Shapes of the results under the bindings.
  Result<std::vector<std::vector<int64_t>>> result_shapes(const DimBindings& dims) const;
  /// Dims solved from real inputs.
  Result<DimBindings> bind(std::span<const TensorView> inputs) const;
  /// Workspace to give to `run` so that nothing is allocated, all fast paths included.
  Result<int64_t> workspace_bytes(const DimBindings& dims, int workers) const;
  /// Under a limit that is too small for `run`, the least that it needs.
  Result<MemoryEstimate> memory_estimate(const DimBindings& dims, int workers, int64_t workspace_limit = -1) const;

  /// Per step of program(), which of its StepReport::schedules runs at these dims.
  Result<std::vector<size_t>> choices(const DimBindings& dims) const;

  const Graph& graph() const;  ///< as given
  const Program& program() const;
  const CompileStats& stats() const;
  const std::string& dump_path() const;  ///< empty when nothing was dumped

  struct State;
  explicit Kernel(std::shared_ptr<const State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<const State> state_;
};

struct EngineOptions {
  int threads = 0;                ///< 0 = TILEWRIGHT_THREADS or one per core
  std::optional<CpuIsa> max_isa;  ///< caps the detected ISA further than TILEWRIGHT_MAX_ISA
};

class Engine {
 public:
  static Result<Engine> create(const EngineOptions& options = {});
  /// Compiles, or takes a kernel of the same canonical graph from the in-memory cache. Thread-safe.
  Result<Kernel> compile(const Graph& graph, const CompileOptions& options = {}) const;
  const CpuTarget& target() const;
  std::shared_ptr<Executor> executor() const;

  struct State;
  explicit Engine(std::shared_ptr<State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<State> state_;
};

}  // namespace tilewright
