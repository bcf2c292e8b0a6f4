// CPU code generation: a step and a schedule in, an LLVM module (hidden here) and launch metadata out. Pure.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "codegen/kernel_abi.h"

namespace tilewright {

/// An LLVM module with its context. Movable, usable from one thread at a time.
class CpuModule {
 public:
  struct State;
  explicit CpuModule(std::unique_ptr<State> state);
  CpuModule(CpuModule&&) noexcept;
  CpuModule& operator=(CpuModule&&) noexcept;
  ~CpuModule();
  State& state() { return *state_; }
  std::string text() const;  ///< LLVM IR as it stands now
 private:
  std::unique_ptr<State> state_;
};

struct CpuKernelSource {
  CpuModule module;
  LaunchInfo launch;
};

/// One choice of a plan. `symbol_prefix` makes the symbols of several steps unique.
CpuKernelSource generate_attention(const TileProgram& program, const CpuSchedule& schedule, const CpuTarget& target,
                                   const std::string& symbol_prefix);
CpuKernelSource generate_backward(const BackwardSpec& spec, const CpuSchedule& schedule, const CpuTarget& target,
                                  const std::string& symbol_prefix);
CpuKernelSource generate_loop(const LoopStep& step, const CpuSchedule& schedule, const CpuTarget& target,
                              const std::string& symbol_prefix);

/// Of its LLVM IR.
int64_t instruction_count(CpuModule& module);
/// Keeps one of `shares` shares of a module's functions, about equal in the work of compiling them, and declarations of
/// the others. Modules generated alike and kept to each share link to what one would have been.
void keep_share(CpuModule& module, size_t share, size_t shares);

/// Object code for the target; verifies the module first when `verify` is set (tests always do).
struct ObjectCode {
  std::vector<char> bytes;
  std::string assembly;  ///< filled when asked for
  std::string final_ir;  ///< filled when asked for
  int64_t ir_instructions = 0;
};
struct EmitOptions {
  bool verify = false;
  bool want_text = false;
};
Result<ObjectCode> compile_module(CpuModule module, const CpuTarget& target, const EmitOptions& options);

}  // namespace tilewright
