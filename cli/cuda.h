// GPU targets of the commands: cuda, cuda-emu and cuda:sm_90a.
#pragma once

#include "cli/cli.h"
#include "cli/outputs.h"
#include "emulator/emulator_device.h"
#include "runtime/cuda/cuda_device.h"
#include "runtime/cuda/cuda_program.h"

namespace tilewright::cli {

/// "cuda…": not for the CPU.
bool is_cuda_target(const std::string& name);

/// Where `run` runs: "cuda-emu" or "cuda-emu:sm_80" is the emulator, "cuda" or "cuda:1" a device by its number.
struct CudaRunTarget {
  std::string name;                             ///< "the emulator of sm_80", "NVIDIA H200"
  std::shared_ptr<EmulatedExecution> emulated;  ///< null on a device
  std::shared_ptr<const CudaDevice> device;
};
Result<CudaRunTarget> open_cuda_target(const std::string& name);
/// "cuda:sm_90a" of `emit`.
Result<CudaTarget> parse_emit_target(const std::string& name);
/// Of the first GPU here that runs code for that architecture; nobody's where there is none.
MeasuredWith measured_here(const CudaTarget& target);

struct CudaRunCommand {
  std::string file, target, dump_dir;
  std::vector<std::string> dims, inputs;
  std::vector<OutputFile> outputs;
  uint64_t seed = 1;
  int executions = 0;  ///< on the emulator; 0: two
  bool json = false, verify = false, require_fused = false, generic = false;
};
int run_on_cuda(const Graph& graph, const CudaRunCommand& command);

struct CudaTuneCommand {
  std::string target, database;
  std::vector<std::string> files, dims;
  double budget = 60;
  int candidates = 32;
  bool twins = true, json = false;
};
int tune_on_cuda(const CudaTuneCommand& command);

/// Stages cu, ptx, sass and census, and those that it shares with the CPU, of every kernel of the graph.
int emit_cuda(const Graph& graph, const std::string& file, const std::string& stage, const std::string& target,
              bool generic, bool json);

/// Each primitive on a target of `run` and on the emulator, from case `first` on: a line a case as it ends, exit code 1
/// when they disagree.
int run_conformance_cases(const std::string& target, int first, bool json);

/// What of CUDA this machine has.
Json cuda_json();
std::string cuda_text();

}  // namespace tilewright::cli
