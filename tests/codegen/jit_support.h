// Builds and links one kernel from a lambda over an LlvmBuilder, module verifier on.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>

#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/llvm_builder.h"
#include "tests/support/spec_kernel.h"

namespace tilewright::testing {

class JitKernel {
 public:
  /// `body` emits between begin_kernel and ret. The scratch argument (3) is what run() is given.
  JitKernel(const CpuTarget& target, const std::function<void(cpu::LlvmBuilder&)>& body) {
    CpuModule module = make_cpu_module("kernel");
    cpu::LlvmBuilder b(module.state(), target);
    b.begin_kernel("kernel");
    body(b);
    b.ret();
    code_ = link_module(std::move(module), target);
  }
  void run(int64_t begin, int64_t end, void* scratch) const {
    ASSERT_NE(code_, nullptr);
    code_->find_as<KernelFunction>("kernel")(nullptr, begin, end, scratch);
  }

 private:
  std::shared_ptr<const JitCode> code_;
};

}  // namespace tilewright::testing
