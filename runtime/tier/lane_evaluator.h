// LaneEvaluator: a LaneProgram with registers to run in.
#pragma once

#include <cstring>

#include "runtime/tier/isa_ops.h"

namespace tilewright::tier {

class LaneEvaluator {
 public:
  /// `registers`: program.bytes(), 64-byte aligned.
  LaneEvaluator(const LaneProgram& program, const IsaOps& ops, std::byte* registers)
      : program_(&program), ops_(&ops), registers_(registers) {}

  /// Once per run.
  void start(const LaneContext& context) const { execute(program_->once, program_->spread_once, context); }
  /// When axes have been set that are not the varying one.
  void row(const LaneContext& context) const { execute(program_->row, program_->spread_row, context); }
  /// At positions first … of the context; root() is valid until the next call.
  void lanes(const LaneContext& context) const { ops_->execute(program_->lanes, context, registers_, kLanes); }

  template <class T>
  const T* root(size_t i = 0) const {
    return reinterpret_cast<const T*>(registers_ + program_->roots[i].reg * kRegisterBytes);
  }
  /// An integer or bool that does not vary: runs `row`.
  int64_t integer(const LaneContext& context) const {
    row(context);
    return root<int64_t>()[0];
  }

 private:
  void execute(const std::vector<Instr>& code, const std::vector<int>& spread, const LaneContext& context) const {
    ops_->execute(code, context, registers_, kEqualLanes);
    // 64 bytes of equal lanes of any type.
    for (const int reg : spread) {
      std::byte* at = registers_ + reg * kRegisterBytes;
      for (int64_t i = 64; i < kRegisterBytes; i += 64) std::memcpy(at + i, at, 64);
    }
  }

  const LaneProgram* program_;
  const IsaOps* ops_;
  std::byte* registers_;
};

}  // namespace tilewright::tier
