#include <gtest/gtest.h>

#include <thread>

#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/llvm_builder.h"
#include "runtime/cpu_detect.h"
#include "runtime/orc_jit.h"

namespace tilewright {
namespace {

/// scratch[i] = 2 · i for i in [begin, end), as f32.
CpuModule doubling_module(const CpuTarget& target) {
  CpuModule module = make_cpu_module("doubling");
  cpu::LlvmBuilder b(module.state(), target);
  b.begin_kernel("doubling");
  b.loop(b.argument(1), b.argument(2), 1, [&](llvm::Value* i) {
    llvm::Value* value = b.ir.CreateSIToFP(b.mul(i, b.i64(2)), b.ir.getFloatTy());
    b.store(DType::f32, value, b.element_pointer(DType::f32, b.argument(3), i));
  });
  b.ret();
  return module;
}

TEST(CompileModule, ARunningKernelOutlivesEverythingButItsHandle) {
  const CpuTarget target = detect_cpu();
  auto object = compile_module(doubling_module(target), target, {.verify = true, .want_text = true});
  ASSERT_TRUE(object) << to_string(object.error());
  EXPECT_GT(object->ir_instructions, 5);
  EXPECT_NE(object->assembly.find("doubling:"), std::string::npos);
  EXPECT_NE(object->final_ir.find("define void @doubling"), std::string::npos);
  auto code = JitCode::load(object->bytes);
  ASSERT_TRUE(code) << to_string(code.error());
  const auto run = (*code)->find_as<KernelFunction>("doubling");
  ASSERT_NE(run, nullptr);
  EXPECT_EQ((*code)->find("absent"), nullptr);
  std::vector<float> out(10, -1);
  run(nullptr, 2, 9, out.data());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(out[static_cast<size_t>(i)], i >= 2 && i < 9 ? 2.f * i : -1.f);
}

TEST(CompileModule, MalformedModuleIsReported) {
  const CpuTarget target = detect_cpu();
  CpuModule module = make_cpu_module("broken");
  cpu::LlvmBuilder b(module.state(), target);
  b.begin_kernel("broken");  // no terminator
  auto object = compile_module(std::move(module), target, {.verify = true});
  ASSERT_FALSE(object);
  EXPECT_NE(to_string(object.error()).find("broken"), std::string::npos);
}

TEST(CompileModule, UndefinedSymbolIsNamed) {
  const CpuTarget target = detect_cpu();
  CpuModule module = make_cpu_module("calls");
  cpu::LlvmBuilder b(module.state(), target);
  auto outside = b.module().getOrInsertFunction("elsewhere", llvm::FunctionType::get(b.ir.getVoidTy(), false));
  b.begin_kernel("calls");
  b.ir.CreateCall(outside);
  b.ret();
  auto object = compile_module(std::move(module), target, {.verify = true});
  ASSERT_TRUE(object);
  auto code = JitCode::load(object->bytes);
  ASSERT_FALSE(code);
  EXPECT_NE(to_string(code.error()).find("elsewhere"), std::string::npos);
  EXPECT_FALSE(JitCode::load({'n', 'o'}));
}

/// Kernels `first` and `second`: scratch[i] = 2 · i + 1 or + 2 through an internal function that both call.
CpuModule two_kernels(const CpuTarget& target) {
  CpuModule module = make_cpu_module("two");
  cpu::LlvmBuilder b(module.state(), target);
  llvm::Function* doubled = b.begin_internal("doubled", b.i64_type(), {b.i64_type()});
  b.mark_cold();
  b.ir.CreateRet(b.mul(b.argument(0), b.i64(2)));
  for (const auto& [name, more] : {std::pair{"first", 1}, {"second", 2}}) {
    b.begin_kernel(name);
    b.loop(b.argument(1), b.argument(2), 1, [&](llvm::Value* i) {
      llvm::Value* value = b.ir.CreateSIToFP(b.add(b.ir.CreateCall(doubled, {i}), b.i64(more)), b.ir.getFloatTy());
      b.store(DType::f32, value, b.element_pointer(DType::f32, b.argument(3), i));
    });
    b.ret();
  }
  return module;
}

TEST(CompileModule, SharesLinkToTheWhole) {
  const CpuTarget target = detect_cpu();
  for (const size_t shares : {1u, 2u, 3u, 5u}) {
    std::vector<std::vector<char>> objects;
    int64_t instructions = 0;
    for (size_t share = 0; share < shares; ++share) {
      CpuModule module = two_kernels(target);
      keep_share(module, share, shares);
      auto object = compile_module(std::move(module), target, {.verify = true});
      ASSERT_TRUE(object) << to_string(object.error());
      instructions += object->ir_instructions;
      objects.push_back(std::move(object->bytes));
    }
    CpuModule whole = two_kernels(target);
    EXPECT_EQ(instructions, instruction_count(whole));
    const auto code = JitCode::load(objects);
    ASSERT_TRUE(code) << to_string(code.error());
    for (const auto& [name, more] : {std::pair{"first", 1.f}, {"second", 2.f}}) {
      float out[4] = {};
      (*code)->find_as<KernelFunction>(name)(nullptr, 0, 4, out);
      EXPECT_EQ(out[3], 6 + more);
    }
    if (shares == 1) continue;
    objects.erase(objects.begin());  // the largest function, a kernel, is in it
    const auto rest = JitCode::load(objects);
    EXPECT_TRUE(!rest || !(*rest)->find("first") || !(*rest)->find("second"));
  }
}

TEST(CompileModule, ThreadsCompileAndLoadAtOnce) {
  const CpuTarget target = detect_cpu();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) {
        auto object = compile_module(doubling_module(target), target, {});
        auto code = JitCode::load(object->bytes);
        ASSERT_TRUE(code);
        float out[4] = {};
        (*code)->find_as<KernelFunction>("doubling")(nullptr, 0, 4, out);
        EXPECT_EQ(out[3], 6.f);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(CpuDetect, FindsAUsableMachine) {
  const CpuTarget target = detect_cpu();
  EXPECT_GE(target.isa, CpuIsa::avx2);
  EXPECT_GE(target.l1_bytes, 16 << 10);
  EXPECT_GE(target.l2_bytes, target.l1_bytes);
  EXPECT_GE(target.cores, 1);
}

}  // namespace
}  // namespace tilewright
