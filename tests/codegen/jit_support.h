// Builds and links one kernel from a lambda over an LlvmBuilder, module verifier on.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <vector>

#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/llvm_builder.h"
#include "runtime/cpu_detect.h"
#include "runtime/orc_jit.h"

namespace tilewright::testing {

/// Every ISA level this machine runs.
inline std::vector<CpuTarget> runnable_targets() {
  std::vector<CpuTarget> targets;
  CpuTarget target = detect_cpu();
  if (target.isa >= CpuIsa::avx512) targets.push_back(target);
  if (target.isa >= CpuIsa::avx2) {
    target.isa = CpuIsa::avx2;
    target.avx512_bf16 = target.avx512_fp16 = target.amx_bf16 = false;
    targets.push_back(target);
  }
  return targets;
}

class JitKernel {
 public:
  /// `body` emits between begin_kernel and ret. The scratch argument (3) is what run() is given.
  JitKernel(const CpuTarget& target, const std::function<void(cpu::LlvmBuilder&)>& body) {
    CpuModule module = make_cpu_module("kernel");
    cpu::LlvmBuilder b(module.state(), target);
    b.begin_kernel("kernel");
    body(b);
    b.ret();
    auto object = compile_module(std::move(module), target, {.verify = true});
    if (!object) {
      ADD_FAILURE() << to_string(object.error());
      return;
    }
    auto code = JitCode::load(object->bytes);
    if (!code) {
      ADD_FAILURE() << to_string(code.error());
      return;
    }
    code_ = *code;
  }
  void run(int64_t begin, int64_t end, void* scratch) const {
    ASSERT_NE(code_, nullptr);
    code_->find_as<KernelFunction>("kernel")(nullptr, begin, end, scratch);
  }

 private:
  std::shared_ptr<const JitCode> code_;
};

}  // namespace tilewright::testing
