// The part of a compile that takes time: one job per kernel (a step's choice), run on several threads.
#pragma once

#include <optional>

#include "codegen/cpu/cpu_codegen.h"
#include "runtime/compile.h"

namespace tilewright {

struct CompileJob {
  size_t step = 0;                         ///< the first that takes its kernel; equal steps share one job
  const TileProgram* program = nullptr;    ///< attention,
  const BackwardSpec* backward = nullptr;  ///< or its backward pass,
  const LoopStep* loop = nullptr;          ///< or a loop
  CpuSchedule schedule;
  std::string symbol_prefix;
  std::string key;  ///< kernel_key, where anything asks for it

  // Results.
  std::optional<LaunchInfo> launch;
  std::shared_ptr<const JitCode> code;
  std::vector<KernelFunction> functions;  ///< by phase; empty when nothing is linked
  std::vector<StageTime> stages;
  std::string emitted_ir, final_ir, assembly;
  int64_t code_bytes = 0, ir_instructions = 0;
  bool from_disk = false;
  Diagnostics errors;
};

/// Whether this build generates code. Without LLVM run_jobs is never called.
bool generates_code();
void run_jobs(std::vector<CompileJob>& jobs, const CompileRequest& request);
/// Why the payload of an entry of the disk cache would be a miss; empty when it links. Without LLVM nothing is known.
std::string problem_of_kernel(std::string_view payload);

}  // namespace tilewright
