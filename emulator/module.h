// EmulatedModule: the kernels of a CudaSource built for the CPU, ready to be launched.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "codegen/cuda/cuda_source.h"
#include "emulator/launch.h"
#include "emulator/tensor_map.h"
#include "ir/result.h"
#include "runtime/options.h"

namespace tilewright {

struct EmulatedBuildOptions {
  std::string cxx = environment().cxx;              ///< the compiler's command; empty = the first that is found
  std::string cache_dir = environment().cache_dir;  ///< built modules are kept there by hash; empty = not kept
  /// Undefined behaviour of the text (overflow, shifts, misaligned pointers, indices over arrays), and plain loads and
  /// stores outside of a launch's buffers, end the launch with a sentence.
  bool checked = true;
};

/// One launch of one kernel.
struct EmulatedLaunch {
  std::string symbol;
  int64_t blocks = 0;
  int64_t threads = 0;
  int64_t shared_bytes = 0;
  std::span<const uint64_t> args;                  ///< the words of Args
  std::span<const EmulatedTensorMap> tensor_maps;  ///< of the phase, in its order
  int64_t blocks_per_multiprocessor = 1;           ///< that share the registers
};

/// Copies share the built code. Launches of one module take turns.
class EmulatedModule {
 public:
  /// Errors: no compiler, or what it says about the text; one sentence.
  static Result<EmulatedModule> build(const CudaSource& source, const EmulatedBuildOptions& options = {});

  /// Runs the kernel to its end. Errors: what the launch lacks, or the first thing that a thread did wrong.
  Result<EmulatorStatistics> launch(const EmulatedLaunch& launch, const EmulatorOptions& options = {}) const;

 private:
  struct Code;
  std::shared_ptr<Code> code_;
};

/// The text that is built: primitives with their emulated bodies, the parts, an entry for each phase.
std::string emulator_text(const CudaSource& source, const EmulatedBuildOptions& options = {});

}  // namespace tilewright
